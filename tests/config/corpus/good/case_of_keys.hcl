data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
Server = true
NODE_NAME = "A"
Ports {
  HTTP = 8501
}
node_meta {
  Rack = "R"
}

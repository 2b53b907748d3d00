data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "web"
}

service {
  id = "db-1"
}

service {
  port = 3
}

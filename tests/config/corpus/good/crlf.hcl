data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
node_name = "web-1"
node_meta {
  text = <<END
line
END
}

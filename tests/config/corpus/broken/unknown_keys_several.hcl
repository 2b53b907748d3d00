data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
foo = 1

dns_config {
  allow_stale = true
  bar         = 2
}

Ports {
  htpp = 8500
}

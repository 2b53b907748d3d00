data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "web"
  check {
    ttl = "1s"
  }
}

service {
  name = "db"
  check {
    ttl = "2s"
  }
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "web"
  check {
    name = "one"
    ttl = "1s"
  }
  check {
    name = "two"
    ttl = "2s"
  }
  checks {
    name = "three"
    ttl = "3s"
  }
}

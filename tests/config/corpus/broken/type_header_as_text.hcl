data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
check {
  name = "web"
  http = "http://localhost"

  header {
    Accept = "text/html"
  }
}

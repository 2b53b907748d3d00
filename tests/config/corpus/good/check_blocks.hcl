data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
check {
  name = "mem"
  args = ["/usr/bin/mem"]
  interval = "10s"
}

check {
  name = "disk"
  os_service = "disk"
  interval = "5s"
}

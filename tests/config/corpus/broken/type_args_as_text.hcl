data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
check {
  name     = "disk"
  args     = "/usr/bin/check_disk"
  interval = "10s"
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "a"
}

services {
  name = "b"
}

services = [{ name = "c" }, { name = "d" }]

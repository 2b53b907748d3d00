data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
datacentre = "dc1"

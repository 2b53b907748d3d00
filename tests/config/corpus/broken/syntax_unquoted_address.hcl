data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
advertise_addr = 10.0.0.1

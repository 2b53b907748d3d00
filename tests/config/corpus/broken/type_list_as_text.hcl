data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
retry_join = "10.0.0.1"

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
retry_join = []
node_meta {}
dns_config {}
services = []
limits = {}

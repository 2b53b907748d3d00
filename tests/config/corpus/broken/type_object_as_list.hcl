data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
dns_config = [
  { allow_stale = true },
  { only_passing = true },
]

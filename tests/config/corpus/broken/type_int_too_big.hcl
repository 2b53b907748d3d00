data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
raft_trailing_logs = 9223372036854775808

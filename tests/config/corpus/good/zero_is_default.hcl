data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
raft_snapshot_threshold = 0
raft_snapshot_interval = "0s"
raft_trailing_logs = 0
session_ttl_min = "0s"
reconnect_timeout = "0s"

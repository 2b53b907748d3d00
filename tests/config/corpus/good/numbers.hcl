data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
raft_trailing_logs = 0x10
raft_snapshot_threshold = 010
retry_max = 1e2
limits {
  rpc_rate = 1.5e2
  rpc_max_burst = 5.0
}
ports {
  https = -1
}

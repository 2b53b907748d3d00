data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
connect {
  enabled = false
}

acl {
  enabled = false
  default_policy = "allow"
}

disable_remote_exec = true
protocol = 2
disable_update_check = true
snapshot_agent {
  x = 1
}
ports {
  grpc = -1
}

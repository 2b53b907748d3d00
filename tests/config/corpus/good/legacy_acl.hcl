data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
acl_datacenter = "DC2"
acl_token = "old"
acl_agent_token = "agent"
acl_replication_token = "r"
acl_enforce_version_8 = true

acl {
  tokens {
    default = "new"
  }
}

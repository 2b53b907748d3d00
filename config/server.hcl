# A server, one of three. Together they keep the catalog and the key-value store, and go on when one of them is lost.
# Put this file on all three machines as /etc/discovery/server.hcl, with the addresses of all three in retry_join.
# Start each:  discovery agent -config-dir /etc/discovery
# Then ask:    discovery members; discovery operator raft list-peers

datacenter = "dc1"
data_dir   = "/var/lib/discovery"
server     = true

# The servers wait for each other until this many are there, then elect the first leader, once.
bootstrap_expect = 3
retry_join       = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]

# The address for the other agents: the private one of this machine. Write the address itself where there are several.
bind_addr = "{{ GetPrivateIP }}"

# 1 finds a lost leader within about a second, 5 bears slow machines and networks.
performance {
  raft_multiplier = 1
}

# Metrics for Prometheus, under /v1/agent/metrics?format=prometheus.
telemetry {
  prometheus_retention_time = "60s"
}

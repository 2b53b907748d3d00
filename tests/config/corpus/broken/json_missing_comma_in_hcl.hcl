{
  "datacenter": "dc1",
  "dns_config": {
    "allow_stale": true
    "node_ttl": "5s"
  },
  "verify_incoming": true
}

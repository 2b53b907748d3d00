data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
session_ttl_min = "1m30s"
retry_interval = "1.5s"
reconnect_timeout = "72h"
dns_config {
  node_ttl = "0"
  max_stale = "300ms"
  service_ttl {
    "*" = "5s"
    web = "10µs"
  }
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
server = true
bootstrap = true
advertise_addr = "10.0.0.1"
advertise_addr_wan = "1.2.3.4"
serf_wan = "127.0.20.2"
primary_datacenter = "Main"
retry_join_wan = ["1.2.3.5"]
start_join_wan = ["1.2.3.6"]
retry_interval_wan = "10s"
retry_max_wan = 5
reconnect_timeout_wan = "24h"
translate_wan_addrs = true

ports {
  serf_wan = 9302
}

gossip_wan {
  probe_interval = "3s"
  suspicion_mult = 5
}

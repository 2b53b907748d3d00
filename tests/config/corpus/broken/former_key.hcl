data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
statsd_addr = "127.0.0.1:8125"
advertise_addrs {
  serf_lan = "10.0.0.1:8301"
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
autopilot {
  cleanup_dead_servers = false
  last_contact_threshold = "500ms"
  max_trailing_logs = 500
  min_quorum = 3
  server_stabilization_time = "20s"
  redundancy_zone_tag = "zone"
  disable_upgrade_migration = true
  upgrade_version_tag = "version"
}

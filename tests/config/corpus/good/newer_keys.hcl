data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
ui_config {
  enabled = true
  content_path = "/here/"
}

tls {
  defaults {
    ca_file = "/ca.pem"
    verify_outgoing = true
  }
  internal_rpc {
    verify_server_hostname = true
  }
}

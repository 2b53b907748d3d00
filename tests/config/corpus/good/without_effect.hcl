data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
connect {
  enabled = true
}

acl {
  enabled = true
  default_policy = "deny"
}

ports {
  grpc = 8502
}

audit {
  enabled = true
}

license_path = "/l"
watches {
  type = "key"
  key = "a"
  args = ["/bin/true"]
}
service {
  name = "web"
  socket_path = "/s"
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "web"
  port = 80
  connect {
    sidecar_service {
      proxy {
        upstreams {
          destination_name = "db"
          local_bind_port = 5000
          config {
            connect_timeout_ms = 1000
          }
        }
        upstreams {
          destination_name = "cache"
          local_bind_port = 5001
        }
        expose {
          checks = true
          paths = [{ path = "/health", local_path_port = 80, listener_port = 21500, protocol = "http" }]
        }
        mesh_gateway {
          mode = "local"
        }
      }
    }
  }
}

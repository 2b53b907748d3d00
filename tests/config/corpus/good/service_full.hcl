data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  id = "web-1"
  name = "web"
  tags = ["v1", "primary"]
  address = "10.0.0.1"
  port = 80
  meta {
    version = "1.0"
  }
  enable_tag_override = true
  token = "secret"
  weights {
    passing = 5
    warning = 2
  }
  tagged_addresses {
    lan {
      address = "10.0.0.1"
      port = 80
    }
    wan = {
      address = "1.2.3.4"
      port = 8080
    }
  }
  check {
    id = "web-http"
    name = "http"
    notes = "asks"
    http = "http://localhost/health"
    method = "POST"
    body = "{}"
    header {
      Accept = ["text/html", "text/plain"]
    }
    interval = "10s"
    timeout = "1s"
    tls_skip_verify = true
    success_before_passing = 2
    failures_before_critical = 3
    deregister_critical_service_after = "90m"
    status = "passing"
    output_max_size = 100
  }
}

# A web service with an HTTP check: it is handed out only while its check passes.
# Put this file beside client.hcl, on each machine that runs the service, and read it in:  discovery reload
# Look it up by DNS:   dig @127.0.0.1 -p 8600 web.service.consul SRV
# Look it up by HTTP:  curl 'localhost:8500/v1/health/service/web?passing'

service {
  name = "web"
  port = 8080
  tags = ["v1"]

  check {
    name     = "web answers"
    http     = "http://localhost:8080/health"
    interval = "10s"
    timeout  = "2s"

    # An instance that has been failing for this long is removed.
    deregister_critical_service_after = "24h"
  }
}

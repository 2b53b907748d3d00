# One agent to play with: a server alone that keeps nothing on disk and elects itself at once.
# Start it:  discovery agent -dev -config-file config/dev.hcl
# Then:      curl -X PUT -d hello localhost:8500/v1/kv/greeting && curl 'localhost:8500/v1/kv/greeting?raw'
# And:       dig @127.0.0.1 -p 8600 demo.service.consul SRV

node_name = "dev"
log_level = "info"

# A service to look up. It has no check, so it always counts as healthy.
service {
  name = "demo"
  port = 8080
  tags = ["v1"]
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
service {
  name = "web"
  port = 80
}

service {
  name = "db"
  port = 5432
  tags = ["primary"]
}

data_dir = "/var/lib/discovery"
node_name = "café"

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
node_name = "a", server = true,
retry_join = ["a", "b",]
node_meta { x = "1", y = "2", }

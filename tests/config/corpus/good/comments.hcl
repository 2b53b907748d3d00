# one
// two
/* three
   four */
data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
server = true # five
node_name = "a" // six
bootstrap_expect /* seven */ = 3
#

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
node_meta {
  text = "tab\there \"quoted\" back\\slash \u00e9 \x41 \101"
  smile = "\U0001F600"
  half = "\ud800"
}

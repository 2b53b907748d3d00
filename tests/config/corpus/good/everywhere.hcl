data_dir = "/d"
bind_addr = "[::1]"
advertise_addr = "[fd00::1]"
client_addr = "127.0.0.1  ::1"
addresses {
  http = "unix:///run/d.sock 127.0.0.2"
  dns = ""
}
recursors = ["8.8.8.8", "[2001:4860:4860::8888]:53", "8.8.8.8"]
unix_sockets {
  mode = "770"
}

{
  data_dir = "/var/lib/discovery"
}

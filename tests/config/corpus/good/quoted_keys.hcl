"data_dir" = "/d"
"bind_addr" = "127.0.20.1"
"ports" {
  "http" = 8501
}

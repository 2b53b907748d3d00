data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
node_meta {
  plain = <<END
first
  second \n
END
  indented = <<-END
    first
      second
    END
  uneven = <<-END
    first
  second
    END
  empty = <<END
END
  inside = <<END
x END
END
}

data_dir = "/var/lib/discovery"
bind_addr = "127.0.20.1"
check {
  ID = "c"
  Name = "c"
  ServiceID = "web"
  ScriptArgs = ["/bin/true"]
  DockerContainerID = "abc"
  TLSSkipVerify = true
  DeregisterCriticalServiceAfter = "1h"
  Interval = "5s"
}

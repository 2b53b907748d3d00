# A client: the agent on every machine that runs services. It keeps nothing but their definitions and asks the servers.
# Put this file there as /etc/discovery/client.hcl, with the addresses of the servers in retry_join, and services beside it.
# Start it:  discovery agent -config-dir /etc/discovery
# Programs on the machine use localhost: HTTP on port 8500, DNS on port 8600.

datacenter = "dc1"
data_dir   = "/var/lib/discovery"
retry_join = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]

# The address for the other agents: the private one of this machine. Write the address itself where there are several.
bind_addr = "{{ GetPrivateIP }}"

# Let the files in /etc/discovery, and only them, define checks that run programs.
enable_local_script_checks = true

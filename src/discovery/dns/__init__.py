"""The DNS door: names of services, nodes and prepared queries, answered as Consul answers them."""

"""The HTTP door: Consul's HTTP API, spoken on behalf of the agent. It knows the cluster only through `model.delegate`."""

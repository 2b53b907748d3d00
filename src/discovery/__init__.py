"""Service discovery: a catalog, health checks and a KV store, answered over HTTP and DNS."""

__version__ = "0.1.0"

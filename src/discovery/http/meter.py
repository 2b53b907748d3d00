"""What is counted of requests."""

from collections.abc import Mapping
from typing import Final, Protocol

from discovery.telemetry import ClientApi, Counter, Family, Sample

_CATALOG_PATHS: Final = {
    "/v1/catalog/register": "catalog_register",
    "/v1/catalog/deregister": "catalog_deregister",
    "/v1/catalog/datacenters": "catalog_datacenters",
    "/v1/catalog/nodes": "catalog_nodes",
    "/v1/catalog/services": "catalog_services",
    "/v1/catalog/service/": "catalog_service_nodes",
    "/v1/catalog/node/": "catalog_node_services",
}


class Metrics(Protocol):
    """The agent's metrics: where requests are counted, and what `agent/metrics` answers."""

    api_http: Family[Sample]
    """By method and path."""
    client_api: dict[str, ClientApi]
    client_http_exceeded: Counter
    """Connections refused because their client has too many."""

    def as_json(self) -> Mapping[str, object]: ...
    def as_prometheus(self) -> bytes: ...


class Meter:
    """Keeps the series of each route at hand."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: dict[tuple[str, str], Sample] = {}

    def sample(self, method: str, path: str) -> Sample:
        """The durations of `method` on the route `path`."""
        sample = self._samples.get((method, path))
        if sample is None:
            label = path[1:].replace("/", "_")
            sample = self._samples[method, path] = self._metrics.api_http.of(method, label)
        return sample

    def count_catalog(self, path: str, status: int) -> None:
        """Consul's own counters of its catalog endpoints; other routes have none."""
        name = _CATALOG_PATHS.get(path)
        if name is None:
            return
        api = self._metrics.client_api[name]
        api.requests.inc()
        (api.failed if status >= 500 else api.succeeded).inc()

"""What makes a service of the mesh (a proxy, a gateway) acceptable, to agents and to servers alike.

Source: Consul's documentation of proxies and gateways; order and texts as observed from 1.8.7.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from .records import Connect, ExposePath, Proxy, Upstream, Weights

CONNECT_PROXY: Final = "connect-proxy"
INGRESS_GATEWAY: Final = "ingress-gateway"
TERMINATING_GATEWAY: Final = "terminating-gateway"
GATEWAYS: Final = ("mesh-gateway", TERMINATING_GATEWAY, INGRESS_GATEWAY, "api-gateway")

_PROTOCOLS: Final = ("http", "http2")
_DESTINATION_TYPES: Final = ("", "service", "prepared_query")
_MAX_PORT: Final = 65535
_MAX_WEIGHT: Final = 65535


def several_errors(problems: Sequence[str]) -> str:
    """The list form that Consul gives to errors found together."""
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return f"{count} occurred:\n" + "".join(f"\t* {problem}\n" for problem in problems) + "\n"


def weights_problem(weights: Weights) -> str:
    """Why these cannot be the weights of SRV records; empty if they can."""
    if weights.passing < 1:
        return "Passing must be greater than 0"
    if weights.warning < 0:
        return "Warning must be greater or equal than 0"
    if max(weights.passing, weights.warning) > _MAX_WEIGHT:
        return f"DNS Weight must be between 0 and {_MAX_WEIGHT}"
    return ""


def mesh_problems(kind: str, port: int, proxy: Proxy, connect: Connect) -> Iterator[str]:
    """What is wrong with a service of this kind; nothing for a plain one."""
    if kind == CONNECT_PROXY:
        yield from _proxy_problems(port, proxy, connect)
    elif kind in GATEWAYS:
        yield from _gateway_problems(kind, port, proxy, connect)


def _proxy_problems(port: int, proxy: Proxy, connect: Connect) -> Iterator[str]:
    if not proxy.destination_service_name.strip():
        yield "Proxy.DestinationServiceName must be non-empty for Connect proxy services"
    if port == 0:
        yield "Port must be set for a Connect proxy"
    if connect.native:
        yield "A Proxy cannot also be Connect Native, only typical services"
    yield from _upstream_problems(proxy.upstreams or ())
    yield from _path_problems(proxy.expose.paths or ())


def _upstream_problems(upstreams: Sequence[Upstream]) -> Iterator[str]:
    keys, listeners = set(), set()
    for upstream in upstreams:
        if problem := _upstream_problem(upstream):
            yield problem
            continue
        key = (
            f'[type="{upstream.destination_type}", name="{upstream.destination_name}", '
            f'namespace="{upstream.destination_namespace}", datacenter="{upstream.datacenter}"]'
        )
        address = upstream.local_bind_address or "127.0.0.1"
        listener = f"[{address}]:{upstream.local_bind_port}" if ":" in address else f"{address}:{upstream.local_bind_port}"
        if key in keys:
            yield f"upstreams cannot contain duplicates of {key}"
        elif listener in listeners:
            yield f'upstreams cannot contain duplicates by local bind address and port; "{listener}" is specified twice'
        keys.add(key)
        listeners.add(listener)


def _upstream_problem(upstream: Upstream) -> str:
    if upstream.destination_type not in _DESTINATION_TYPES:
        return f'unknown upstream destination type: "{upstream.destination_type}"'
    if not upstream.destination_name:
        return "upstream destination name cannot be empty"
    return "" if upstream.local_bind_port else "upstream local bind port cannot be zero"


def _path_problems(paths: Sequence[ExposePath]) -> Iterator[str]:
    known, listeners = set(), set()
    for path in paths:
        if not path.path:
            yield "expose.paths: empty path exposed"
        if path.path in known:
            yield "expose.paths: duplicate paths exposed"
        if path.listener_port in listeners:
            yield "expose.paths: duplicate listener ports exposed"
        known.add(path.path)
        listeners.add(path.listener_port)
        if not 0 < path.listener_port <= _MAX_PORT:
            yield f"expose.paths: invalid listener port: {path.listener_port}"
        protocol = path.protocol.lower()
        if protocol and protocol not in _PROTOCOLS:
            yield f"protocol '{protocol}' not supported for path: {path.path}, must be in: [{' '.join(_PROTOCOLS)}]"


def _gateway_problems(kind: str, port: int, proxy: Proxy, connect: Connect) -> Iterator[str]:
    if port == 0 and kind != INGRESS_GATEWAY:
        yield f"Port must be non-zero for a {kind}"
    if connect.sidecar_service is not None:
        yield f"A {kind} cannot have a sidecar service defined"
    settings = {
        "DestinationServiceName": proxy.destination_service_name,
        "DestinationServiceID": proxy.destination_service_id,
        "LocalServiceAddress": proxy.local_service_address,
        "LocalServicePort": proxy.local_service_port,
        "Upstreams": proxy.upstreams,
    }
    for name, given in settings.items():
        if given:
            yield f"The Proxy.{name} configuration is invalid for a {kind}"

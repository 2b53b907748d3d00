"""What this agent holds: a service or a check together with how it came here."""

from typing import Protocol

import msgspec

from discovery.model.agent import AgentProxy, AgentService
from discovery.model.definitions import CheckSpec
from discovery.model.records import HealthCheck, NodeService, Proxy
from discovery.model.service_rules import CONNECT_PROXY, GATEWAYS


class Runner(Protocol):
    """What keeps a check's status up to date."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class ServiceEntry(msgspec.Struct, frozen=True):
    """A service of this agent. `token` is used to sync it; `sidecar`: made from its parent's `sidecar_service`."""

    service: NodeService
    token: str
    source: str
    sidecar: bool = False


class CheckEntry(msgspec.Struct):
    """A check of this agent. `spec` is None for maintenance modes, which nothing runs.

    `critical_since` is a time of the loop's clock, None unless the status is critical.
    """

    check: HealthCheck
    spec: CheckSpec | None
    token: str
    source: str
    runner: Runner | None = None
    critical_since: float | None = None


class Change(msgspec.Struct, frozen=True):
    """Something is different from before; `check_id` is set if it is just that check's result."""

    check_id: str = ""
    output_only: bool = False


def shown(service: NodeService) -> AgentService:
    """The service as agent endpoints show it, without content hash."""
    is_proxy = service.kind == CONNECT_PROXY or service.kind in GATEWAYS
    return AgentService(
        kind=service.kind,
        id=service.id,
        service=service.service,
        tags=service.tags,
        meta=service.meta or {},
        port=service.port,
        address=service.address,
        tagged_addresses=service.tagged_addresses,
        weights=service.weights or AgentService().weights,
        enable_tag_override=service.enable_tag_override,
        proxy=_shown_proxy(service.proxy) if is_proxy else None,
        connect=service.connect if service.connect.native else None,
    )


def _shown_proxy(proxy: Proxy) -> AgentProxy:
    upstreams = [msgspec.structs.replace(upstream, config=upstream.config or None) for upstream in proxy.upstreams or ()]
    return msgspec.convert(msgspec.structs.replace(proxy, upstreams=upstreams or None), AgentProxy, from_attributes=True)

"""`/v1/internal/ui/`: what Consul's web interface asks for. Not a public API, and yet spoken by others."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from discovery.model.naming import always, nothing
from discovery.model.records import CRITICAL, PASSING, WARNING, CheckServiceNode, Record
from discovery.model.requests import (
    DCSpecificRequest,
    IndexedCheckServiceNodes,
    IndexedNodeDump,
    NodeInfo,
    NodeSpecificRequest,
    ServiceDumpRequest,
)

from .call import Call
from .encoding import Reply
from .filter import apply_filter
from .gateways import INGRESS, GatewayService, services_of
from .nulls import bare_check, bare_service
from .operation import READ, describes

_EXTERNAL_SOURCE: Final = "external-source"


class GatewayConfig(Record, frozen=True, kw_only=True):
    """Where a service is reached from outside the mesh."""

    addresses: list[str] | None = None


class ServiceSummary(Record, frozen=True, kw_only=True):
    kind: str = ""
    name: str = always(str)
    tags: list[str] | None = always(nothing)
    nodes: list[str] | None = always(nothing)
    instance_count: int = always(int)
    proxy_for: list[str] | None = None
    checks_passing: int = always(int)
    checks_warning: int = always(int)
    checks_critical: int = always(int)
    external_sources: list[str] | None = always(nothing)
    gateway_config: GatewayConfig = always(GatewayConfig)


@describes("Lists nodes with all that is on them.", params=(*READ, "filter"), reply=list[NodeInfo])
async def nodes(call: Call) -> Reply:
    reply: IndexedNodeDump
    reply, terms = await call.ask_read("Internal.NodeDump", DCSpecificRequest(**call.read()))
    found = [_shown(entry) for entry in apply_filter(call.params.get("filter"), NodeInfo, reply.dump)]
    return call.read_reply(found, reply, terms=terms)


@describes("Reads a node with all that is on it.", rest="{node}", params=READ, reply=NodeInfo)
async def node(call: Call) -> Reply:
    request = NodeSpecificRequest(node=call.need("Missing node name"), **call.read())
    reply: IndexedNodeDump
    reply, terms = await call.ask_read("Internal.NodeInfo", request)
    if not reply.dump:
        return call.not_found(reply, terms)
    return call.read_reply(_shown(reply.dump[0]), reply, terms=terms)


def _shown(entry: NodeInfo) -> NodeInfo:
    services = [bare_service(service) for service in entry.services or ()]
    return replace(entry, services=services, checks=[bare_check(check) for check in entry.checks or ()])


@describes("Lists services in short.", params=(*READ, "filter"), reply=list[ServiceSummary])
async def services(call: Call) -> Reply:
    reply: IndexedCheckServiceNodes
    reply, terms = await call.ask_read("Internal.ServiceDump", ServiceDumpRequest(**call.read()))
    found = apply_filter(call.params.get("filter"), CheckServiceNode, reply.nodes)
    return call.read_reply(summaries(found), reply, terms=terms)


@describes("Lists the services behind a gateway in short.", rest="{gateway}", params=READ, reply=list[ServiceSummary])
async def gateway_services_nodes(call: Call) -> Reply:
    """The services behind a gateway, each with its instances and where the gateway listens for it."""
    found, meta = await services_of(call, call.need("Missing gateway name"))
    reply: IndexedCheckServiceNodes = await call.ask("Internal.ServiceDump", ServiceDumpRequest(**call.scope()))
    known = {summary.name: summary for summary in summaries(reply.nodes)}
    answer = [
        replace(
            known.get(service.service.name, ServiceSummary(name=service.service.name)),
            gateway_config=GatewayConfig(addresses=_addresses(call, service)),
        )
        for service in found or ()
    ]
    return call.read_reply(answer, meta)


def _addresses(call: Call, service: GatewayService) -> list[str] | None:
    if service.gateway_kind != INGRESS:
        return None
    hosts = service.hosts or [f"{service.service.name}.ingress.{call.datacenter}.{call.api.options.dns_domain.rstrip('.')}."]
    return [f"{host}:{service.port}" for host in hosts]


def summaries(instances: Iterable[CheckServiceNode]) -> list[ServiceSummary]:
    """One entry a service name, in the order of the names."""
    by_name: dict[str, list[CheckServiceNode]] = {}
    for instance in instances:
        by_name.setdefault(instance.service.service, []).append(instance)
    return [_summary(name, by_name[name]) for name in sorted(by_name)]


def _summary(name: str, instances: list[CheckServiceNode]) -> ServiceSummary:
    statuses = [check.status for instance in instances for check in instance.checks]
    destinations = {instance.service.proxy.destination_service_name for instance in instances} - {""}
    sources = {(instance.service.meta or {}).get(_EXTERNAL_SOURCE, "") for instance in instances} - {""}
    return ServiceSummary(
        kind=instances[-1].service.kind,
        name=name,
        tags=sorted({tag for instance in instances for tag in instance.service.tags}) or None,
        nodes=[instance.node.node for instance in instances],
        instance_count=len(instances),
        proxy_for=sorted(destinations) or None,
        checks_passing=statuses.count(PASSING),
        checks_warning=statuses.count(WARNING),
        checks_critical=statuses.count(CRITICAL),
        external_sources=sorted(sources) or None,
    )

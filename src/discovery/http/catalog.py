"""`/v1/catalog/`: nodes and services, and registering them from outside."""

from typing import Final

import msgspec

from discovery.model.records import CheckDefinition, Node, NodeService, ServiceNode, service_node
from discovery.model.requests import (
    DCSpecificRequest,
    DeregisterRequest,
    IndexedCheckServiceNodes,
    IndexedNodes,
    IndexedNodeServiceList,
    IndexedNodeServices,
    IndexedServiceNodes,
    NodeServiceList,
    NodeServices,
    NodeSpecificRequest,
    QueryOptions,
    RegisterRequest,
    ServiceDumpRequest,
    ServiceSpecificRequest,
)

from .call import Call
from .decoding import PROXY_RULES, Decoder, Rules
from .encoding import Reply
from .filter import apply_filter
from .gateways import GatewayService, services_of
from .near import nearest_first
from .operation import COMMON, CONSISTENCY, INSTANCES, READ, describes
from .params import key_value_pairs
from .reads import read_cached

_register_body: Final = Decoder(RegisterRequest, {CheckDefinition: Rules(ignore_unknown=True), **PROXY_RULES})
"""What a check does may say more than the catalog keeps."""


class DeregisterBody(DeregisterRequest, frozen=True, kw_only=True):
    """`Address` is accepted and not used."""

    address: str = ""


_deregister_body: Final = Decoder(DeregisterBody)


@describes("Registers a node, a service and checks.", params=COMMON, body=RegisterRequest, reply=bool)
async def register(call: Call) -> Reply:
    body = await call.decode(_register_body)
    request = msgspec.structs.replace(
        body, datacenter=body.datacenter or call.api.agent.datacenter, token=call.token or body.token, node=body.node
    )
    await call.ask("Catalog.Register", request)
    return call.boolean(True)


@describes("Removes a node, a service or a check.", params=COMMON, body=DeregisterBody, reply=bool)
async def deregister(call: Call) -> Reply:
    body = await call.decode(_deregister_body)
    request = DeregisterRequest(
        datacenter=body.datacenter or call.api.agent.datacenter,
        token=call.token or body.token,
        node=body.node,
        service_id=body.service_id,
        check_id=body.check_id,
    )
    await call.ask("Catalog.Deregister", request)
    return call.boolean(True)


@describes("Lists the datacenters, the nearest first.", params=(*COMMON, *CONSISTENCY, "cached"), reply=list[str])
async def datacenters(call: Call) -> Reply:
    """Those that this datacenter knows, whichever `?dc` names."""
    request = QueryOptions(**call.consistency())
    if request.use_cache:
        cached = await call.api.cache.simple("Catalog.ListDatacenters", request)
        return call.json(cached.reply, extra=cached.headers())
    return call.json(await call.ask("Catalog.ListDatacenters", request))


@describes("Lists nodes.", params=(*READ, "filter", "near", "node-meta"), reply=list[Node])
async def nodes(call: Call) -> Reply:
    reply: IndexedNodes
    reply, terms = await call.ask_read("Catalog.ListNodes", _whole_datacenter(call))
    items = apply_filter(call.params.get("filter"), Node, reply.nodes)
    items = await nearest_first(call, items, lambda node: node.node)
    return await call.list_reply(items, reply, consistency=True, terms=terms)


@describes(
    "Lists the names of services with the tags of their instances.",
    params=(*READ, "cached", "node-meta", "filter"),
    reply=dict[str, list[str]],
)
async def services(call: Call) -> Reply:
    if call.params.get("filter"):
        return await _services_of_some(call)
    answer = await read_cached(call, "Catalog.ListServices", _whole_datacenter(call))
    return await answer.render(answer.reply.services)


async def _services_of_some(call: Call) -> Reply:
    """The names and tags of those instances that a filter lets through."""
    answer = await read_cached(call, "Internal.ServiceDump", ServiceDumpRequest(**call.read()))
    reply: IndexedCheckServiceNodes = answer.reply
    meta = key_value_pairs(call.params.all("node-meta")) or {}
    instances = [
        service_node(item.node, item.service)
        for item in reply.nodes
        if all((item.node.meta or {}).get(key) == value for key, value in meta.items())
    ]
    tags: dict[str, dict[str, None]] = {}
    for instance in apply_filter(call.params.get("filter"), ServiceNode, instances):
        tags.setdefault(instance.service_name, {}).update(dict.fromkeys(instance.service_tags))
    return await answer.render({name: list(found) for name, found in tags.items()})


@describes("Lists the instances of a service.", rest="{service}", params=INSTANCES, reply=list[ServiceNode])
async def service(call: Call) -> Reply:
    return await _instances(call, connect=False)


@describes("Lists what the mesh reaches a service by.", rest="{service}", params=INSTANCES, reply=list[ServiceNode])
async def connect(call: Call) -> Reply:
    return await _instances(call, connect=True)


async def _instances(call: Call, *, connect: bool) -> Reply:
    answer = await read_cached(call, "Catalog.ServiceNodes", service_request(call, connect=connect))
    reply: IndexedServiceNodes = answer.reply
    items = apply_filter(call.params.get("filter"), ServiceNode, reply.service_nodes)
    return await answer.render(await nearest_first(call, items, lambda instance: instance.node))


@describes("Reads a node with its services by id.", rest="{node}", params=(*READ, "filter"), reply=NodeServices | None)
async def node(call: Call) -> Reply:
    request = NodeSpecificRequest(node=call.need("Missing node name"), **call.read())
    reply: IndexedNodeServices
    reply, terms = await call.ask_read("Catalog.NodeServices", request)
    found = reply.node_services
    expression = call.params.get("filter")
    if expression:
        kept = apply_filter(expression, NodeService, list(((found and found.services) or {}).values()))
    if expression and found is not None:
        found = NodeServices(node=found.node, services={instance.id: instance for instance in kept})
    return call.read_reply(found, reply, consistency=True, terms=terms)


@describes("Reads a node with its services as a list.", rest="{node}", params=(*READ, "filter"), reply=NodeServiceList)
async def node_services(call: Call) -> Reply:
    request = NodeSpecificRequest(node=call.need("Missing node name"), **call.read())
    reply: IndexedNodeServiceList
    reply, terms = await call.ask_read("Catalog.NodeServiceList", request)
    found = reply.node_services
    kept = apply_filter(call.params.get("filter"), NodeService, found.services or ())
    if found.services is not None:
        found = msgspec.structs.replace(found, services=kept)
    return call.read_reply(found, reply, consistency=True, terms=terms)


@describes("Lists the services behind a gateway.", rest="{gateway}", params=READ, reply=list[GatewayService] | None)
async def gateway_services(call: Call) -> Reply:
    found, meta = await services_of(call, call.need("Missing gateway name"))
    return call.read_reply(found, meta, consistency=True)


def _whole_datacenter(call: Call) -> DCSpecificRequest:
    filters = key_value_pairs(call.params.all("node-meta"))
    return DCSpecificRequest(source=call.source(), node_meta_filters=filters, **call.read())


def service_request(call: Call, *, connect: bool = False, ingress: bool = False) -> ServiceSpecificRequest:
    """What catalog and health ask about a service."""
    tags = call.params.all("tag")
    return ServiceSpecificRequest(
        service_name=call.need("Missing service name"),
        service_tag=tags[0] if tags else "",
        service_tags=tags or None,
        tag_filter=bool(tags),
        connect=connect,
        ingress=ingress,
        source=call.source(),
        node_meta_filters=key_value_pairs(call.params.all("node-meta")),
        **call.read(),
    )

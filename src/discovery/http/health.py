"""`/v1/health/`: checks, and services together with their checks."""

from discovery.model.errors import InvalidRequest
from discovery.model.records import PASSING, CheckServiceNode, HealthCheck
from discovery.model.requests import (
    ChecksInStateRequest,
    IndexedCheckServiceNodes,
    IndexedHealthChecks,
    NodeSpecificRequest,
    QueryOptions,
    ServiceDumpRequest,
)

from .call import Call
from .catalog import service_request
from .encoding import Reply
from .errors import bad_request
from .filter import apply_filter
from .filter_syntax import FilterError
from .near import nearest_first
from .operation import CHECKS, INSTANCES, READ, describes
from .params import key_value_pairs, parse_bool
from .reads import read_cached


@describes("Lists the checks of a node.", rest="{node}", params=(*READ, "filter"), reply=list[HealthCheck])
async def node(call: Call) -> Reply:
    request = NodeSpecificRequest(node=call.need("Missing node name"), **call.read())
    return await _checks(call, "Health.NodeChecks", request)


@describes("Lists the checks of a service.", rest="{service}", params=CHECKS, reply=list[HealthCheck])
async def checks(call: Call) -> Reply:
    return await _checks(call, "Health.ServiceChecks", service_request(call))


@describes("Lists the checks in a state.", rest="{state}", params=CHECKS, reply=list[HealthCheck])
async def state(call: Call) -> Reply:
    request = ChecksInStateRequest(
        state=call.need("Missing check state"),
        source=call.source(),
        node_meta_filters=key_value_pairs(call.params.all("node-meta")),
        **call.read(),
    )
    return await _checks(call, "Health.ChecksInState", request)


async def _checks(call: Call, method: str, request: QueryOptions) -> Reply:
    reply: IndexedHealthChecks
    reply, terms = await call.ask_read(method, request)
    items = apply_filter(call.params.get("filter"), HealthCheck, reply.health_checks)
    items = await nearest_first(call, items, lambda check: check.node)
    return await call.list_reply(items, reply, consistency=True, terms=terms)


@describes(
    "Lists the instances of a service with their checks.",
    rest="{service}",
    params=(*INSTANCES, "passing"),
    reply=list[CheckServiceNode],
)
async def service(call: Call) -> Reply:
    return await _instances(call)


@describes(
    "Lists what the mesh reaches a service by, with checks.",
    rest="{service}",
    params=(*INSTANCES, "passing"),
    reply=list[CheckServiceNode],
)
async def connect(call: Call) -> Reply:
    return await _instances(call, connect=True)


@describes(
    "Lists the gateways that expose a service, with checks.",
    rest="{service}",
    params=(*INSTANCES, "passing"),
    reply=list[CheckServiceNode],
)
async def ingress(call: Call) -> Reply:
    return await _instances(call, ingress=True)


async def _instances(call: Call, *, connect: bool = False, ingress: bool = False) -> Reply:
    request = service_request(call, connect=connect, ingress=ingress)
    only_passing = _wants_passing(call)
    answer = await read_cached(call, "Health.ServiceNodes", request)
    reply: IndexedCheckServiceNodes = answer.reply
    items = apply_filter(call.params.get("filter"), CheckServiceNode, reply.nodes)
    if only_passing:
        items = [item for item in items if all(check.status == PASSING for check in item.checks)]
    return await answer.render(await nearest_first(call, items, lambda item: item.node.node))


@describes(
    "Lists all services with their instances and checks.", params=(*INSTANCES, "passing"), reply=dict[str, list[CheckServiceNode]]
)
async def services(call: Call) -> Reply:
    """All services with their instances by name, in one answer. Ours, not Consul's."""
    filters = key_value_pairs(call.params.all("node-meta"))
    tags = call.params.all("tag")
    only_passing = _wants_passing(call)
    answer = await read_cached(call, "Internal.ServiceDump", ServiceDumpRequest(**call.read()))
    reply: IndexedCheckServiceNodes = answer.reply
    try:
        items = apply_filter(call.params.get("filter"), CheckServiceNode, reply.nodes)
    except FilterError as error:
        raise bad_request(str(error)) from None
    wanted = [item for item in items if _is_wanted(item, only_passing, tags, filters or {})]
    by_name: dict[str, list[CheckServiceNode]] = {}
    for item in await nearest_first(call, wanted, lambda item: item.node.node):
        by_name.setdefault(item.service.service, []).append(item)
    return await answer.render(by_name)


def _is_wanted(item: CheckServiceNode, only_passing: bool, tags: list[str], node_meta: dict[str, str]) -> bool:
    if only_passing and any(check.status != PASSING for check in item.checks):
        return False
    present = {tag.lower() for tag in item.service.tags} if tags else set()
    meta = item.node.meta or {}
    return all(tag.lower() in present for tag in tags) and all(meta.get(key) == value for key, value in node_meta.items())


def _wants_passing(call: Call) -> bool:
    """`?passing` alone means yes; otherwise its value counts."""
    if "passing" not in call.params:
        return False
    text = call.params.get("passing")
    try:
        return parse_bool(text) if text else True
    except ValueError:
        raise InvalidRequest("Invalid value for ?passing") from None

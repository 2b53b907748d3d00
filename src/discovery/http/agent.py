"""`/v1/agent/`: the answering agent itself, its services and checks."""

import asyncio
import logging
import os
import platform
import time
from typing import Any, Final

import msgspec
from aiohttp.web import StreamResponse

from discovery import __version__
from discovery.model.agent import AgentService, MemberInfo
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.errors import InvalidRequest, NotFound, RequestFailed
from discovery.model.naming import always
from discovery.model.records import CRITICAL, PASSING, WARNING, Coordinate, HealthCheck, Record
from discovery.telemetry import parse_level

from .call import DONE, Call
from .decoding import PROXY_RULES, Decoder, Rules
from .encoding import Reply, header
from .errors import bad_request, text_reply
from .filter import apply_filter
from .filter_syntax import parse
from .operation import describes
from .params import blocking_options, parse_bool, parse_wait

_CHECK_SNAKE_CASE: Final = (
    "script_args", "deregister_critical_service_after", "docker_container_id", "tls_skip_verify", "service_id",
)  # fmt: skip
_service_body: Final = Decoder(
    ServiceSpec,
    {
        ServiceSpec: Rules(snake_case=("enable_tag_override", "tagged_addresses")),
        CheckSpec: Rules(snake_case=_CHECK_SNAKE_CASE, hidden=("id",)),
        **PROXY_RULES,
    },
)
_check_body: Final = Decoder(CheckSpec, {CheckSpec: Rules(snake_case=_CHECK_SNAKE_CASE, hidden=("check_id",))})

_ALL_SEGMENTS: Final = "_all"
_STATUSES: Final = (PASSING, WARNING, CRITICAL)
_PROMETHEUS_TYPE: Final = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


class CheckUpdate(Record, frozen=True, kw_only=True):
    status: str = always(str)
    output: str = always(str)


_update_body: Final = Decoder(CheckUpdate)


class AgentSelf(msgspec.Struct, frozen=True, kw_only=True):
    """`agent/self`, in Consul's order."""

    config: dict[str, object] = msgspec.field(name="Config")
    debug_config: dict[str, object] = msgspec.field(name="DebugConfig")
    coord: Coordinate = msgspec.field(name="Coord")
    member: MemberInfo = msgspec.field(name="Member")
    stats: dict[str, dict[str, str]] = msgspec.field(name="Stats")
    meta: dict[str, str] = msgspec.field(name="Meta")
    xds: dict[str, object] = msgspec.field(name="xDS")


# --- the agent -----------------------------------------------------------------------------------------------------


@describes("Reads the configuration and state of the agent.", params=("pretty",), reply=AgentSelf)
async def self_(call: Call) -> Reply:
    agent = call.api.agent
    answer = AgentSelf(
        config=dict(agent.self_config()),
        debug_config=dict(agent.debug_config()),
        coord=agent.coordinate(),
        member=agent.local_member(),
        stats={name: dict(section) for name, section in agent.stats().items()},
        meta=dict(agent.node_meta()),
        xds={"SupportedProxies": {"envoy": []}},
    )
    return call.json(answer)


@describes("Reads the version of the agent.", params=("pretty",), reply=dict[str, str])
async def version(call: Call) -> Reply:
    return call.json({"SHA": "", "BuildDate": "", "HumanVersion": __version__, "FIPS": ""})


@describes("Reads what the agent runs on.", params=("pretty",), reply=dict[str, Any])
async def host(call: Call) -> Reply:
    """What the standard library tells about this machine."""
    return call.json(
        {
            "Memory": _memory(),
            "CPU": [{"cpu": number} for number in range(os.cpu_count() or 0)],
            "Host": {
                "hostname": platform.node(),
                "os": platform.system().lower(),
                "platformVersion": platform.release(),
                "kernelArch": platform.machine(),
            },
            "Disk": _disk(),
            "CollectionTime": time.time_ns(),
            "Errors": None,
        }
    )


def _memory() -> dict[str, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    return {"total": total, "available": free, "free": free, "used": total - free}


def _disk() -> dict[str, object]:
    usage = os.statvfs("/")
    total, free = usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize
    return {"path": "/", "total": total, "free": free, "used": total - free}


@describes("Reads the metrics of the agent.", params=("pretty", "format"), reply=dict[str, Any])
async def metrics(call: Call) -> Reply:
    accept = call.request.headers.get("Accept", "")
    wanted = "version=0.0.4" in accept or "application/openmetrics-text" in accept
    if call.params.get("format") != "prometheus" and not wanted:
        return call.json(call.api.metrics.as_json())
    if not call.api.options.prometheus:
        return text_reply(415, "Prometheus is not enabled since its retention time is not positive")
    return Reply(200, call.api.metrics.as_prometheus(), _PROMETHEUS_TYPE)


@describes("Follows the log of the agent.", params=("loglevel", "logjson"), reply="text/plain")
async def monitor(call: Call) -> StreamResponse:
    """Log lines until the client goes away."""
    level = call.params.get("loglevel") or "info"
    try:
        name = logging.getLevelName(parse_level(level))
    except ValueError:
        raise bad_request(f"Unknown log level: {level}") from None
    response = await call.stream("", {})
    async for line in call.api.agent.log_lines(name, as_json="logjson" in call.params):
        await response.write(line.rstrip("\n").encode("utf-8", "replace") + b"\n")
    return response


@describes("Lists the members of the gossip pool.", params=("pretty", "wan", "segment"), reply=list[MemberInfo] | None)
async def members(call: Call) -> Reply:
    segment, wan = call.params.get("segment"), bool(call.params.get("wan"))
    if segment not in ("", _ALL_SEGMENTS):
        if wan:
            raise InvalidRequest("Cannot provide a segment with wan=true")
        raise RequestFailed("Network segments are not supported in this version of Consul")
    return call.json(call.api.agent.members(wan=wan))


@describes("Joins the pool of another agent.", rest="{address}", params=("wan",))
async def join(call: Call) -> Reply:
    await call.api.agent.join(call.rest, wan=bool(call.params.get("wan")))
    return DONE


@describes("Leaves the pool and ends the agent.")
async def leave(call: Call) -> Reply:
    await call.api.agent.leave()
    return DONE


@describes("Makes a member that failed one that left.", rest="{node}", params=("prune",))
async def force_leave(call: Call) -> Reply:
    await call.api.agent.force_leave(call.rest, prune="prune" in call.params)
    return DONE


@describes("Reads the configuration again.")
async def reload(call: Call) -> Reply:
    await call.api.agent.reload()
    return DONE


@describes("Takes the agent's node out of service, or back in.", params=("enable", "reason"))
async def node_maintenance(call: Call) -> Reply:
    call.api.services.node_maintenance(_enable(call), call.params.get("reason"))
    return DONE


def _enable(call: Call) -> bool:
    if "enable" not in call.params:
        raise InvalidRequest("Missing value for enable")
    text = call.params.get("enable")
    try:
        return parse_bool(text)
    except ValueError:
        raise InvalidRequest(f'Invalid value for enable: "{text}"') from None


# --- services ------------------------------------------------------------------------------------------------------


@describes("Lists the services of the agent.", params=("pretty", "filter"), reply=dict[str, AgentService])
async def services(call: Call) -> Reply:
    found = dict(call.api.services.services())
    return call.json(_filtered(call, AgentService, found))


def _filtered(call: Call, kind: type, items: dict[str, Any]) -> dict[str, Any]:
    expression = call.params.get("filter")
    if not expression:
        return items
    kept = apply_filter(expression, kind, list(items.values()))
    return {key: item for key, item in items.items() if item in kept}


@describes(
    "Reads a service of the agent; waits for another hash.",
    rest="{service}",
    params=("pretty", "hash", "wait"),
    reply=AgentService,
)
async def service(call: Call) -> Reply:
    blocking_options(call.params)
    found = _service(call)
    known = call.params.get("hash")
    if known and found.content_hash == known:
        found = await _changed_service(call, known)
    return call.json(found, extra=header("X-Consul-Contenthash", found.content_hash))


def _service(call: Call) -> AgentService:
    found = call.api.services.service(call.rest)
    if found is None:
        raise NotFound(f"unknown service ID: {call.rest}")
    return found


async def _changed_service(call: Call, known: str) -> AgentService:
    """The service once its hash is another, or as it is when the wait is over."""
    try:
        async with asyncio.timeout(wait_seconds(call)):
            while (found := _service(call)).content_hash == known:
                await call.api.services.changed(call.rest)
    except TimeoutError:
        pass
    return _service(call) if found.content_hash == known else found


def wait_seconds(call: Call) -> float:
    text = call.params.get("wait")
    return call.api.options.wait_seconds(parse_wait(text) if text else 0)


@describes("Registers a service with the agent.", params=("token", "replace-existing-checks"), body=ServiceSpec)
async def register_service(call: Call) -> Reply:
    spec = await call.decode(_service_body)
    if not spec.name:
        raise InvalidRequest("Missing service name")
    replace = call.params.get("replace-existing-checks") in ("", "true") and "replace-existing-checks" in call.params
    token = spec.token or call.token
    if token != spec.token:
        spec = msgspec.structs.replace(spec, token=token)
    call.api.services.add_service(spec, replace_existing_checks=replace)
    return DONE


@describes("Removes a service from the agent.", rest="{service}")
async def deregister_service(call: Call) -> Reply:
    if not call.rest:
        raise RequestFailed("ServiceID missing")
    call.api.services.remove_service(call.rest)
    return DONE


@describes("Takes a service out of service, or back in.", rest="{service}", params=("enable", "reason"))
async def service_maintenance(call: Call) -> Reply:
    service_id = call.need("Missing service ID")
    enable = _enable(call)
    call.api.services.service_maintenance(service_id, enable, call.params.get("reason"))
    return DONE


# --- checks --------------------------------------------------------------------------------------------------------


@describes("Lists the checks of the agent.", params=("pretty", "filter"), reply=dict[str, HealthCheck])
async def checks(call: Call) -> Reply:
    """Without any check a filter's syntax counts, but not what it selects."""
    found = dict(call.api.services.checks())
    expression = call.params.get("filter")
    if expression and not found:
        parse(expression)
    return call.json(_filtered(call, HealthCheck, found) if found else found)


@describes("Registers a check with the agent.", params=("token",), body=CheckSpec)
async def register_check(call: Call) -> Reply:
    spec = await call.decode(_check_body)
    if not spec.name:
        raise InvalidRequest("Missing check name")
    if spec.status and spec.status not in _STATUSES:
        raise InvalidRequest("Bad check status")
    if not spec.token and call.token:
        spec = msgspec.structs.replace(spec, token=call.token)
    call.api.services.add_check(spec)
    return DONE


@describes("Removes a check from the agent.", rest="{check}")
async def deregister_check(call: Call) -> Reply:
    if not call.rest:
        raise RequestFailed("CheckID missing")
    call.api.services.remove_check(call.rest)
    return DONE


@describes("Sets a TTL check to passing.", rest="{check}", params=("note",))
async def check_pass(call: Call) -> Reply:
    return _update(call, PASSING, call.params.get("note"))


@describes("Sets a TTL check to warning.", rest="{check}", params=("note",))
async def check_warn(call: Call) -> Reply:
    return _update(call, WARNING, call.params.get("note"))


@describes("Sets a TTL check to critical.", rest="{check}", params=("note",))
async def check_fail(call: Call) -> Reply:
    return _update(call, CRITICAL, call.params.get("note"))


@describes("Sets the status and output of a TTL check.", rest="{check}", body=CheckUpdate)
async def check_update(call: Call) -> Reply:
    update = await call.decode(_update_body)
    if update.status not in _STATUSES:
        raise InvalidRequest(f"Invalid check status: '{update.status}'")
    return _update(call, update.status, update.output)


def _update(call: Call, status: str, output: str) -> Reply:
    call.api.services.update_ttl(call.rest, status, output)
    return DONE

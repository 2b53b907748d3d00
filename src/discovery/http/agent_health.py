"""`/v1/agent/health/service/`: the health of this agent's services as a status code, for load balancers."""

from collections.abc import Iterable
from typing import Final

from discovery.model.agent import AgentService
from discovery.model.errors import RequestFailed
from discovery.model.naming import always, nothing
from discovery.model.records import (
    CRITICAL,
    NODE_MAINTENANCE,
    PASSING,
    SERVICE_MAINTENANCE_PREFIX,
    WARNING,
    CheckDefinition,
    HealthCheck,
    Record,
)

from .call import Call
from .encoding import JSON, Reply, header, to_json
from .operation import describes

MAINTENANCE: Final = "maintenance"
_CODES: Final = {PASSING: 200, WARNING: 429, CRITICAL: 503, MAINTENANCE: 503}
_SEVERITY: Final = (PASSING, WARNING, CRITICAL, MAINTENANCE)
_TEXT: Final = b"Content-Type: text/plain\r\n"


class FullDefinition(Record, frozen=True, kw_only=True):
    """A check's definition with every field written, as only this endpoint shows it."""

    interval: str = always(lambda: "0s")
    timeout: str = always(lambda: "0s")
    deregister_critical_service_after: str = always(lambda: "0s")
    http: str = always(str)
    header: dict[str, list[str]] | None = always(nothing)
    method: str = always(str)
    body: str = always(str)
    tls_skip_verify: bool = always(bool)
    tcp: str = always(str)


class ShownCheck(Record, frozen=True, kw_only=True):
    node: str
    check_id: str
    name: str
    status: str
    notes: str
    output: str
    service_id: str
    service_name: str
    service_tags: list[str] | None
    type: str
    definition: FullDefinition
    create_index: int
    modify_index: int


class ServiceHealth(Record, frozen=True, kw_only=True):
    aggregated_status: str
    service: AgentService | None
    checks: list[ShownCheck] | None


@describes(
    "Tells by its status code how healthy a service of the agent is.",
    rest="{service}",
    params=("pretty", "format"),
    reply=ServiceHealth,
)
async def by_id(call: Call) -> Reply:
    if not call.rest:
        raise RequestFailed("Bad request: Missing serviceID")
    found = call.api.services.services().get(call.rest)
    if found is None:
        reason = f"ServiceId {call.rest} not found"
        body: object = ServiceHealth(aggregated_status=CRITICAL, service=None, checks=None)
        if _wants_text(call):
            return Reply(404, to_json(reason, pretty=call.pretty), JSON, _reason(reason))
        return call.json(body, status=404, extra=_reason(reason))
    health = _health_of(call, found)
    return _answer(call, health.aggregated_status, health)


@describes(
    "Tells by its status code how healthy all services of a name are.",
    rest="{name}",
    params=("pretty", "format"),
    reply=list[ServiceHealth],
)
async def by_name(call: Call) -> Reply:
    if not call.rest:
        raise RequestFailed("Bad request: Missing service Name")
    healths = [_health_of(call, s) for s in call.api.services.services().values() if s.service == call.rest]
    if not healths:
        reason = f"ServiceName {call.rest} Not Found"
        if _wants_text(call):
            return Reply(404, reason.encode(), _TEXT, _reason(reason))
        return call.json([], status=404, extra=_reason(reason))
    return _answer(call, worst(health.aggregated_status for health in healths), healths)


def _answer(call: Call, status: str, body: object) -> Reply:
    if _wants_text(call):
        return Reply(_CODES[status], status.encode(), _TEXT, _reason(status))
    return call.json(body, status=_CODES[status], extra=_reason(status))


def _reason(text: str) -> bytes:
    return header("X-Consul-Reason", text)


def _wants_text(call: Call) -> bool:
    return call.params.get("format") == "text" or call.request.headers.get("Accept", "").startswith("text/plain")


def _health_of(call: Call, service: AgentService) -> ServiceHealth:
    checks = [check for check in call.api.services.checks().values() if check.service_id in ("", service.id)]
    return ServiceHealth(
        aggregated_status=worst(_status(check) for check in checks), service=service, checks=[_shown(check) for check in checks]
    )


def _status(check: HealthCheck) -> str:
    if check.check_id == NODE_MAINTENANCE or check.check_id.startswith(SERVICE_MAINTENANCE_PREFIX):
        return MAINTENANCE
    return check.status if check.status in _CODES else CRITICAL


def worst(statuses: Iterable[str]) -> str:
    """The gravest of `statuses`; passing if there are none."""
    return max(statuses, key=_SEVERITY.index, default=PASSING)


def _shown(check: HealthCheck) -> ShownCheck:
    fields = {name: getattr(check, name) for name in ShownCheck.__struct_fields__}
    fields |= {"service_tags": check.service_tags or None, "type": "", "definition": _full(check.definition)}
    return ShownCheck(**fields)


def _full(definition: CheckDefinition) -> FullDefinition:
    return FullDefinition(
        interval=str(definition.interval or "0s"),
        timeout=str(definition.timeout or "0s"),
        deregister_critical_service_after=str(definition.deregister_critical_service_after or "0s"),
        http=definition.http,
        header=definition.header,
        method=definition.method,
        body=definition.body,
        tls_skip_verify=definition.tls_skip_verify,
        tcp=definition.tcp,
    )

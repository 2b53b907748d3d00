"""From definitions as written to what is kept: validation with Consul's texts, defaults, ids and names of a service's checks.

Source: Consul HTTP API documentation (`agent/service/register`, `agent/check/register`).
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.errors import InvalidRequest, RequestFailed
from discovery.model.records import (
    CRITICAL,
    DEFAULT_WEIGHTS,
    PASSING,
    WARNING,
    Connect,
    NodeService,
    Proxy,
    ServiceAddress,
)
from discovery.model.service_rules import mesh_problems, several_errors, weights_problem

from .settings import Settings

FILE: Final = "file"
REMOTE: Final = "remote"
LOCAL: Final = "local"
"""Where a definition came from: a configuration file, the API, the agent itself."""

_INVALID_CHECK: Final = {FILE: "Check is not valid: ", REMOTE: "Invalid check: "}

STATUSES: Final = (PASSING, WARNING, CRITICAL)
_ANY_ADDRESS: Final = ("0.0.0.0", "::", "[::]")
_META_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_META_PAIRS: Final = 64
_META_KEY_LENGTH: Final = 128
_META_VALUE_LENGTH: Final = 512


# --- services ------------------------------------------------------------------------------------------------------


def check_service(spec: ServiceSpec, source: str) -> None:
    """Raises `InvalidRequest`. The service's checks are looked at by `check_checks`."""
    if not spec.name:
        raise InvalidRequest("Service name missing" if source == FILE else "Missing service name")
    if spec.address in _ANY_ADDRESS:
        raise InvalidRequest("Invalid service address")
    if spec.weights is not None and (problem := weights_problem(spec.weights)):
        raise InvalidRequest(f"Invalid Weights: {problem}")
    _check_meta(spec.meta or {})
    problems = list(mesh_problems(spec.kind, spec.port, spec.proxy or Proxy(), spec.connect or Connect()))
    if problems:
        raise InvalidRequest(several_errors(problems))


def _check_meta(meta: Mapping[str, str]) -> None:
    if len(meta) > _META_PAIRS:
        raise InvalidRequest(f"Invalid Service Meta: Node metadata cannot contain more than {_META_PAIRS} key/value pairs")
    for key, value in meta.items():
        if problem := _meta_problem(key, value):
            raise InvalidRequest(f"Invalid Service Meta: Couldn't load metadata pair ('{key}', '{value}'): {problem}")


def _meta_problem(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > _META_KEY_LENGTH:
        return f"Key is too long (limit: {_META_KEY_LENGTH} characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    return f"Value is too long (limit: {_META_VALUE_LENGTH} characters)" if len(value) > _META_VALUE_LENGTH else ""


def service_of(spec: ServiceSpec) -> NodeService:
    """The service as this agent keeps it and the catalog gets it, in the form that `canonical_service` gives."""
    return NodeService(
        kind=spec.kind,
        id=spec.id or spec.name,
        service=spec.name,
        tags=list(spec.tags or ()),
        address=spec.address,
        tagged_addresses=_tagged_addresses(spec),
        meta=spec.meta or None,
        port=spec.port,
        weights=spec.weights or DEFAULT_WEIGHTS,
        enable_tag_override=spec.enable_tag_override,
        proxy=_settled(spec.proxy or Proxy()),
        connect=Connect(native=spec.connect is not None and spec.connect.native),
    )


def _settled(proxy: Proxy) -> Proxy:
    """With the type of every upstream said: what is not said to be a prepared query is a service."""
    upstreams = [
        msgspec.structs.replace(upstream, destination_type=upstream.destination_type or "service")
        for upstream in proxy.upstreams or ()
    ]
    return msgspec.structs.replace(proxy, upstreams=upstreams or None)


def _tagged_addresses(spec: ServiceSpec) -> dict[str, ServiceAddress] | None:
    """Those given, and the LAN and WAN ones that follow from an address that is an IP."""
    tagged = dict(spec.tagged_addresses or {})
    try:
        version = ipaddress.ip_address(spec.address).version
    except ValueError:
        return tagged or None
    own = ServiceAddress(spec.address, spec.port)
    return {f"lan_ipv{version}": own, f"wan_ipv{version}": own} | tagged


# --- checks --------------------------------------------------------------------------------------------------------


def checks_of(spec: ServiceSpec) -> list[CheckSpec]:
    """A service's checks with their ids and names settled, `check` first. An empty `check` counts as none."""
    given = [spec.check] if spec.check is not None and spec.check != CheckSpec() else []
    given += spec.checks or []
    service_id = spec.id or spec.name
    return [
        msgspec.structs.replace(
            check,
            id="",
            check_id=check.check_id or (f"service:{service_id}:{number}" if len(given) > 1 else f"service:{service_id}"),
            name=check.name or f"Service '{spec.name}' check",
            service_id=service_id,
            token=check.token or spec.token,
        )
        for number, check in enumerate(given, start=1)
    ]


def standalone_check(spec: CheckSpec) -> CheckSpec:
    """A check that is registered by itself, with its id settled."""
    return msgspec.structs.replace(spec, id="", check_id=spec.id or spec.check_id or spec.name)


def check_checks(checks: list[CheckSpec], source: str) -> None:
    """A service's checks. Raises `InvalidRequest`; from files any `status` is taken."""
    for check in checks:
        if problem := check_problem(check):
            raise InvalidRequest(_INVALID_CHECK[source] + problem)
        if source == REMOTE and check.status and check.status not in STATUSES:
            raise InvalidRequest("Status for checks must 'passing', 'warning', 'critical'")


def check_standalone(spec: CheckSpec, source: str) -> None:
    """A check that is registered by itself. Raises `InvalidRequest`."""
    if not spec.name:
        raise InvalidRequest("Missing check name")
    if source == REMOTE and spec.status and spec.status not in STATUSES:
        raise InvalidRequest("Bad check status")
    if problem := check_problem(spec):
        raise InvalidRequest(_INVALID_CHECK[source] + problem)


def check_problem(spec: CheckSpec) -> str:
    """What is wrong with a check, in Consul's words; empty if nothing is."""
    periodic = is_periodic(spec)
    alias = bool(spec.alias_service or spec.alias_node)
    if spec.interval > 0 and spec.ttl > 0:
        return "Interval and TTL cannot both be specified"
    if periodic and spec.interval <= 0:
        return "Interval must be > 0 for Script, HTTP, or TCP checks"
    if alias and spec.interval > 0:
        return "Interval cannot be set for Alias checks"
    if alias and spec.ttl > 0:
        return "TTL must be not be set for Alias checks"
    if not periodic and not alias and spec.ttl <= 0:
        return "TTL must be > 0 for TTL checks"
    return "MaxOutputMaxSize must be positive" if spec.output_max_size < 0 else ""


def is_script(spec: CheckSpec) -> bool:
    return bool(spec.args or spec.script_args or spec.docker_container_id)


def is_periodic(spec: CheckSpec) -> bool:
    return is_script(spec) or bool(spec.http or spec.tcp or spec.udp or spec.grpc or spec.h2ping or spec.os_service)


def type_of(spec: CheckSpec) -> str:
    """The `Type` that Consul shows, which also says what runs if several types are given."""
    kinds = {
        "ttl": spec.ttl > 0,
        "http": spec.http,
        "tcp": spec.tcp,
        "udp": spec.udp,
        "grpc": spec.grpc,
        "docker": spec.docker_container_id,
        "script": spec.args or spec.script_args,
        "h2ping": spec.h2ping,
        "os_service": spec.os_service,
        "alias": spec.alias_service or spec.alias_node,
    }
    return next((kind for kind, given in kinds.items() if given), "")


def check_scripts_allowed(spec: CheckSpec, source: str, settings: Settings) -> None:
    """Raises `RequestFailed` for a script that this agent must not run."""
    if not is_script(spec) or settings.enable_script_checks:
        return
    if source != FILE:
        raise RequestFailed(
            "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
        )
    if not settings.enable_local_script_checks:
        raise RequestFailed(
            "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or "
            "'enable_local_script_checks' to true"
        )

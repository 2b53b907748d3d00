"""What is refused of a central configuration entry by itself, and the form in which it is kept.

What depends on other entries is looked at when the entry is applied (`config_entries`, `chains`). Source: Consul's
documentation of each kind; order of checks and texts as observed from 1.8.7, for the kinds it knows.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from discovery.model import config_entries as m
from discovery.model.duration import Duration
from discovery.model.errors import RequestFailed

from .config_entries import WILDCARD

_NAMED: Final = ("service-router", "service-splitter", "service-resolver", "service-intentions")
_SUBSET: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MAX_SUBSET: Final = 63
_WEIGHTS: Final = 100
_LISTENER_PROTOCOLS: Final = ("tcp", "http", "http2", "grpc")
_HOST: Final = re.compile(r"(\*|[^.]{1,63})(\.[^.]{1,63})*\.?")
_ACTIONS: Final = ("allow", "deny")


def settled(kind: str, name: str, document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and document as they are kept; raises `RequestFailed`."""
    if kind not in m.KINDS:
        raise RequestFailed(f"invalid config entry kind: {kind}")
    entry = msgspec.convert({**document, "Kind": kind, "Name": name}, m.KINDS[kind], dec_hook=_read_duration)
    if kind in _NAMED:
        _require(bool(entry.name), "Name is required")
    elif kind in _FIXED_NAMES:
        entry = replace(entry, name=_FIXED_NAMES[kind])
    settle = _SETTLE.get(kind)
    if settle is not None:
        entry = settle(entry)
    kept: dict[str, Any] = msgspec.to_builtins(entry, enc_hook=str)
    return entry.name, kept


_FIXED_NAMES: Final = {"proxy-defaults": "global", "mesh": "mesh"}
"""Of these there is one."""


def _read_duration(kind: Callable[[Any], Any], value: Any) -> Any:
    return Duration.parse(value) if kind is Duration and isinstance(value, str) else kind(value)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise RequestFailed(problem)


def _repeated(items: Iterable[Any]) -> Any:
    """The first that occurs twice, None if none does."""
    return next((item for item, count in Counter(items).items() if count > 1), None)


def _defaults(entry: m.ServiceDefaults) -> m.ServiceDefaults:
    return replace(entry, protocol=entry.protocol.lower())


# --- routes --------------------------------------------------------------------------------------------------------


def _router(entry: m.ServiceRouter) -> m.ServiceRouter:
    routes = [_route(f"Route[{number}]", route) for number, route in enumerate(entry.routes or ())]
    return replace(entry, routes=routes if entry.routes is not None else None)


def _route(place: str, route: m.ServiceRoute) -> m.ServiceRoute:
    http = route.match.http if route.match is not None else None
    rewrites = route.destination is not None and bool(route.destination.prefix_rewrite)
    if http is not None:
        http = _check_http(place, http)
        route = replace(route, match=m.RouteMatch(http=http))
    _require(
        not rewrites or (http is not None and bool(http.path_exact or http.path_prefix)),
        f"{place} cannot make use of PrefixRewrite without configuring either PathExact or PathPrefix",
    )
    return route


def _check_http(place: str, http: m.RouteHTTP) -> m.RouteHTTP:
    given = [path for path in (http.path_exact, http.path_prefix, http.path_regex) if path]
    _require(len(given) < 2, f"{place} should only contain at most one of PathExact, PathPrefix, or PathRegex")
    for name, path in (("PathExact", http.path_exact), ("PathPrefix", http.path_prefix)):
        _require(path[:1] in ("", "/"), f"{place} {name} doesn't start with '/': \"{path}\"")
    for number, header in enumerate(http.header or ()):
        _require(bool(header.name), f"{place} Header[{number}] missing required Name field")
        tests = (header.present, header.exact, header.prefix, header.suffix, header.regex)
        problem = f"{place} Header[{number}] should only contain one of Present, Exact, Prefix, Suffix, or Regex"
        _require(sum(map(bool, tests)) == 1, problem)
    for number, parameter in enumerate(http.query_param or ()):
        _require(bool(parameter.name), f"{place} QueryParam[{number}] missing required Name field")
        given_tests = (parameter.present, parameter.exact, parameter.regex)
        problem = f"{place} QueryParam[{number}] should only contain one of Present, Exact, or Regex"
        _require(sum(map(bool, given_tests)) == 1, problem)
    methods = [method.upper() for method in http.methods or ()]
    twice = _repeated(methods)
    _require(twice is None, f'{place} Methods contains "{twice}" more than once')
    return replace(http, methods=methods or None)


# --- splits --------------------------------------------------------------------------------------------------------


def _splitter(entry: m.ServiceSplitter) -> m.ServiceSplitter:
    _require(bool(entry.splits), "no splits configured")
    splits = [replace(split, weight=_whole(round(split.weight, 2))) for split in entry.splits or ()]
    twice = _repeated((split.service or entry.name, split.service_subset, split.namespace) for split in splits)
    if twice is not None:
        service, subset, namespace = twice
        where = f'service="{service}", subset="{subset}", namespace="{namespace}"'
        raise RequestFailed(f"split destination occurs more than once: {where}")
    total = round(sum(split.weight for split in splits), 2)
    _require(total == _WEIGHTS, f"the sum of all split weights must be {_WEIGHTS}, not {total:f}")
    return replace(entry, splits=splits)


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


# --- resolving -----------------------------------------------------------------------------------------------------


def _resolver(entry: m.ServiceResolver) -> m.ServiceResolver:
    subsets = entry.subsets or {}
    for name in subsets:
        _check_subset(name)
    known = entry.default_subset in ("", *subsets)
    _require(known, f'DefaultSubset "{entry.default_subset}" is not a valid subset')
    if entry.redirect is not None:
        _check_redirect(entry, entry.redirect)
    for subset, failover in sorted((entry.failover or {}).items()):
        _check_failover(entry, subset, failover)
    timeout = entry.connect_timeout
    _require(timeout is None or timeout >= 0, f"Bad ConnectTimeout '{timeout}', must be >= 0")
    return entry


def _check_subset(name: str) -> None:
    _require(bool(name), "Subset defined with empty name")
    _require(len(name) <= _MAX_SUBSET, f'Subset "{name}" is invalid: must be non-empty and {_MAX_SUBSET} characters or fewer')
    rule = (
        f"must be {_MAX_SUBSET} characters or fewer, begin or end with lower case alphanumeric characters, "
        "and contain lower case alphanumeric characters or '-' in between"
    )
    _require(_SUBSET.fullmatch(name) is not None, f'Subset "{name}" is invalid: {rule}')


def _check_redirect(entry: m.ServiceResolver, redirect: m.ResolverRedirect) -> None:
    _require(not entry.failover, "Redirect and Failover cannot both be set")
    _require(redirect != m.ResolverRedirect(), "Redirect is empty")
    if not redirect.service:
        _require(not redirect.service_subset, "Redirect.ServiceSubset defined without Redirect.Service")
        _require(not redirect.namespace, "Redirect.Namespace defined without Redirect.Service")
    elif redirect.service == entry.name:
        known = redirect.service_subset in ("", *(entry.subsets or {}))
        problem = f'Redirect.ServiceSubset "{redirect.service_subset}" is not a valid subset of "{redirect.service}"'
        _require(known, problem)


def _check_failover(entry: m.ServiceResolver, subset: str, failover: m.ResolverFailover) -> None:
    place = f'Bad Failover["{subset}"]'
    known = ("", *(entry.subsets or {}))
    _require(subset in (WILDCARD, *known), f"{place}: not a valid subset")
    problem = f"{place} one of Service, ServiceSubset, Namespace, or Datacenters is required"
    _require(failover != m.ResolverFailover(), problem)
    if failover.service in ("", entry.name):
        problem = f'{place}.ServiceSubset "{failover.service_subset}" is not a valid subset of "{failover.service}"'
        _require(failover.service_subset in known, problem)
    _require("" not in (failover.datacenters or ()), f"{place}.Datacenters: found empty datacenter")


# --- gateways ------------------------------------------------------------------------------------------------------


def _ingress(entry: m.IngressGateway) -> m.IngressGateway:
    _require(bool(entry.name), "failed inserting config entry: object missing primary index")
    listeners = [replace(listener, protocol=listener.protocol.lower() or "tcp") for listener in entry.listeners or ()]
    ports = set()
    for listener in listeners:
        _require(listener.port not in ports, f"port {listener.port} declared on two listeners")
        ports.add(listener.port)
        _check_listener(listener, tls=entry.tls.enabled)
    return replace(entry, listeners=listeners if entry.listeners is not None else None)


def _check_listener(listener: m.IngressListener, *, tls: bool) -> None:
    protocol, services = listener.protocol, listener.services or []
    place = f"(listener on port {listener.port})"
    supported = f"protocol must be 'tcp', 'http', 'http2', or 'grpc'. '{protocol}' is an unsupported protocol"
    _require(protocol in _LISTENER_PROTOCOLS, supported)
    _require(bool(services), f"No service declared for listener with port {listener.port}")
    problem = f"Multiple services per listener are only supported for protocol = 'http' {place}"
    _require(len(services) == 1 or protocol != "tcp", problem)
    for service in services:
        problem = f"Wildcard service name is only valid for protocol = 'http' {place}"
        _require(service.name != WILDCARD or protocol == "http", problem)
        _require(bool(service.name), f"Service name cannot be blank {place}")
        if service.hosts:
            problem = f"Associating hosts to a wildcard service is not supported {place}"
            _require(service.name != WILDCARD, problem)
            problem = f"Associating hosts to a service is not supported for the tcp protocol {place}"
            _require(protocol != "tcp", problem)
    hosts = [host for service in services for host in service.hosts or ()]
    _require(_repeated(hosts) is None, f"Hosts must be unique within a specific listener {place}")
    for host in hosts:
        _check_host(host, tls=tls)


def _check_host(host: str, *, tls: bool) -> None:
    if host == WILDCARD:
        problem = "Host '*' is not allowed when TLS is enabled, all hosts must be valid DNS records to add as a DNSSAN"
        _require(not tls, problem)
        return
    _require(_HOST.fullmatch(host) is not None, f'Host "{host}" must be a valid DNS hostname')
    problem = f'Host "{host}" is not valid, a wildcard specifier is only allowed as the leftmost label'
    _require(WILDCARD not in host.removeprefix("*."), problem)


def _terminating(entry: m.TerminatingGateway) -> m.TerminatingGateway:
    _require(bool(entry.name), "serviceName is required")
    names = set()
    for service in entry.services or ():
        _require(bool(service.name), "Service name cannot be blank.")
        problem = f'Service "{service.name}" was specified more than once within a namespace'
        _require(service.name not in names, problem)
        names.add(service.name)
        files = (service.ca_file, service.cert_file, service.key_file)
        problem = f'Service "{service.name}" must have a CertFile, CAFile, and KeyFile specified for TLS origination'
        _require(all(files) or not any(files[1:]), problem)
    return entry


# --- kinds of later releases ---------------------------------------------------------------------------------------


def _intentions(entry: m.ServiceIntentions) -> m.ServiceIntentions:
    _require(bool(entry.sources), "At least one source is required")
    names = set()
    for number, source in enumerate(entry.sources or ()):
        place = f"Sources[{number}]"
        _require(bool(source.name), f"{place}.Name is required")
        _require(source.name not in names, f'{place} defines "{source.name}" more than once')
        names.add(source.name)
        one = bool(source.action) != bool(source.permissions)
        _require(one, f"{place} must set either Action or Permissions")
        if source.action:
            _require(source.action in _ACTIONS, f"{place}.Action must be set to 'allow' or 'deny'")
        for count, permission in enumerate(source.permissions or ()):
            known = permission.action in _ACTIONS
            _require(known, f"{place}.Permissions[{count}].Action must be set to 'allow' or 'deny'")
    return entry


def _exported(entry: m.ExportedServices) -> m.ExportedServices:
    _require(entry.name == "default", 'exported-services Name must be "default"')
    for number, service in enumerate(entry.services or ()):
        place = f"Services[{number}]"
        _require(bool(service.name), f"{place}: service name cannot be empty")
        _require(bool(service.consumers), f"{place}: must have at least one consumer")
        for count, consumer in enumerate(service.consumers or ()):
            one = bool(consumer.partition) != bool(consumer.peer)
            _require(one, f"{place}.Consumers[{count}]: must define exactly one of Peer or Partition")
    return entry


_SETTLE: Final[dict[str, Callable[[Any], Any]]] = {
    "service-defaults": _defaults,
    "service-router": _router,
    "service-splitter": _splitter,
    "service-resolver": _resolver,
    "ingress-gateway": _ingress,
    "terminating-gateway": _terminating,
    "service-intentions": _intentions,
    "exported-services": _exported,
}

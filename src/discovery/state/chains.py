"""Discovery chains: whether the documents on routing, splitting and resolving a service go together.

A chain starts at a service's router, goes on to splitters and ends in resolvers, which may redirect to others. It is walked here
only to refuse documents that contradict each other; proxies that would use it are not ours. Source: Consul's documentation of
service-router, service-splitter and service-resolver; order of checks and texts as of 1.8.7.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from discovery.model.errors import RequestFailed

Entry = Mapping[str, Any]
"""A document with Go's field names."""

Find = Callable[[str, str], Entry | None]
"""The document of a kind and name."""

CHAIN_KINDS: Final = ("service-resolver", "service-router", "service-splitter")
PROTOCOL_KINDS: Final = ("service-defaults", "proxy-defaults")
GLOBAL: Final = "global"

_HTTP_PROTOCOLS: Final = frozenset({"http", "http2", "grpc"})
_DEFAULT_PROTOCOL: Final = "tcp"


def related_services(entry: Entry) -> set[str]:
    """Names of other services that a document of a chain leads to."""
    redirect = entry.get("Redirect") or {}
    targets = [
        redirect,
        *(route.get("Destination") or {} for route in entry.get("Routes") or ()),
        *(entry.get("Splits") or ()),
        *(entry.get("Failover") or {}).values(),
    ]
    return {target["Service"] for target in targets if target.get("Service")} - {entry["Name"]}


def check_chain(find: Find, service: str, datacenter: str) -> None:
    """Raises `RequestFailed` with what is wrong with the chain of a service."""
    _Walk(find, service, datacenter).run()


class _Target(msgspec.Struct, frozen=True):
    service: str
    subset: str
    datacenter: str

    @property
    def id(self) -> str:
        parts = [self.subset] if self.subset else []
        return ".".join([*parts, self.service, "default", self.datacenter])


class _Walk:
    """One pass over a chain. `_next` has for every splitter the nodes after it; a router is only at the start."""

    def __init__(self, find: Find, service: str, datacenter: str) -> None:
        self._find = find
        self._service = service
        self._datacenter = datacenter
        self._protocol = ""
        self._needs_http = False
        self._next: dict[str, list[str]] = {}

    def run(self) -> None:
        for node in self._starts():
            self._check_circle(node, [])
        if self._needs_http and self._protocol not in _HTTP_PROTOCOLS:
            raise RequestFailed(
                f'discovery chain "{self._service}" uses a protocol "{self._protocol}" that does not permit '
                "advanced routing or splitting behavior"
            )

    def _starts(self) -> list[str]:
        router = self._find("service-router", self._service)
        if router is None:
            return [self._splitter_or_resolver(self._service)]
        self._needs_http = True
        self._note_protocol(self._service)
        return [*map(self._destination, router.get("Routes") or ()), self._splitter_or_resolver(self._service)]

    def _destination(self, route: Entry) -> str:
        destination = route.get("Destination") or {}
        service, subset = destination.get("Service") or self._service, destination.get("ServiceSubset") or ""
        return self._resolver(self._target(service, subset)) if subset else self._splitter_or_resolver(service)

    def _target(self, service: str, subset: str = "") -> _Target:
        return _Target(service, subset, self._datacenter)

    def _splitter_or_resolver(self, service: str) -> str:
        return self._splitter(service) or self._resolver(self._target(service))

    def _splitter(self, service: str) -> str:
        """The name of the service's splitter, empty if it has none."""
        entry = self._find("service-splitter", service)
        if entry is None:
            return ""
        name = f"splitter:{service}.default"
        if name in self._next:
            return name
        self._needs_http = True
        following = self._next[name] = []
        for split in entry.get("Splits") or ():
            following.append(self._split(service, split))
        return name

    def _split(self, service: str, split: Entry) -> str:
        target, subset = split.get("Service") or service, split.get("ServiceSubset") or ""
        splitter = self._splitter(target) if target != service and not subset else ""
        return splitter or self._resolver(self._target(target, subset))

    def _resolver(self, target: _Target, *, failover: bool = False) -> str:
        seen: list[_Target] = []
        while True:
            self._note_protocol(target.service)
            resolver = self._find("service-resolver", target.service) or {}
            if target in seen:
                path = " -> ".join(step.id for step in [*seen, target])
                raise RequestFailed(f"detected circular resolver redirect: [{path}]")
            seen.append(target)
            following = _redirected(target, resolver)
            if following == target:
                break
            target = following
        if target.subset and target.subset not in (resolver.get("Subsets") or {}):
            raise RequestFailed(f'service "{target.service}" does not have a subset named "{target.subset}"')
        if not failover:
            self._check_failover(target, resolver)
        return f"resolver:{target.id}"

    def _check_failover(self, target: _Target, resolver: Entry) -> None:
        failovers = resolver.get("Failover") or {}
        failover = failovers.get(target.subset) or failovers.get("*")
        if failover is None:
            return
        service, subset = failover.get("Service") or target.service, failover.get("ServiceSubset") or ""
        for datacenter in failover.get("Datacenters") or [target.datacenter]:
            other = _Target(service, subset or (target.subset if service == target.service else ""), datacenter)
            if other != target:
                self._resolver(other, failover=True)

    def _note_protocol(self, service: str) -> None:
        """All of a chain must speak the same."""
        protocol = self._protocol_of(service)
        self._protocol = self._protocol or protocol
        if protocol != self._protocol:
            raise RequestFailed(
                f'discovery chain "{self._service}" uses inconsistent protocols; service "{service}" has "{protocol}" '
                f'which is not "{self._protocol}"'
            )

    def _protocol_of(self, service: str) -> str:
        """What a service speaks: its own setting, even an empty one, else that of all proxies, else plain TCP."""
        own = self._find("service-defaults", service)
        if own is None:
            common = self._find("proxy-defaults", GLOBAL) or {}
            own = {"Protocol": (common.get("Config") or {}).get("protocol")}
        return str(own.get("Protocol") or _DEFAULT_PROTOCOL).lower()

    def _check_circle(self, node: str, path: Sequence[str]) -> None:
        if node in path:
            circle = " -> ".join([*path[path.index(node) :], node])
            raise RequestFailed(f"detected circular reference: [{circle}]")
        for following in self._next.get(node, ()):
            self._check_circle(following, [*path, node])


def _redirected(target: _Target, resolver: Entry) -> _Target:
    """Where a resolver sends on what came for `target`; `target` itself if it ends there."""
    redirect = resolver.get("Redirect") or {}
    if redirect:
        service = redirect.get("Service") or target.service
        subset = redirect.get("ServiceSubset") or (target.subset if service == target.service else "")
        return _Target(service, subset, redirect.get("Datacenter") or target.datacenter)
    subset = resolver.get("DefaultSubset") or ""
    return _Target(target.service, subset, target.datacenter) if subset and not target.subset else target


def affected_services(kind: str, name: str, chain_entries: Iterator[Entry]) -> list[str]:
    """The services whose chain must be looked at again when the document of `kind` and `name` changes."""
    if kind == "proxy-defaults":
        return sorted({entry["Name"] for entry in chain_entries}) if name == GLOBAL else []
    return [name, *sorted({entry["Name"] for entry in chain_entries if name in related_services(entry)} - {name})]

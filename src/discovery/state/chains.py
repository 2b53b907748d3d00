"""Discovery chains: what the documents on routing, splitting and resolving a service make together.

A chain starts at a service's router, goes on to splitters and ends in resolvers, which may redirect to others or name targets
to fail over to. Documents that contradict each other are refused. Source: Consul's documentation of service-router,
service-splitter, service-resolver and the discovery chain API; order of checks and texts as of 1.8.7.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from discovery.model.config_entries import ResolverSubset, RouteDestination, RouteHTTP, RouteMatch, ServiceRoute
from discovery.model.discovery_chain import (
    Chain,
    ChainFailover,
    ChainNode,
    ChainOverrides,
    ChainResolver,
    ChainRoute,
    ChainSplit,
    ChainTarget,
)
from discovery.model.duration import Duration
from discovery.model.errors import RequestFailed
from discovery.model.records import MeshGateway

from .customization import customization_hash

Entry = Mapping[str, Any]
"""A document with Go's field names."""

Find = Callable[[str, str], Entry | None]
"""The document of a kind and name."""

CHAIN_KINDS: Final = ("service-resolver", "service-router", "service-splitter")
PROTOCOL_KINDS: Final = ("service-defaults", "proxy-defaults")
GLOBAL: Final = "global"
NO_TRUST_DOMAIN: Final = "00000000-0000-0000-0000-000000000000.consul"
"""Stands in names of targets where no certificate authority gives a trust domain."""

_HTTP_PROTOCOLS: Final = frozenset({"http", "http2", "grpc"})
_DEFAULT_PROTOCOL: Final = "tcp"
_NAMESPACE: Final = "default"
_CONNECT_TIMEOUT: Final = Duration.from_seconds(5)
_MOST_SPLITTERS: Final = 100
_MOST_SPLITS: Final = 10_000
"""No sane chain comes near; without a limit few documents could keep all servers busy for ever."""
_SETTINGS_OF_A_RESOLVER: Final = ("DefaultSubset", "Subsets", "Redirect", "Failover", "ConnectTimeout")


def compile_chain(
    find: Find, service: str, datacenter: str, overrides: ChainOverrides, trust_domain: str = NO_TRUST_DOMAIN
) -> Chain:
    """The chain of a service as seen from `datacenter`; raises `RequestFailed` with what is wrong with it."""
    return _Compiler(find, service, datacenter, overrides, trust_domain).run()


def check_chain(find: Find, service: str, datacenter: str) -> None:
    """Raises `RequestFailed` with what is wrong with the chain of a service."""
    compile_chain(find, service, datacenter, ChainOverrides())


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


def affected_services(kind: str, name: str, chain_entries: Iterator[Entry]) -> list[str]:
    """The services whose chain must be looked at again when the document of `kind` and `name` changes."""
    if kind == "proxy-defaults":
        return sorted({entry["Name"] for entry in chain_entries}) if name == GLOBAL else []
    return [name, *sorted({entry["Name"] for entry in chain_entries if name in related_services(entry)} - {name})]


def protocol_of(find: Find, service: str) -> str:
    """What a service speaks: its own setting, even an empty one, else that of all proxies, else plain TCP."""
    own = find("service-defaults", service)
    if own is None:
        common = find("proxy-defaults", GLOBAL) or {}
        own = {"Protocol": (common.get("Config") or {}).get("protocol")}
    return str(own.get("Protocol") or _DEFAULT_PROTOCOL).lower()


class _Target(msgspec.Struct, frozen=True):
    service: str
    subset: str
    datacenter: str

    @property
    def id(self) -> str:
        parts = [self.subset] if self.subset else []
        return ".".join([*parts, self.service, _NAMESPACE, self.datacenter])

    def rewritten(self, service: str, subset: str, datacenter: str) -> "_Target":
        """The target with what is given changed; another service has no subset unless one is given."""
        keeps = service in ("", self.service)
        return _Target(service or self.service, subset or (self.subset if keeps else ""), datacenter or self.datacenter)


class _Compiler:
    """One pass over the documents. Nodes are made as they are reached, so that what leads in a circle ends."""

    def __init__(self, find: Find, service: str, datacenter: str, overrides: ChainOverrides, trust_domain: str) -> None:
        self._find = find
        self._service = service
        self._datacenter = datacenter
        self._overrides = overrides
        self._trust_domain = trust_domain
        self._protocol = ""
        self._needs_http = False
        self._applied = ChainOverrides()
        """Those of `overrides` that made a difference."""
        self._routes: list[ChainRoute] = []
        self._splits: dict[str, list[ChainSplit]] = {}
        self._resolvers: dict[str, ChainResolver] = {}
        self._targets: dict[str, ChainTarget] = {}

    def run(self) -> Chain:
        if not self._service:
            raise RequestFailed("serviceName is required")
        start = self._start()
        straight: set[str] = set()
        for node in [route.next_node for route in self._routes] or [start]:
            self._check_circle(node, [], straight)
        self._check_protocol()
        self._flatten()
        nodes = self._reachable(start)
        return Chain(
            service_name=self._service,
            namespace=_NAMESPACE,
            datacenter=self._datacenter,
            customization_hash=customization_hash(self._applied) if self._applied != ChainOverrides() else "",
            protocol=self._protocol,
            start_node=start,
            nodes=nodes,
            targets=self._used_targets(nodes),
        )

    # --- walking -----------------------------------------------------------------------------------------------------

    def _start(self) -> str:
        wanted = self._overrides.override_protocol.lower()
        if wanted and wanted not in _HTTP_PROTOCOLS:
            return self._resolver(self._target(self._service))
        router = self._find("service-router", self._service)
        if router is None:
            return self._splitter_or_resolver(self._service)
        self._needs_http = True
        self._note_protocol(self._service)
        for route in router.get("Routes") or ():
            definition = msgspec.convert(route, ServiceRoute, dec_hook=_read_duration)
            self._routes.append(ChainRoute(definition=definition, next_node=self._destination(definition)))
        self._routes.append(ChainRoute(definition=_rest(self._service), next_node=self._splitter_or_resolver(self._service)))
        return f"router:{self._service}.{_NAMESPACE}"

    def _destination(self, route: ServiceRoute) -> str:
        destination = route.destination or RouteDestination()
        service = destination.service or self._service
        if destination.service_subset:
            return self._resolver(self._target(service, destination.service_subset))
        return self._splitter_or_resolver(service)

    def _target(self, service: str, subset: str = "") -> _Target:
        return _Target(service, subset, self._datacenter)

    def _splitter_or_resolver(self, service: str) -> str:
        return self._splitter(service) or self._resolver(self._target(service))

    def _splitter(self, service: str) -> str:
        """The node of the service's splitter, empty if it has none."""
        entry = self._find("service-splitter", service)
        if entry is None:
            return ""
        node = f"splitter:{service}.{_NAMESPACE}"
        if node in self._splits:
            return node
        if len(self._splits) >= _MOST_SPLITTERS:
            raise RequestFailed(f'discovery chain "{self._service}" has more than {_MOST_SPLITTERS} splitters')
        self._needs_http = True
        splits = self._splits[node] = []
        for split in entry.get("Splits") or ():
            splits.append(ChainSplit(weight=split.get("Weight", 0), next_node=self._split(service, split)))
        return node

    def _split(self, service: str, split: Entry) -> str:
        target, subset = split.get("Service") or service, split.get("ServiceSubset") or ""
        splitter = self._splitter(target) if target != service and not subset else ""
        return splitter or self._resolver(self._target(target, subset))

    def _resolver(self, target: _Target) -> str:
        target, entry = self._resolved(target)
        node = f"resolver:{target.id}"
        if node in self._resolvers:
            return node
        failover = [other.id for other, _ in map(self._resolved, self._failovers(target, entry))]
        self._resolvers[node] = ChainResolver(
            connect_timeout=self._connect_timeout(entry),
            default=not any(entry.get(setting) for setting in _SETTINGS_OF_A_RESOLVER),
            target=target.id,
            failover=ChainFailover(targets=failover) if failover else None,
        )
        return node

    def _resolved(self, target: _Target) -> tuple[_Target, Entry]:
        """Where a target leads in the end, and the resolver there."""
        seen: list[_Target] = []
        while True:
            self._note_protocol(target.service)
            entry = self._find("service-resolver", target.service) or {}
            if target in seen:
                path = " -> ".join(step.id for step in [*seen, target])
                raise RequestFailed(f"detected circular resolver redirect: [{path}]")
            seen.append(target)
            following = _redirected(target, entry)
            if following == target:
                break
            target = following
        if target.subset and target.subset not in (entry.get("Subsets") or {}):
            raise RequestFailed(f'service "{target.service}" does not have a subset named "{target.subset}"')
        self._keep(target, entry)
        return target, entry

    def _failovers(self, target: _Target, entry: Entry) -> list[_Target]:
        failovers = entry.get("Failover") or {}
        failover = failovers.get(target.subset) or failovers.get("*")
        if failover is None:
            return []
        service, subset = failover.get("Service") or "", failover.get("ServiceSubset") or ""
        others = [target.rewritten(service, subset, datacenter) for datacenter in failover.get("Datacenters") or [""]]
        return [other for other in others if other != target]

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _keep(self, target: _Target, entry: Entry) -> None:
        if target.id in self._targets:
            return
        external = str((self._find("service-defaults", target.service) or {}).get("ExternalSNI") or "")
        if external:
            _refuse_for_external(target.service, entry)
        name = f"{target.id}.internal.{self._trust_domain}"
        self._targets[target.id] = ChainTarget(
            id=target.id,
            service=target.service,
            service_subset=target.subset,
            namespace=_NAMESPACE,
            datacenter=target.datacenter,
            mesh_gateway=self._mesh_gateway(target, external=bool(external)),
            subset=msgspec.convert((entry.get("Subsets") or {}).get(target.subset) or {}, ResolverSubset),
            external=bool(external),
            sni=external or name,
            name=name,
        )

    def _mesh_gateway(self, target: _Target, *, external: bool) -> MeshGateway:
        """Only what is far away and ours goes through gateways."""
        if external or target.datacenter == self._datacenter:
            return MeshGateway()
        mode = ""
        for kind, name in (("service-defaults", target.service), ("proxy-defaults", GLOBAL)):
            mode = mode or str(((self._find(kind, name) or {}).get("MeshGateway") or {}).get("Mode") or "")
        wanted = self._overrides.override_mesh_gateway.mode
        if wanted and wanted != mode:
            self._applied = replace(self._applied, override_mesh_gateway=MeshGateway(wanted))
            mode = wanted
        return MeshGateway(mode=mode)

    def _connect_timeout(self, entry: Entry) -> Duration:
        given = Duration.parse(str(entry.get("ConnectTimeout") or "0"))
        timeout = given if given > 0 else _CONNECT_TIMEOUT
        wanted = self._overrides.override_connect_timeout
        if wanted is not None and wanted > 0 and wanted != timeout:
            self._applied = replace(self._applied, override_connect_timeout=wanted)
            return wanted
        return timeout

    # --- protocols ---------------------------------------------------------------------------------------------------

    def _note_protocol(self, service: str) -> None:
        """All of a chain must speak the same."""
        protocol = protocol_of(self._find, service)
        self._protocol = self._protocol or protocol
        if protocol != self._protocol:
            raise RequestFailed(
                f'discovery chain "{self._service}" uses inconsistent protocols; service "{service}" has "{protocol}" '
                f'which is not "{self._protocol}"'
            )

    def _check_protocol(self) -> None:
        wanted = self._overrides.override_protocol.lower()
        if wanted and wanted != self._protocol:
            self._applied = replace(self._applied, override_protocol=wanted)
            self._protocol = wanted
        if self._needs_http and self._protocol not in _HTTP_PROTOCOLS:
            raise RequestFailed(
                f'discovery chain "{self._service}" uses a protocol "{self._protocol}" that does not permit '
                "advanced routing or splitting behavior"
            )

    # --- the finished chain ------------------------------------------------------------------------------------------

    def _check_circle(self, node: str, path: Sequence[str], straight: set[str]) -> None:
        """`straight` are nodes from which no way leads in a circle."""
        if node in path:
            circle = " -> ".join([*path[path.index(node) :], node])
            raise RequestFailed(f"detected circular reference: [{circle}]")
        if node not in straight:
            for split in self._splits.get(node, ()):
                self._check_circle(split.next_node, [*path, node], straight)
            straight.add(node)

    def _flatten(self) -> None:
        """Splitters that lead to splitters take over what these split into, in proportion. There are no circles any more."""
        for node in self._splits:
            self._splits[node] = list(islice(self._leaves(node, 100), _MOST_SPLITS + 1))
            if len(self._splits[node]) > _MOST_SPLITS:
                raise RequestFailed(f'discovery chain "{self._service}" splits into more than {_MOST_SPLITS} parts')

    def _leaves(self, node: str, share: float) -> Iterator[ChainSplit]:
        for split in self._splits[node]:
            if split.next_node in self._splits:
                yield from self._leaves(split.next_node, share * split.weight / 100)
            elif share == 100:
                yield split
            else:
                yield replace(split, weight=_rounded(share * split.weight / 100))

    def _reachable(self, start: str) -> dict[str, ChainNode]:
        found: dict[str, ChainNode] = {}
        waiting = [start]
        while waiting:
            key = waiting.pop()
            if key in found:
                continue
            kind, _, name = key.partition(":")
            if kind == "router":
                found[key] = ChainNode(type=kind, name=name, routes=self._routes)
                waiting += [route.next_node for route in self._routes]
            elif kind == "splitter":
                found[key] = ChainNode(type=kind, name=name, splits=self._splits[key])
                waiting += [split.next_node for split in self._splits[key]]
            else:
                found[key] = ChainNode(type=kind, name=name, resolver=self._resolvers[key])
        return dict(sorted(found.items()))

    def _used_targets(self, nodes: Mapping[str, ChainNode]) -> dict[str, ChainTarget]:
        resolvers = [node.resolver for node in nodes.values() if node.resolver is not None]
        used = {resolver.target for resolver in resolvers}
        used |= {target for resolver in resolvers if resolver.failover is not None for target in resolver.failover.targets}
        return {target: self._targets[target] for target in sorted(used)}


def _refuse_for_external(service: str, entry: Entry) -> None:
    for setting, what in (("Redirect", "redirects"), ("Subsets", "subsets"), ("Failover", "failover")):
        if entry.get(setting):
            raise RequestFailed(f'service "{service}" has an external SNI set; cannot define {what} for external services')


def _redirected(target: _Target, resolver: Entry) -> _Target:
    """Where a resolver sends on what came for `target`; `target` itself if it ends there."""
    redirect = resolver.get("Redirect")
    if redirect:
        service, subset = redirect.get("Service") or "", redirect.get("ServiceSubset") or ""
        following = target.rewritten(service, subset, redirect.get("Datacenter") or "")
        if following != target:
            return following
    subset = resolver.get("DefaultSubset") or ""
    return _Target(target.service, subset, target.datacenter) if subset and not target.subset else target


def _rest(service: str) -> ServiceRoute:
    """The route of what no other matches."""
    match = RouteMatch(http=RouteHTTP(path_prefix="/"))
    return ServiceRoute(match=match, destination=RouteDestination(service=service, namespace=_NAMESPACE))


def _rounded(weight: float) -> int | float:
    rounded = round(weight, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def _read_duration(kind: Callable[[Any], Any], value: Any) -> Any:
    return Duration.parse(value) if kind is Duration and isinstance(value, str) else kind(value)

"""From what a lookup found to records.

What is found becomes a `Plan`: groups of records that belong together (an instance with the addresses of its target), and how
many of them, in which order, may be shown. A plan holds for every answer to its question; `packing` draws one answer from it.
Source: Consul documentation, "DNS interface"; observed from Consul 1.8.7.
"""

import logging
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from discovery.model.records import CRITICAL, PASSING, WARNING, CheckServiceNode, HealthCheck, Node, NodeService

from .addresses import BOTH, family, node_addresses, packed, service_addresses, service_port, shown, wanted
from .options import DnsOptions, seconds
from .rare_log import RareLog
from .wire import (
    AAAA,
    ANY,
    CNAME,
    NOERROR,
    NOTIMP,
    NS,
    NXDOMAIN,
    PTR,
    REFUSED,
    SERVFAIL,
    SOA,
    SRV,
    TXT,
    A,
    Name,
    Query,
    Record,
    name_of,
)

_rarely = RareLog(logging.getLogger(__name__))

MAX_NAME_SERVERS: Final = 3
MAX_CHASED_RECORDS: Final = 5
"""Records that an alias may add to the answer of a client without EDNS."""
_PRIORITY: Final = 1
_SRV_HEAD: Final = struct.Struct("!3H")
_SOA_TAIL: Final = struct.Struct("!5I")
_HOST_LABEL: Final = re.compile(r"[A-Za-z0-9-]+")
_MAX_STRING: Final = 255
_VERBATIM: Final = "rfc1035-"

Chased = Mapping[Name, Sequence[Record]]
"""What is known of the host names that instances are addressed by."""


class SoaPlace(Enum):
    NOWHERE = 0
    IF_EMPTY = 1
    """In authority, when there is no answer: tells resolvers how long to remember that."""
    AUTHORITY = 2
    ANSWER = 3
    """The answer itself; the groups go to authority."""


class Group(msgspec.Struct, frozen=True, gc=False):
    records: tuple[Record, ...]
    additional: tuple[Record, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    groups: Sequence[Group] = ()
    rcode: int = NOERROR
    authoritative: bool = True
    recursion_tried: bool = False
    """Whether other servers were, or would have been, asked."""
    additional: tuple[Record, ...] = ()
    """What accompanies the answer as a whole."""
    shuffled: bool = False
    most: int = 0
    """Groups that may be shown; 0: all."""
    any_part_will_do: bool = False
    """Whether fewer groups than there are make a good answer, too."""
    soa: SoaPlace = SoaPlace.NOWHERE
    subnet_scoped: bool = False

    @property
    def varies(self) -> bool:
        """Whether two answers drawn from this plan may differ."""
        return self.shuffled and len(self.groups) > 1


class Place(msgspec.Struct, frozen=True):
    """Where the answers come from: the agent's own zone, and the datacenter that was asked."""

    zone: Name
    datacenter: str
    remote: bool
    """Whether addresses are those for use from another datacenter."""

    def node_name(self, node: str) -> Name | None:
        """None where DNS has no room for it."""
        return self._name(node, "node")

    def service_name(self, service: str) -> Name | None:
        return self._name(service, "service")

    def address_name(self, address: bytes) -> Name:
        return (address.hex().encode(), b"addr", self.datacenter.encode(), *self.zone)

    def _name(self, subject: str, kind: str) -> Name | None:
        try:
            head = name_of(f"{subject}.{kind}.{self.datacenter}")
            return name_of(".".join(label.decode() for label in (*head, *self.zone)))
        except ValueError:
            return None


NOT_FOUND: Final = Plan(rcode=NXDOMAIN, soa=SoaPlace.IF_EMPTY)
BARE: Final = Plan()
FAILED: Final = Plan(rcode=SERVFAIL)
"""We could not ask the catalog."""
UNRESOLVED: Final = Plan(rcode=SERVFAIL, authoritative=False, recursion_tried=True)
"""Nobody else could tell us."""
REJECTED: Final = Plan(rcode=REFUSED, authoritative=False)
UNSUPPORTED: Final = Plan(rcode=NOTIMP)


# --- single records --------------------------------------------------------------------------------------------------


def address_record(name: Name, address: bytes, ttl: int) -> Record:
    return Record(name, A if len(address) == 4 else AAAA, ttl, (address,))


def soa_record(zone: Name, options: DnsOptions, serial: int) -> Record:
    soa = options.soa
    tail = _SOA_TAIL.pack(serial, soa.refresh, soa.retry, soa.expire, soa.min_ttl)
    return Record(zone, SOA, soa.min_ttl, ((b"ns", *zone), (b"hostmaster", *zone), tail))


def text_record(name: Name, key: str, value: str, ttl: int) -> Record:
    """A pair of node metadata as RFC 1464 writes it; keys with Consul's verbatim prefix give the bare value."""
    text = value if key.lower().startswith(_VERBATIM) else f"{_escaped_key(key)}={value.replace('`', '``')}"
    raw = text.encode()
    chunks = [raw[start : start + _MAX_STRING] for start in range(0, len(raw), _MAX_STRING)] or [b""]
    return Record(name, TXT, ttl, tuple(bytes((len(chunk),)) + chunk for chunk in chunks))


def _escaped_key(key: str) -> str:
    core = key.strip(" ")
    if not core:
        return "` " * len(key)
    before, after = key.split(core, 1)
    return "` " * len(before) + core.replace("`", "``").replace("=", "`=") + "` " * len(after)


def metadata(name: Name, node: Node, ttl: int) -> tuple[Record, ...]:
    return tuple(text_record(name, key, value, ttl) for key, value in (node.meta or {}).items())


# --- nodes -----------------------------------------------------------------------------------------------------------


def node_host(node: Node, query_type: int, place: Place) -> Name:
    """The host name that the node is addressed by, if it has to be looked up for this question; else empty."""
    if not shown(query_type) or query_type == TXT:
        return ()
    chosen = node_addresses(node, remote=place.remote).choose(wanted(query_type))
    return () if packed(chosen) else _host(chosen)


def node_plan(query: Query, node: Node, place: Place, options: DnsOptions, chased: Chased) -> Plan:
    ttl = seconds(options.node_ttl)
    records: tuple[Record, ...] = ()
    if query.type != TXT:
        records = _node_records(query, node, place, ttl, chased)
    meta_answers = query.type in (ANY, TXT)
    if not meta_answers and not options.enable_additional_node_meta_txt:
        return Plan(groups=_each(records))
    meta = metadata(query.name, node, ttl)
    if meta_answers:
        return Plan(groups=_each(records + meta))
    return Plan(groups=_each(records), additional=meta)


def _node_records(query: Query, node: Node, place: Place, ttl: int, chased: Chased) -> tuple[Record, ...]:
    host = node_host(node, query.type, place)
    if host:
        return (Record(query.name, CNAME, ttl, (host,)), *chased.get(host, ()))
    address = packed(node_addresses(node, remote=place.remote).choose(wanted(query.type)))
    if address and family(address) in shown(query.type):
        return (address_record(query.name, address, ttl),)
    return ()


def _each(records: Sequence[Record]) -> list[Group]:
    return [Group((record,)) for record in records]


def _host(text: str) -> Name:
    """Empty where the text is no host name."""
    try:
        return name_of(text)
    except ValueError:
        _rarely.warning("address %r is neither an IP address nor a host name", text)
        return ()


# --- services --------------------------------------------------------------------------------------------------------


class Endpoint(msgspec.Struct, frozen=True):
    """An instance as it can be reached: by `address` or, if that is empty, by `host`."""

    instance: CheckServiceNode
    address: bytes
    host: Name
    by_node: bool
    """Whether the address is the node's own, which the node's name stands for."""


def healthy(instances: Sequence[CheckServiceNode], *, only_passing: bool) -> list[CheckServiceNode]:
    """Those that may be offered: none of their checks, nor of their node's, is critical."""
    if only_passing:
        return [instance for instance in instances if all(check.status == PASSING for check in instance.checks)]
    return [instance for instance in instances if all(check.status != CRITICAL for check in instance.checks)]


def endpoints(query: Query, instances: Sequence[CheckServiceNode], place: Place) -> list[Endpoint]:
    """How each instance is reached in an answer to `query`, without repetitions.

    Where some are reached by address, those with a host name are left out: an alias can't stand beside other records. SRV
    answers have room for both.
    """
    found = [endpoint for instance in instances if (endpoint := _endpoint(query, instance, place))]
    if query.type == SRV:
        return _unique(found, lambda each: _srv_identity(each, place))
    families = shown(query.type)
    addressed = [endpoint for endpoint in found if endpoint.address and family(endpoint.address) in families]
    if addressed:
        return _unique(addressed, lambda each: each.address)
    return _unique([endpoint for endpoint in found if endpoint.host], lambda each: each.host)


def _unique(found: Sequence[Endpoint], identity: Callable[[Endpoint], object]) -> list[Endpoint]:
    return list({identity(endpoint): endpoint for endpoint in reversed(found)}.values())[::-1]


def _srv_identity(endpoint: Endpoint, place: Place) -> object:
    service = endpoint.instance.service
    address = service_addresses(service, remote=place.remote).choose(BOTH)
    return endpoint.instance.node.node, address, service_port(service, remote=place.remote)


def _endpoint(query: Query, instance: CheckServiceNode, place: Place) -> Endpoint | None:
    families = wanted(query.type)
    node, service = instance.node, instance.service
    own = service_addresses(service, remote=place.remote).choose(families)
    if own:
        address = packed(own)
        if address:
            return Endpoint(instance, address, (), by_node=False)
        host = _host(own)
        if host != query.name:
            return Endpoint(instance, b"", host, by_node=False) if host else None
    elif service.address:
        return None
    chosen = node_addresses(node, remote=place.remote).choose(families)
    address = packed(chosen)
    if address:
        return Endpoint(instance, address, (), by_node=chosen == node.address)
    host = _host(chosen) if chosen else ()
    return Endpoint(instance, b"", host, by_node=False) if host else None


def service_plan(
    query: Query, found: Sequence[Endpoint], place: Place, options: DnsOptions, *, ttl: int, chased: Chased, shuffled: bool
) -> Plan:
    """An answer with the endpoints `found`; `ttl` is seconds."""
    most = 0
    if query.type == SRV:
        groups = [_srv_group(query, endpoint, place, options, ttl, chased) for endpoint in found]
    elif found and found[0].host:
        most = 1
        groups = [_alias_group(query, endpoint.host, ttl, chased) for endpoint in found]
    else:
        most = options.a_record_limit
        groups = [Group((address_record(query.name, endpoint.address, ttl),)) for endpoint in found]
    return Plan(groups=groups, shuffled=shuffled, most=most, any_part_will_do=True, soa=SoaPlace.IF_EMPTY)


def _alias_group(query: Query, host: Name, ttl: int, chased: Chased) -> Group:
    return Group((Record(query.name, CNAME, ttl, (host,)), *_retimed(query, chased.get(host, ()), ttl)))


def _retimed(query: Query, records: Sequence[Record], ttl: int) -> list[Record]:
    kept = records if query.edns is not None else records[:MAX_CHASED_RECORDS]
    return [msgspec.structs.replace(record, ttl=ttl) for record in kept]


def _srv_group(query: Query, endpoint: Endpoint, place: Place, options: DnsOptions, ttl: int, chased: Chased) -> Group:
    instance = endpoint.instance
    node_name = place.node_name(instance.node.node)
    additional: list[Record]
    if endpoint.host:
        target = endpoint.host
        additional = _retimed(query, chased.get(target, ()), ttl)
    else:
        # A node whose name does not fit into DNS is still reached by its address.
        target = node_name if endpoint.by_node and node_name is not None else place.address_name(endpoint.address)
        additional = [address_record(target, endpoint.address, ttl)]
    if options.enable_additional_node_meta_txt and node_name is not None:
        additional += metadata(node_name, instance.node, ttl)
    port = service_port(instance.service, remote=place.remote)
    head = _SRV_HEAD.pack(_PRIORITY, _weight(instance), _short(port))
    return Group((Record(query.name, SRV, ttl, (head, target)),), tuple(additional))


def _weight(instance: CheckServiceNode) -> int:
    weights = instance.service.weights
    if weights is None:
        return 1
    status = _status(instance.checks, instance.service)
    return _short(weights.passing if status == PASSING else weights.warning)


def _status(checks: Sequence[HealthCheck], service: NodeService) -> str:
    concerned = (check for check in checks if check.service_id in ("", service.id))
    return WARNING if any(check.status == WARNING for check in concerned) else PASSING


def _short(number: int) -> int:
    return max(0, min(number, 0xFFFF))


# --- the zone, reverse names -----------------------------------------------------------------------------------------


def name_servers_plan(query: Query, servers: Sequence[CheckServiceNode], place: Place, options: DnsOptions) -> Plan:
    """For SOA and NS questions: up to three servers, each with an address."""
    ttl = seconds(options.node_ttl)
    groups = [group for server in servers if (group := _name_server(server.node, place, ttl))]
    soa = SoaPlace.ANSWER if query.type == SOA else SoaPlace.NOWHERE
    return Plan(groups=groups, shuffled=True, most=MAX_NAME_SERVERS, soa=soa)


def _name_server(node: Node, place: Place, ttl: int) -> Group | None:
    name = place.node_name(node.node)
    if name is None or not _HOST_LABEL.fullmatch(node.node):
        _rarely.warning("server %r has a name that DNS does not allow for hosts; it is left out of NS answers", node.node)
        return None
    address = packed(node_addresses(node, remote=place.remote).choose(BOTH))
    glue = (address_record(name, address, ttl),) if address else ()
    return Group((Record(place.zone, NS, ttl, (name,)),), glue)


def pointer_plan(query: Query, targets: Sequence[Name]) -> Plan:
    """What a reverse name points to. These are never remembered by resolvers."""
    soa = SoaPlace.AUTHORITY if query.type == SOA else SoaPlace.NOWHERE
    return Plan(groups=[Group((Record(query.name, PTR, 0, (target,)),)) for target in targets], soa=soa)

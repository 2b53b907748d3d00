"""From a question to a plan: asks the cluster through the delegate, and other servers where that is needed.

Lookups are stale by default (`allow_stale`): any server may answer, unless it has been without news from the leader for longer
than `max_stale`. A question that the cluster could not be asked is answered SERVFAIL, never "no such name": a resolver would
believe that.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from discovery.model.delegate import Watch
from discovery.model.duration import InvalidDuration
from discovery.model.errors import DiscoveryError, NoPathToDatacenter, NotFound
from discovery.model.records import CONSUL_SERVICE, CheckServiceNode
from discovery.model.requests import (
    DCSpecificRequest,
    IndexedCheckServiceNodes,
    IndexedNodes,
    IndexedNodeServices,
    IndexedServiceNodes,
    NodeSpecificRequest,
    PreparedQueryExecuteRequest,
    PreparedQueryExecuteResponse,
    QueryOptions,
    QuerySource,
    ServiceSpecificRequest,
)
from discovery.telemetry import Metrics

from .addresses import address_text
from .answers import (
    BARE,
    FAILED,
    NOT_FOUND,
    UNRESOLVED,
    Chased,
    Endpoint,
    Group,
    Place,
    Plan,
    address_record,
    endpoints,
    healthy,
    name_servers_plan,
    node_host,
    node_plan,
    pointer_plan,
    service_plan,
)
from .last_known import Asker
from .names import AddressLookup, Bare, Lookup, NodeLookup, QueryLookup, ReverseLookup, ServiceLookup, Zones, classify
from .options import DnsOptions, query_ttl, seconds
from .packing import limits_of
from .rare_log import RareLog
from .recursor import Recursors
from .wire import AAAA, ANY, CNAME, NS, SOA, SRV, TXT, A, Name, Query, Record, lowered

_rarely = RareLog(logging.getLogger(__name__))

STALE_NOTICE: Final = 5 * 10**9
"""Nanoseconds without news from the leader from which on an answer counts as stale."""
MAX_ALIASES: Final = 3
"""How many names of our own an alias may lead through."""
_MAX_CHASED: Final = 16
"""Host names that are looked up for one answer."""
_NO_PATH: Final = NoPathToDatacenter().text


class Found(msgspec.Struct, frozen=True):
    """`plan` holds until `watch` fires, and for `fresh_for` seconds at most; without a watch for this answer only."""

    plan: Plan
    watch: Watch | None = None
    fresh_for: float = 0.0


class Lookups:
    """`asker` is what knows the catalog."""

    def __init__(
        self,
        asker: Asker,
        options: DnsOptions,
        recursors: Recursors,
        *,
        node_name: str,
        datacenter: str,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._asker = asker
        self._options = options
        self._recursors = recursors
        self._node_name = node_name
        self._datacenter = datacenter
        self._metrics = metrics
        self._rng = rng
        self._zones = Zones(options.zone(), options.alt_zone())

    def classify(self, query: Query) -> Lookup:
        return classify(query.name, query.type, self._zones)

    async def find(self, query: Query, lookup: Lookup, client: str) -> Found:
        """What answers `query`, which asks for `lookup`; never raises `DiscoveryError`. `client` is the asker's address."""
        try:
            return await self._find(query, lookup, client, MAX_ALIASES)
        except DiscoveryError as error:
            if _is_unknown_datacenter(error):
                return Found(NOT_FOUND)
            _rarely.warning("lookup of %s failed: %s", b".".join(query.name).decode(errors="replace"), error)
            return Found(FAILED)

    async def _find(self, query: Query, lookup: Lookup, client: str, aliases: int) -> Found:
        if isinstance(lookup, ReverseLookup):
            return await self._reverse(query, lookup)
        if query.type in (SOA, NS):
            return await self._name_servers(query)
        match lookup:
            case NodeLookup():
                return await self._node(query, lookup, aliases)
            case ServiceLookup():
                return await self._service(query, lookup, aliases)
            case QueryLookup():
                return await self._query(query, lookup, client, aliases)
            case AddressLookup(address):
                record = address_record(lowered(query.name), address, seconds(self._options.node_ttl))
                return Found(Plan(groups=[Group((record,))]))
            case Bare():
                return Found(BARE)
            case _:
                return Found(NOT_FOUND)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, request: QueryOptions) -> tuple[Any, Watch | None, float]:
        """The reply, the watch over it, and for how many seconds `max_stale` lets it be used."""
        answer = await self._asker.ask(method, request)
        last_contact = answer.reply.last_contact
        if self._options.stale_reads and last_contact > self._options.max_stale:
            answer = await self._asker.ask(method, msgspec.structs.replace(request, allow_stale=False))
            last_contact = 0
        elif last_contact > STALE_NOTICE:
            self._metrics.dns_stale_queries.inc()
        return answer.reply, answer.watch, max(0, self._options.max_stale - last_contact) / 1e9

    def _settings(self, datacenter: str) -> dict[str, Any]:
        options = self._options
        return {
            "datacenter": datacenter or self._datacenter,
            "token": options.token,
            "allow_stale": options.stale_reads,
            "use_cache": options.use_cache,
            "max_age": options.cache_max_age,
        }

    def _place(self, datacenter: str) -> Place:
        datacenter = datacenter or self._datacenter
        remote = self._options.translate_wan_addrs and datacenter != self._datacenter
        return Place(self._zones.primary, datacenter, remote)

    # --- kinds of lookups --------------------------------------------------------------------------------------------

    async def _node(self, query: Query, lookup: NodeLookup, aliases: int) -> Found:
        if query.type not in (A, AAAA, ANY, TXT):
            return Found(BARE)
        request = NodeSpecificRequest(node=lookup.node, **self._settings(lookup.datacenter))
        reply, watch, fresh_for = await self._ask("Catalog.NodeServices", request)
        assert isinstance(reply, IndexedNodeServices)
        node = reply.node_services.node if reply.node_services is not None else None
        if node is None:
            return Found(NOT_FOUND, watch, fresh_for)
        place = self._place(lookup.datacenter)
        host = node_host(node, query.type, place)
        chased = await self._chase([host] if host else [], aliases)
        plan = node_plan(query, node, place, self._options, chased)
        return Found(plan, None if chased else watch, fresh_for)

    async def _service(self, query: Query, lookup: ServiceLookup, aliases: int) -> Found:
        instances, watch, fresh_for = await self._instances(lookup)
        if not instances:
            return Found(NOT_FOUND, watch, fresh_for)
        ttl = self._options.service_ttl_of(lookup.service)
        place = self._place(lookup.datacenter)
        plan, chased = await self._service_plan(query, instances, place, ttl, aliases, shuffled=True)
        return Found(plan, None if chased else watch, fresh_for)

    async def _instances(self, lookup: ServiceLookup) -> tuple[list[CheckServiceNode], Watch | None, float]:
        request = ServiceSpecificRequest(
            service_name=lookup.service,
            service_tag=lookup.tag,
            service_tags=[lookup.tag] if lookup.tag else None,
            tag_filter=bool(lookup.tag),
            connect=lookup.connect,
            ingress=lookup.ingress,
            **self._settings(lookup.datacenter),
        )
        reply, watch, fresh_for = await self._ask("Health.ServiceNodes", request)
        assert isinstance(reply, IndexedCheckServiceNodes)
        return healthy(reply.nodes or (), only_passing=self._options.only_passing), watch, fresh_for

    async def _query(self, query: Query, lookup: QueryLookup, client: str, aliases: int) -> Found:
        subnet = query.edns.subnet_address() if query.edns is not None else b""
        source = address_text(subnet) if subnet else client
        request = PreparedQueryExecuteRequest(
            query_id_or_name=lookup.query,
            source=QuerySource(datacenter=self._datacenter, ip=source),
            agent=QuerySource(datacenter=self._datacenter, node=self._node_name),
            **self._settings(lookup.datacenter),
        )
        try:
            reply, _, _ = await self._ask("PreparedQuery.Execute", request)
        except NotFound:
            return Found(NOT_FOUND)
        assert isinstance(reply, PreparedQueryExecuteResponse)
        if not reply.nodes:
            return Found(NOT_FOUND)
        place = self._place(reply.datacenter or lookup.datacenter)
        ttl = self._query_ttl(reply)
        plan, _ = await self._service_plan(query, reply.nodes, place, ttl, aliases, shuffled=False)
        return Found(msgspec.structs.replace(plan, subnet_scoped=True))

    def _query_ttl(self, reply: PreparedQueryExecuteResponse) -> int:
        if reply.dns.ttl:
            try:
                return query_ttl(reply.dns.ttl)
            except InvalidDuration as error:
                _rarely.warning("a prepared query of %s has a bad TTL: %s", reply.service, error)
        return self._options.service_ttl_of(reply.service)

    async def _service_plan(
        self, query: Query, instances: Sequence[CheckServiceNode], place: Place, ttl: int, aliases: int, *, shuffled: bool
    ) -> tuple[Plan, Chased]:
        found = endpoints(query, instances, place)
        hosts = [endpoint.host for endpoint in found if endpoint.host and self._can_chase(endpoint.host)]
        if hosts and query.type != SRV:
            found = self._one_alias(found, shuffled=shuffled)
            hosts = [found[0].host]
        chased = await self._chase(hosts[:_MAX_CHASED], aliases)
        plan = service_plan(query, found, place, self._options, ttl=ttl, chased=chased, shuffled=shuffled)
        return plan, chased

    def _one_alias(self, found: Sequence[Endpoint], *, shuffled: bool) -> list[Endpoint]:
        """An answer has room for one alias: no need to look the others up."""
        return [self._rng.choice(found) if shuffled else found[0]]

    async def _name_servers(self, query: Query) -> Found:
        instances, watch, fresh_for = await self._instances(ServiceLookup(CONSUL_SERVICE))
        return Found(name_servers_plan(query, instances, self._place(""), self._options), watch, fresh_for)

    # --- reverse lookups ---------------------------------------------------------------------------------------------

    async def _reverse(self, query: Query, lookup: ReverseLookup) -> Found:
        targets = await self._names_of(address_text(lookup.packed)) if lookup.packed else []
        return Found(pointer_plan(query, targets) if targets else UNRESOLVED)

    async def _names_of(self, address: str) -> list[Name]:
        """The node with that address, else the services that have it as their own."""
        place = self._place("")
        reply, _, _ = await self._ask("Catalog.ListNodes", DCSpecificRequest(**self._settings("")))
        assert isinstance(reply, IndexedNodes)
        for node in reply.nodes or ():
            if node.address == address:
                name = place.node_name(node.node)
                return [name] if name is not None else []
        request = ServiceSpecificRequest(service_address=address, **self._settings(""))
        services, _, _ = await self._ask("Catalog.ServiceNodes", request)
        assert isinstance(services, IndexedServiceNodes)
        names = {service.service_name: place.service_name(service.service_name) for service in services.service_nodes or ()}
        return [name for name in names.values() if name is not None]

    # --- aliases -----------------------------------------------------------------------------------------------------

    def _can_chase(self, host: Name) -> bool:
        return bool(self._recursors) or self._zones.strip(lowered(host)) is not None

    async def _chase(self, hosts: Sequence[Name], aliases: int) -> dict[Name, Sequence[Record]]:
        """What is behind each of `hosts`. Empty only if nothing had to be looked up."""
        wanted = [host for host in hosts if self._can_chase(host)]
        found = await asyncio.gather(*(self._behind(host, aliases) for host in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _behind(self, host: Name, aliases: int) -> Sequence[Record]:
        if self._zones.strip(lowered(host)) is None:
            return await self._recursors.addresses(host)
        if aliases < 1:
            _rarely.warning("gave up on %s: aliases lead in a circle, or too far", b".".join(host).decode(errors="replace"))
            return ()
        query = Query(0, 0, host, ANY)
        try:
            found = await self._find(query, self.classify(query), "", aliases - 1)
        except DiscoveryError as error:
            _rarely.warning("nothing was found behind an alias: %s", error)
            return ()
        return self._some_of(query, found.plan)

    def _some_of(self, query: Query, plan: Plan) -> list[Record]:
        """As many records as an answer of its own would have over UDP."""
        limit = limits_of(query, self._options, tcp=False).answers
        groups = self._rng.sample(plan.groups, len(plan.groups)) if plan.shuffled else plan.groups
        records = [record for group in groups[: plan.most or limit] for record in group.records]
        return [record for record in records if record.type in (A, AAAA, CNAME)][:limit]


def _is_unknown_datacenter(error: DiscoveryError) -> bool:
    return isinstance(error, NoPathToDatacenter) or error.text.endswith(_NO_PATH)

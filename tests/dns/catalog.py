"""A delegate over plain records: the fixture of the reference answers, and whatever a test adds."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from discovery.model.errors import DiscoveryError, NoPathToDatacenter, NotFound
from discovery.model.records import (
    CheckServiceNode,
    Connect,
    HealthCheck,
    Node,
    NodeService,
    QueryDNS,
    ServiceAddress,
    ServiceNode,
    Weights,
)
from discovery.model.requests import (
    IndexedCheckServiceNodes,
    IndexedNodes,
    IndexedNodeServices,
    IndexedServiceNodes,
    NodeServices,
    PreparedQueryExecuteRequest,
    PreparedQueryExecuteResponse,
    QueryMeta,
    ServiceSpecificRequest,
)


class FakeWatch:
    def __init__(self) -> None:
        self.fired = False


class FakeAnswer(msgspec.Struct):
    reply: Any
    watch: FakeWatch | None


class StoredQuery(msgspec.Struct):
    id: str
    service: str
    tag: str = ""
    ttl: str = ""


class FakeCatalog:
    """Answers DNS's methods for each datacenter in `datacenters`. `failure` is raised instead, `last_contact` is nanoseconds.

    Blocking queries wait for any change; `blocked` tells how many do, and `silent` has them wait without end.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.instances: list[CheckServiceNode] = []
        self.queries: dict[str, StoredQuery] = {}
        self.datacenters = {"dc1"}
        self.asked: list[tuple[str, Any]] = []
        self.failure: DiscoveryError | None = None
        self.leading = True
        self.watching = True
        self.last_contact = 0
        self.watches: list[FakeWatch] = []
        self.gate: asyncio.Event | None = None
        self.index = 1
        self.blocked = 0
        self.silent = False
        self._news = asyncio.Event()

    # --- filling -----------------------------------------------------------------------------------------------------

    def node(self, name: str, address: str, *, meta: dict[str, str] | None = None, **tagged: str) -> Node:
        node = Node(node=name, address=address, datacenter="dc1", tagged_addresses=tagged or None, meta=meta)
        self.nodes.append(node)
        self.changed()
        return node

    def service(
        self,
        node: Node,
        name: str,
        port: int = 0,
        *,
        address: str = "",
        tags: Sequence[str] = (),
        status: str = "passing",
        weights: Weights | None = None,
        native: bool = False,
        tagged: dict[str, ServiceAddress] | None = None,
    ) -> None:
        service = NodeService(
            id=f"{name}-{len(self.instances)}",
            service=name,
            tags=list(tags),
            port=port,
            address=address,
            weights=weights,
            tagged_addresses=tagged,
            connect=Connect(native=native),
        )
        check = HealthCheck(node=node.node, check_id="c", status=status, service_id=service.id, service_name=name)
        self.instances.append(CheckServiceNode(node, service, [check]))
        self.changed()

    def remove(self, service: str) -> None:
        self.instances = [each for each in self.instances if each.service.service != service]
        self.changed()

    def changed(self) -> None:
        self.index += 1
        self._news.set()
        self._news = asyncio.Event()
        for watch in self.watches:
            watch.fired = True
        self.watches.clear()

    # --- answering ---------------------------------------------------------------------------------------------------

    def leads(self) -> bool:
        return self.leading

    async def call(self, method: str, request: Any) -> Any:
        return (await self.ask(method, request)).reply

    async def ask(self, method: str, request: Any) -> FakeAnswer:
        self.asked.append((method, request))
        if self.gate is not None:
            await self.gate.wait()
        if request.min_query_index >= self.index:
            await self._block(request.max_query_time / 1e9)
        if self.failure is not None:
            raise self.failure
        if request.datacenter not in self.datacenters:
            raise NoPathToDatacenter
        reply = getattr(self, "_" + method.replace(".", "_").lower())(request)
        last_contact = self.last_contact if request.allow_stale else 0
        reply = msgspec.structs.replace(reply, index=self.index, last_contact=last_contact)
        watch = FakeWatch() if self.watching and method != "PreparedQuery.Execute" else None
        if watch is not None:
            self.watches.append(watch)
        return FakeAnswer(reply, watch)

    async def _block(self, seconds: float) -> None:
        self.blocked += 1
        try:
            async with asyncio.timeout(None if self.silent else seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self.blocked -= 1

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        raise NotImplementedError

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        raise NotImplementedError

    def _catalog_nodeservices(self, request: Any) -> IndexedNodeServices:
        for node in self.nodes:
            if node.node.lower() == request.node.lower():
                return IndexedNodeServices(node_services=NodeServices(node=node))
        return IndexedNodeServices()

    def _catalog_listnodes(self, request: Any) -> IndexedNodes:
        return IndexedNodes(nodes=self.nodes)

    def _catalog_servicenodes(self, request: ServiceSpecificRequest) -> IndexedServiceNodes:
        found = [
            ServiceNode(node=each.node.node, service_id=each.service.id, service_name=each.service.service)
            for each in self.instances
            if each.service.address == request.service_address
        ]
        return IndexedServiceNodes(service_nodes=found)

    def _health_servicenodes(self, request: ServiceSpecificRequest) -> IndexedCheckServiceNodes:
        if request.ingress:
            return IndexedCheckServiceNodes()
        tags = (request.service_tags or []) if request.tag_filter else []
        return IndexedCheckServiceNodes(nodes=self._named(request.service_name, tags, connect=request.connect))

    def _preparedquery_execute(self, request: PreparedQueryExecuteRequest) -> PreparedQueryExecuteResponse:
        name = request.query_id_or_name
        found = self.queries.get(name) or next((query for query in self.queries.values() if query.id == name), None)
        if found is None:
            raise NotFound("Query not found")
        nodes = self._named(found.service, [found.tag] if found.tag else [], connect=False)
        return PreparedQueryExecuteResponse(service=found.service, nodes=nodes, dns=QueryDNS(ttl=found.ttl), datacenter="dc1")

    def _named(self, name: str, tags: Sequence[str], *, connect: bool) -> list[CheckServiceNode]:
        return [
            each
            for each in self.instances
            if each.service.service.lower() == name.lower()
            and (each.service.connect.native or not connect)
            and all(tag.lower() in [own.lower() for own in each.service.tags] for tag in tags)
        ]


NODE1_META = {"env": "prod", "rfc1035-loc": "verbatim text", "role": "a=b`c", "consul-network-segment": ""}
QUERY_ID = "8f246b77-f3e1-ff88-5b48-8ec93abf3e05"


def reference_catalog() -> FakeCatalog:
    """The fixture of the table of reference answers, the services of its size table, and some awkward ones."""
    catalog = FakeCatalog()
    lan = {"lan": "127.0.0.61", "lan_ipv4": "127.0.0.61", "wan": "127.0.0.61", "wan_ipv4": "127.0.0.61"}
    node1 = catalog.node("node1", "127.0.0.61", meta=NODE1_META, **lan)
    catalog.service(node1, "consul", 8300)
    catalog.service(node1, "web", 80, tags=["primary", "v1"])
    catalog.service(node1, "web", 81, tags=["v2"], address="10.1.2.3", weights=Weights(10, 2))
    catalog.service(node1, "web6", 443, address="2001:db8::1")
    catalog.service(node1, "ext", 8080, address="www.example.com")
    catalog.service(node1, "cnamesvc", 8081, address="web.service.consul")
    catalog.service(node1, "my_svc", 90)
    catalog.service(node1, "warnsvc", 91, status="warning")
    catalog.service(node1, "weightsvc", 91, status="warning", weights=Weights(5, 3))
    catalog.service(node1, "critsvc", 92, status="critical")
    catalog.service(node1, "UpCase", 93)
    catalog.service(node1, "mtag", 120, tags=["a.b", "MiXed"])
    for port in (130, 131, 130):
        catalog.service(node1, "dup", port)
    catalog.service(node1, "nat", 140, native=True)
    both = {"lan_ipv4": ServiceAddress("10.8.8.8", 110), "lan_ipv6": ServiceAddress("2001:db8::88", 110)}
    catalog.service(node1, "dual", 110, tagged=both)
    outside = {"lan_ipv6": "2001:db8::99", "wan": "198.51.100.9"}
    catalog.service(catalog.node("extnode", "172.20.1.9", meta={"external": "yes"}, **outside), "extsvc", 5000)
    ipv6node = catalog.node("ipv6node", "2001:db8::7")
    catalog.service(ipv6node, "v6svc", 5003)
    catalog.service(ipv6node, "v4on6", 5004, address="10.4.4.4")
    catalog.service(catalog.node("fqdnnode", "host.example.net"), "fqdnsvc", 5001)
    catalog.service(catalog.node("web.dotted", "172.20.1.11"), "dotsvc", 1)
    catalog.queries["webq"] = StoredQuery(QUERY_ID, "web", "primary", "7s")
    catalog.queries["dot.query"] = StoredQuery("", "web")
    _add_sized(catalog)
    _add_awkward(catalog)
    return catalog


def _add_sized(catalog: FakeCatalog) -> None:
    for number in range(12):
        catalog.service(catalog.node(f"b{number:02}", f"10.50.0.{number + 1}"), "big", 1000 + number)
    for number in range(60):
        catalog.service(catalog.node(f"huge{number:02}", f"10.60.0.{number + 1}"), "huge", 2000 + number)


def _add_awkward(catalog: FakeCatalog) -> None:
    catalog.service(catalog.node("self", "10.9.9.9"), "selfsvc", 7, address="selfsvc.service.consul")
    catalog.service(catalog.node("l1", "l2.node.consul"), "loopsvc", 7)
    catalog.node("l2", "l1.node.consul")
    catalog.service(catalog.node("metan", "10.9.9.10", meta={f"key{n}": "v" * 100 for n in range(10)}), "metas", 7)
    for name, address in (("metan2", "10.9.9.11"), ("metan3", "10.9.9.12")):
        catalog.service(catalog.node(name, address, meta={f"key{n}": "v" * 30 for n in range(4)}), "metas2", 7)
    catalog.service(catalog.node("bad_name", "10.9.9.13"), "mixhost", 7)
    catalog.service(catalog.node("bad_name2", "10.9.9.14"), "mixhost", 8, address="a.example.com")
    catalog.service(catalog.node("allhost1", "10.9.9.15"), "allhost", 8, address="a.example.com")
    catalog.service(catalog.node("allhost2", "10.9.9.16"), "allhost", 9, address="b.example.com")
    catalog.service(catalog.node("n" * 70, "10.9.9.17"), "longnode", 9)
    tagged6 = {"lan_ipv6": ServiceAddress("2001:db8::5", 1)}
    catalog.service(catalog.node("t1", "10.9.8.1"), "only6", 7, tagged=tagged6)
    catalog.service(catalog.node("t2", "10.9.8.2", lan_ipv6="2001:db8::6"), "nodetag", 7)
    catalog.service(catalog.node("t3", "10.9.8.3", lan_ipv6="2001:db8::7"), "svc4", 7, address="10.1.1.1")
    catalog.service(catalog.node("t4", "10.9.8.4", lan_ipv4="10.9.8.5"), "lan4", 7)
    tagged4 = {"lan_ipv4": ServiceAddress("10.2.2.2", 1)}
    catalog.service(catalog.node("t5", "10.9.8.6"), "hosttag", 7, address="h.example.com", tagged=tagged4)

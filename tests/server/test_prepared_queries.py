"""Where a prepared query finds its instances, and in which order."""

import random
from typing import Any

import msgspec
import pytest

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.errors import NoPathToDatacenter
from discovery.model.records import (
    CheckServiceNode,
    Coordinate,
    HealthCheck,
    Node,
    NodeService,
    PreparedQuery,
    QueryDNS,
    QueryFailover,
    QueryService,
)
from discovery.model.requests import QuerySource
from discovery.server.prepared_queries import PreparedQueries
from discovery.state.store import StateStore

NODES = ("n1", "n2", "n3", "n4")


class World:
    """Four instances of `web`, the nearer to `n1` the lower their number; `answers` are those of other datacenters."""

    def __init__(self) -> None:
        self.store = StateStore()
        self.asked: list[tuple[str, r.PreparedQueryExecuteRemoteRequest]] = []
        self.answers: dict[str, Any] = {}
        self.queries = PreparedQueries(
            store=self.store,
            datacenter="dc1",
            rng=random.Random(1),
            elsewhere=self.elsewhere,
            others=lambda: ["dc2", "dc3", "dc4"],
        )
        places = [
            (node, "", Coordinate(vec=[seconds] + [0.0] * 7))
            for node, seconds in zip(NODES, (0.00, 0.01, 0.03, 0.07), strict=True)
        ]
        self.store.apply([self.registered(node, f"10.0.0.{number}") for number, node in enumerate(NODES, 1)])
        self.store.apply([c.CoordinateBatch(places)])

    def registered(self, node: str, address: str, status: str = "passing") -> c.Register:
        check = HealthCheck(check_id="c", status=status, service_id="web")
        service = NodeService(id="web", service="web", tags=[node])
        return c.Register(r.RegisterRequest(node=node, address=address, service=service, check=check))

    def all_critical(self) -> None:
        self.store.apply([self.registered(node, f"10.0.0.{number}", "critical") for number, node in enumerate(NODES, 1)])

    async def elsewhere(self, datacenter: str, method: str, request: Any) -> Any:
        assert (method, request.datacenter) == ("PreparedQuery.ExecuteRemote", datacenter)
        self.asked.append((datacenter, request))
        answer = self.answers.get(datacenter, r.PreparedQueryExecuteResponse(nodes=[], datacenter=datacenter))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def execute(
        self, wanted: QueryService, source: QuerySource | None = None, **fields: Any
    ) -> r.PreparedQueryExecuteResponse:
        request = r.PreparedQueryExecuteRequest(
            source=source or QuerySource(), agent=QuerySource(datacenter="dc1", node="n3"), **fields
        )
        return await self.queries.execute(PreparedQuery(service=wanted, dns=QueryDNS(ttl="5s")), request)


def names(reply: r.PreparedQueryExecuteResponse) -> list[str]:
    return [item.node.node for item in reply.nodes or ()]


@pytest.fixture
def world() -> World:
    return World()


# --- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("near", "source", "first"),
    [
        ("n1", QuerySource(), ["n1", "n2", "n3", "n4"]),
        ("_agent", QuerySource(), ["n3", "n2", "n1", "n4"]),
        ("n1", QuerySource(node="n4"), ["n4", "n3", "n2", "n1"]),
        ("", QuerySource(datacenter="dc1", node="n4"), ["n4", "n3", "n2", "n1"]),
        ("_ip", QuerySource(ip="10.0.0.4"), ["n4", "n3", "n2", "n1"]),
        ("_ip", QuerySource(ip="10.9.9.9"), ["n3", "n2", "n1", "n4"]),
        ("_ip", QuerySource(), ["n3", "n2", "n1", "n4"]),
    ],
)
async def test_the_nearest_come_first(world: World, near: str, source: QuerySource, first: list[str]) -> None:
    reply = await world.execute(QueryService(service="web", near=near), source)
    assert names(reply) == first
    assert (reply.datacenter, reply.failovers, reply.dns.ttl) == ("dc1", 0, "5s")


async def test_the_limit_is_applied_after_the_order(world: World) -> None:
    assert names(await world.execute(QueryService(service="web", near="n1"), limit=2)) == ["n1", "n2"]


async def test_without_an_order_chance_decides(world: World) -> None:
    found = {tuple(names(await world.execute(QueryService(service="web")))) for _ in range(50)}
    assert len(found) > 5


async def test_callers_of_another_datacenter_get_no_order(world: World) -> None:
    source = QuerySource(datacenter="dc2", node="n1")
    found = {tuple(names(await world.execute(QueryService(service="web"), source))) for _ in range(50)}
    assert len(found) > 5


async def test_the_node_itself_comes_before_others_at_its_place(world: World) -> None:
    here = Coordinate(vec=[0.0] * 8)
    world.store.apply([c.CoordinateBatch([(node, "", here) for node in NODES])])
    assert {names(await world.execute(QueryService(service="web", near="n2")))[0] for _ in range(20)} == {"n2"}


async def test_tags(world: World) -> None:
    assert names(await world.execute(QueryService(service="web", tags=["n2"]))) == ["n2"]
    assert sorted(names(await world.execute(QueryService(service="web", tags=["!n2"])))) == ["n1", "n3", "n4"]


# --- other datacenters ---------------------------------------------------------------------------------------------

FAR = CheckServiceNode(Node(node="far"), NodeService(id="web", service="web"), [])


def found_in(datacenter: str) -> r.PreparedQueryExecuteResponse:
    return r.PreparedQueryExecuteResponse(service="web", nodes=[FAR], datacenter=datacenter)


@pytest.mark.parametrize(
    ("failover", "asked"),
    [
        (QueryFailover(), []),
        (QueryFailover(nearest_n=2), ["dc2", "dc3"]),
        (QueryFailover(nearest_n=9), ["dc2", "dc3", "dc4"]),
        (QueryFailover(datacenters=["dc4", "nowhere", "dc2", "dc4"]), ["dc4", "dc2"]),
        (QueryFailover(nearest_n=1, datacenters=["dc4", "dc2", "dc3"]), ["dc2", "dc4", "dc3"]),
    ],
)
async def test_which_datacenters_are_asked(world: World, failover: QueryFailover, asked: list[str]) -> None:
    reply = await world.execute(QueryService(service="none", failover=failover))
    assert [datacenter for datacenter, _ in world.asked] == asked
    assert (reply.nodes, reply.failovers, reply.datacenter) == ([], len(asked), asked[-1] if asked else "dc1")


async def test_the_first_that_has_healthy_instances_answers(world: World) -> None:
    world.answers = {"dc2": NoPathToDatacenter(), "dc4": found_in("dc4")}
    wanted = QueryService(service="web", failover=QueryFailover(nearest_n=3))
    assert (await world.execute(wanted)).datacenter == "dc1"
    world.all_critical()
    reply = await world.execute(wanted, limit=3, connect=True, token="t", allow_stale=True)
    assert (names(reply), reply.datacenter, reply.failovers) == (["far"], "dc4", 3)
    request = world.asked[-1][1]
    assert (request.limit, request.connect, request.token, request.allow_stale) == (3, True, "t", True)
    assert request.query.service == wanted


async def test_an_answer_for_another_datacenter(world: World) -> None:
    query = PreparedQuery(service=QueryService(service="web", near="n1", failover=QueryFailover(nearest_n=3)), dns=QueryDNS("3s"))
    request = r.PreparedQueryExecuteRemoteRequest(query=query, limit=3)
    found = {tuple(names(world.queries.execute_for_another(request))) for _ in range(50)}
    assert len(found) > 5
    reply = world.queries.execute_for_another(request)
    assert (reply.datacenter, reply.service, reply.dns.ttl, len(reply.nodes or ())) == ("dc1", "web", "3s", 3)
    world.all_critical()
    assert world.queries.execute_for_another(request).nodes == []
    assert world.asked == [], "it is not passed on again"
    assert msgspec.msgpack.encode(reply, enc_hook=int)

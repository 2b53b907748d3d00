import asyncio
from typing import Any

import pytest

from discovery.http.cache import ReadCache
from discovery.model.errors import RequestFailed
from discovery.model.records import CheckServiceNode, Coordinate, HealthCheck, Node, NodeCoordinate, NodeService, ServiceNode
from discovery.model.requests import (
    DeregisterRequest,
    Empty,
    IndexedCheckServiceNodes,
    IndexedCoordinates,
    IndexedHealthChecks,
    IndexedNodes,
    IndexedNodeServiceList,
    IndexedNodeServices,
    IndexedServiceNodes,
    IndexedServices,
    NodeServices,
    ServiceSpecificRequest,
)
from tests.http.conftest import World
from tests.http.fakes import META, FakeDelegate


def _instance(node: str, *statuses: str) -> CheckServiceNode:
    checks = [HealthCheck(node=node, check_id=f"c{i}", status=status) for i, status in enumerate(statuses)]
    return CheckServiceNode(node=Node(node=node), service=NodeService(id="w", service="w"), checks=checks)


def _at(node: str, x: float) -> NodeCoordinate:
    return NodeCoordinate(node=node, coord=Coordinate(vec=[x] + [0.0] * 7))


INSTANCES = [_instance("n1", "passing"), _instance("n2", "passing", "warning"), _instance("n3")]


@pytest.fixture(autouse=True)
def answers(world: World) -> None:
    world.delegate.answers |= {
        "Catalog.Register": Empty(),
        "Catalog.Deregister": Empty(),
        "Catalog.ListDatacenters": ["dc1"],
        "Catalog.ListNodes": IndexedNodes(nodes=[Node(node=name) for name in ("n1", "n2", "n3")], **META),
        "Catalog.ListServices": IndexedServices(services={"web": ["b", "a"], "consul": []}, **META),
        "Catalog.ServiceNodes": IndexedServiceNodes(service_nodes=[ServiceNode(node="n1", service_tags=["x"])], **META),
        "Catalog.NodeServices": IndexedNodeServices(**META),
        "Catalog.NodeServiceList": IndexedNodeServiceList(**META),
        "Health.ServiceNodes": IndexedCheckServiceNodes(nodes=INSTANCES, **META),
        "Health.ServiceChecks": IndexedHealthChecks(health_checks=[HealthCheck(check_id="a", status="passing")], **META),
        "Health.NodeChecks": IndexedHealthChecks(**META),
        "Health.ChecksInState": IndexedHealthChecks(**META),
        "Coordinate.ListNodes": IndexedCoordinates(coordinates=[_at("n1", 3.0), _at("n3", 1.0), _at("node1", 0.0)], **META),
    }


async def test_register(world: World) -> None:
    response = await world.put(
        "/v1/catalog/register",
        {"Node": "n", "Address": "a", "Service": {"Service": "w"}, "Check": {"Name": "c", "Definition": {"Interval": "10s"}}},
    )
    assert response.text == "true"
    asked = world.delegate.last
    assert (asked.node, asked.datacenter, asked.service.service) == ("n", "dc1", "w")
    assert asked.check.definition.interval == 10**10


@pytest.mark.parametrize("verb", ["register", "deregister"])
async def test_only_the_datacenter_of_the_body_counts(world: World, verb: str) -> None:
    await world.put(f"/v1/catalog/{verb}?dc=dc3", {"Node": "n", "Datacenter": "dc2"})
    assert world.delegate.last.datacenter == "dc2"
    await world.put(f"/v1/catalog/{verb}?dc=dc3", {"Node": "n"})
    assert world.delegate.last.datacenter == "dc1"


async def test_deregister(world: World) -> None:
    body = {"Node": "n", "ServiceID": "w", "CheckID": "c", "Address": "unused"}
    assert (await world.put("/v1/catalog/deregister", body)).text == "true"
    assert world.delegate.last == DeregisterRequest(datacenter="dc1", node="n", service_id="w", check_id="c")


@pytest.mark.parametrize("target", ["/v1/catalog/register", "/v1/catalog/deregister"])
async def test_unknown_fields_are_refused(world: World, target: str) -> None:
    response = await world.put(target, {"Node": "n", "Bogus": 1})
    assert (response.status, response.text) == (400, 'Request decode failed: json: unknown field "Bogus"')
    assert world.delegate.calls == []


async def test_datacenters_have_no_meta_headers(world: World) -> None:
    response = await world.get("/v1/catalog/datacenters")
    assert response.json() == ["dc1"]
    assert "X-Consul-Index" not in response.headers


async def test_nodes(world: World) -> None:
    response = await world.get("/v1/catalog/nodes?node-meta=rack:r1:x&node-meta=flag&filter=Node+!=+n2")
    assert [node["Node"] for node in response.json()] == ["n1", "n3"]
    assert world.delegate.last.node_meta_filters == {"rack": "r1:x", "flag": ""}
    assert response.headers["X-Consul-Effective-Consistency"] == "leader"


@pytest.mark.parametrize(
    ("near", "order"), [("n3", ["n3", "n1", "n2"]), ("_agent", ["n3", "n1", "n2"]), ("unknown", ["n1", "n2", "n3"])]
)
async def test_near(world: World, near: str, order: list[str]) -> None:
    nodes = (await world.get(f"/v1/catalog/nodes?near={near}")).json()
    assert [node["Node"] for node in nodes] == order


async def test_answers_sorted_by_distance_are_not_kept(world: World) -> None:
    for _ in range(3):
        await world.get("/v1/catalog/nodes?near=n3")
    assert world.server.fast_hits == 0


async def test_services(world: World) -> None:
    assert (await world.get("/v1/catalog/services")).text == '{"consul":[],"web":["b","a"]}'


async def test_services_by_a_filter_over_their_instances(world: World) -> None:
    def instance(node: str, service: str, *tags: str) -> CheckServiceNode:
        found = Node(node=node, meta={"rack": node})
        return CheckServiceNode(node=found, service=NodeService(id=service, service=service, tags=[*tags]), checks=[])

    dump = [instance("n1", "web", "b", "a"), instance("n2", "web", "a", "c"), instance("n2", "db", "a")]
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=dump, **META)
    for query, found in (
        ("filter=a+in+ServiceTags", {"web": ["b", "a", "c"], "db": ["a"]}),
        ("filter=b+in+ServiceTags", {"web": ["b", "a"]}),
        ("filter=a+in+ServiceTags&node-meta=rack:n2", {"web": ["a", "c"], "db": ["a"]}),
        ("filter=Node+==+n3", {}),
    ):
        response = await world.get(f"/v1/catalog/services?{query}")
        assert (response.json(), response.headers["X-Consul-Index"]) == (found, "7")


@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("catalog/nodes", []),
        ("catalog/services", {}),
        ("catalog/service/web", []),
        ("catalog/node/n1", None),
        ("health/service/w", []),
        ("health/service/w?cached", []),
        ("health/checks/w", []),
    ],
)
async def test_nothing_was_imported_from_a_peer(world: World, path: str, empty: object) -> None:
    separator = "&" if "?" in path else "?"
    response = await world.get(f"/v1/{path}{separator}peer=other")
    assert (response.json(), response.headers["X-Consul-Index"]) == (empty, "7")
    assert (await world.get(f"/v1/{path}{separator}peer=")).json() == (await world.get(f"/v1/{path}")).json()


async def test_service(world: World) -> None:
    response = await world.get("/v1/catalog/service/web?tag=a&tag=b&filter=x+in+ServiceTags")
    asked = world.delegate.last
    assert (asked.service_name, asked.service_tags, asked.service_tag, asked.tag_filter) == ("web", ["a", "b"], "a", True)
    assert len(response.json()) == 1


async def test_an_empty_tag_is_a_tag(world: World) -> None:
    await world.get("/v1/catalog/service/web?tag=")
    assert (world.delegate.last.service_tags, world.delegate.last.tag_filter) == ([""], True)


async def test_connect(world: World) -> None:
    await world.get("/v1/catalog/connect/web")
    assert world.delegate.last.connect


async def test_unknown_node(world: World) -> None:
    assert (await world.get("/v1/catalog/node/n")).text == "null"
    assert (await world.get("/v1/catalog/node-services/n")).text == '{"Node":null,"Services":null}'


async def test_services_of_a_node_are_filtered(world: World) -> None:
    services = {name: NodeService(id=name, service=name) for name in ("a", "b")}
    world.delegate.answers["Catalog.NodeServices"] = IndexedNodeServices(
        node_services=NodeServices(node=Node(node="n"), services=services), **META
    )
    found = (await world.get("/v1/catalog/node/n?filter=Service+==+b")).json()
    assert list(found["Services"]) == ["b"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/v1/catalog/service/", "Missing service name"),
        ("/v1/catalog/connect/", "Missing service name"),
        ("/v1/catalog/node/", "Missing node name"),
        ("/v1/catalog/node-services/", "Missing node name"),
        ("/v1/catalog/gateway-services/", "Missing gateway name"),
        ("/v1/health/node/", "Missing node name"),
        ("/v1/health/checks/", "Missing service name"),
        ("/v1/health/service/", "Missing service name"),
        ("/v1/health/connect/", "Missing service name"),
        ("/v1/health/ingress/", "Missing service name"),
        ("/v1/health/state/", "Missing check state"),
    ],
)
async def test_missing_names(world: World, target: str, text: str) -> None:
    response = await world.get(target)
    assert (response.status, response.text) == (400, text)


@pytest.mark.parametrize(
    ("query", "nodes"),
    [
        ("", ["n1", "n2", "n3"]),
        ("?passing", ["n1", "n3"]),
        ("?passing=1", ["n1", "n3"]),
        ("?passing=true", ["n1", "n3"]),
        ("?passing=false", ["n1", "n2", "n3"]),
        ("?filter=Checks.Status==warning", ["n2"]),
        ("?near=n3", ["n3", "n1", "n2"]),
    ],
)
async def test_health_of_a_service(world: World, query: str, nodes: list[str]) -> None:
    found = (await world.get(f"/v1/health/service/w{query}")).json()
    assert [item["Node"]["Node"] for item in found] == nodes


async def test_bad_passing(world: World) -> None:
    response = await world.get("/v1/health/service/w?passing=maybe")
    assert (response.status, response.text) == (400, "Invalid value for ?passing")


async def test_ingress(world: World) -> None:
    await world.get("/v1/health/ingress/w")
    assert (world.delegate.last.ingress, world.delegate.last.connect) == (True, False)


@pytest.mark.parametrize(
    ("target", "method", "field", "value"),
    [
        ("/v1/health/node/n1", "Health.NodeChecks", "node", "n1"),
        ("/v1/health/checks/w", "Health.ServiceChecks", "service_name", "w"),
        ("/v1/health/state/any", "Health.ChecksInState", "state", "any"),
    ],
)
async def test_checks(world: World, target: str, method: str, field: str, value: str) -> None:
    response = await world.get(target)
    assert response.status == 200
    assert (world.delegate.calls[-1][0], getattr(world.delegate.last, field)) == (method, value)


async def test_a_bad_filter(world: World) -> None:
    response = await world.get("/v1/health/checks/w?filter=Foo==x")
    assert response.status == 500
    assert response.text == 'Failed to create boolean expression evaluator: Selector "Foo" is not valid'
    assert response.headers["X-Consul-Knownleader"] == "false"


# --- the agent's cache ---------------------------------------------------------------------------------------------


async def test_cached_reads(world: World) -> None:
    asked: list[int] = []
    newer = asyncio.Event()

    async def answer(request: Any) -> IndexedCheckServiceNodes:
        asked.append(request.min_query_index)
        if request.min_query_index == 7:
            await newer.wait()
            return IndexedCheckServiceNodes(nodes=INSTANCES[:1], **(META | {"index": 9}))
        if request.min_query_index:
            await asyncio.Event().wait()
        return IndexedCheckServiceNodes(nodes=INSTANCES, **META)

    world.delegate.answers["Health.ServiceNodes"] = answer
    first = await world.get("/v1/health/service/w?cached")
    assert (first.headers["X-Cache"], "Age" in first.headers) == ("MISS", False)
    second = await world.get("/v1/health/service/w?cached&stale")
    assert [answer.headers["X-Consul-Effective-Consistency"] for answer in (first, second)] == ["leader", "stale"]
    assert (second.headers["X-Cache"], second.headers["Age"]) == ("HIT", "0")
    assert asked == [0, 7]
    other = await world.connect()
    waiting = asyncio.create_task(other.request("GET", "/v1/health/service/w?cached&index=7"))
    newer.set()
    response = await asyncio.wait_for(waiting, 5)
    assert (response.headers["X-Consul-Index"], len(response.json())) == ("9", 1)
    assert (await world.get("/v1/health/service/other?cached")).headers["X-Cache"] == "MISS"


async def test_a_cached_wait_runs_out(world: World) -> None:
    async def answer(request: Any) -> IndexedCheckServiceNodes:
        if request.min_query_index:
            await asyncio.Event().wait()
        return IndexedCheckServiceNodes(nodes=INSTANCES, **META)

    world.delegate.answers["Health.ServiceNodes"] = answer
    await world.get("/v1/health/service/w?cached")
    response = await world.get("/v1/health/service/w?cached&index=7&wait=10ms")
    assert (response.headers["X-Consul-Index"], response.headers["X-Cache"], "Age" in response.headers) == ("7", "MISS", False)
    assert (await world.get("/v1/health/service/w?cached&index=6")).headers["X-Cache"] == "HIT"


async def test_a_lower_index_ends_a_cached_wait(world: World) -> None:
    """After a restore."""
    restored = asyncio.Event()

    async def answer(request: Any) -> IndexedCheckServiceNodes:
        if request.min_query_index == 7:
            await restored.wait()
        elif request.min_query_index:
            await asyncio.Event().wait()
        return IndexedCheckServiceNodes(nodes=INSTANCES, **META | {"index": 2 if restored.is_set() else 7})

    world.delegate.answers["Health.ServiceNodes"] = answer
    await world.get("/v1/health/service/w?cached")
    other = await world.connect()
    waiting = asyncio.create_task(other.request("GET", "/v1/health/service/w?cached&index=7"))
    await world.get("/v1/status/leader")
    restored.set()
    assert (await asyncio.wait_for(waiting, 5)).headers["X-Consul-Index"] == "2"


async def test_the_age_of_what_is_followed_counts_from_the_loss_of_contact() -> None:
    lose, now = asyncio.Event(), 0.0

    async def answer(request: Any) -> IndexedCheckServiceNodes:
        if request.min_query_index:
            await lose.wait()
            raise RequestFailed("gone")
        return IndexedCheckServiceNodes(nodes=INSTANCES, **META)

    delegate = FakeDelegate()
    delegate.answers["Health.ServiceNodes"] = answer
    cache = ReadCache(delegate, lambda: now)

    async def age() -> int | None:
        return (await cache.refreshed("Health.ServiceNodes", ServiceSpecificRequest(service_name="w"))).age

    ages = [await age()]
    now = 300.0
    ages.append(await age())
    lose.set()
    for _ in range(5):
        await asyncio.sleep(0)
    now = 340.0
    ages.append(await age())
    cache.close()
    assert ages == [None, 0, 40]


async def test_cache_control_of_simple_reads(world: World) -> None:
    target = "/v1/catalog/datacenters?cached"
    states = [
        (await world.get(target)).headers["X-Cache"],
        (await world.get(target)).headers["X-Cache"],
        (await world.get(target, Cache_Control="must-revalidate")).headers["X-Cache"],
        (await world.get(target, Cache_Control="max-age=0")).headers["X-Cache"],
        (await world.get(target, Cache_Control="max-age=100")).headers["X-Cache"],
    ]
    assert states == ["MISS", "HIT", "MISS", "MISS", "HIT"]
    world.delegate.answers["Catalog.ListDatacenters"] = ConnectionError
    for other in (target, "/v1/catalog/services", "/v1/kv/a?raw"):
        response = await world.get(other, Cache_Control="max-age=x")
        assert (response.status, response.text) == (400, "Invalid Cache-Control header.")


async def test_caching_can_be_switched_off(world: World) -> None:
    from discovery.http.options import HttpOptions

    world.server.reconfigure(HttpOptions(use_cache=False))
    assert "X-Cache" not in (await world.get("/v1/catalog/services?cached")).headers

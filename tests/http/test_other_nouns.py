"""Events, coordinates, operator, snapshot, queries, configuration entries, intentions, UI, ACLs."""

import asyncio
from typing import Any

import pytest

from discovery.http.options import HttpOptions
from discovery.model.duration import Duration
from discovery.model.errors import NotFound, RequestFailed
from discovery.model.records import (
    AutopilotConfig,
    CheckServiceNode,
    Coordinate,
    HealthCheck,
    Intention,
    Node,
    NodeCoordinate,
    NodeService,
    PreparedQuery,
    QueryService,
)
from discovery.model.requests import (
    DatacenterMap,
    Empty,
    IndexedCheckServiceNodes,
    IndexedConfigEntries,
    IndexedCoordinates,
    IndexedIntentionMatches,
    IndexedIntentions,
    IndexedNodeDump,
    IndexedPreparedQueries,
    IntentionCheckResponse,
    NodeInfo,
    OperatorHealthReply,
    PreparedQueryExecuteResponse,
    PreparedQueryExplainResponse,
    RaftConfigurationResponse,
)
from tests.http.conftest import World
from tests.http.fakes import META

ID = "11111111-2222-3333-4444-555555555555"
PLACE = NodeCoordinate(node="n", coord=Coordinate(vec=[0.5] + [0.0] * 7))
A_TO_B = Intention(id=ID, source_ns="default", source_name="a", destination_name="b", action="deny", precedence=9)


@pytest.fixture(autouse=True)
def answers(world: World) -> None:
    world.delegate.answers |= {
        "Coordinate.ListDatacenters": [DatacenterMap("dc1", "wan", [PLACE])],
        "Coordinate.ListNodes": IndexedCoordinates(coordinates=[PLACE], **META),
        "Coordinate.Node": IndexedCoordinates(**META),
        "Coordinate.Update": Empty(),
        "Operator.RaftGetConfiguration": RaftConfigurationResponse(),
        "Operator.RaftRemovePeerByID": Empty(),
        "Operator.AutopilotGetConfiguration": AutopilotConfig(last_contact_threshold=Duration.parse("200ms")),
        "Operator.AutopilotSetConfiguration": True,
        "Operator.ServerHealth": OperatorHealthReply(healthy=True),
        "PreparedQuery.Apply": ID,
        "PreparedQuery.List": IndexedPreparedQueries(**META),
        "PreparedQuery.Get": NotFound("Query not found"),
        "ConfigEntry.Apply": True,
        "ConfigEntry.Get": IndexedConfigEntries(**META),
        "ConfigEntry.List": IndexedConfigEntries(entries=[{"Kind": "service-defaults"}], **META),
        "Intention.Apply": ID,
        "Intention.List": IndexedIntentions(intentions=[A_TO_B], **META),
        "Intention.Get": IndexedIntentions(intentions=[A_TO_B], **META),
        "Intention.Match": IndexedIntentionMatches(matches=[[A_TO_B]], **META),
        "Intention.Check": IntentionCheckResponse(allowed=True),
    }


# --- events --------------------------------------------------------------------------------------------------------


async def test_fire_and_list(world: World) -> None:
    fired = (await world.put("/v1/event/fire/deploy?node=n.*", b"v1")).json()
    assert fired == {
        "ID": "00000000-0000-0000-0000-000000000001", "Name": "deploy", "Payload": "djE=", "NodeFilter": "n.*",
        "ServiceFilter": "", "TagFilter": "", "Version": 1, "LTime": 0,
    }  # fmt: skip
    await world.put("/v1/event/fire/other")
    assert [event["Name"] for event in (await world.get("/v1/event/list")).json()] == ["deploy", "other"]
    assert [event["Payload"] for event in (await world.get("/v1/event/list?name=other")).json()] == [None]


async def test_waiting_for_an_event(world: World) -> None:
    await world.put("/v1/event/fire/one")
    index = (await world.get("/v1/event/list")).headers["X-Consul-Index"]
    waiting = asyncio.create_task(world.get(f"/v1/event/list?index={index}"))
    other = await world.connect()
    await other.request("GET", "/v1/nothing")
    await other.request("PUT", "/v1/event/fire/two")
    response = await asyncio.wait_for(waiting, 5)
    assert len(response.json()) == 2
    assert response.headers["X-Consul-Index"] != index
    again = await world.get(f"/v1/event/list?index={response.headers['X-Consul-Index']}&wait=10ms")
    assert again.headers["X-Consul-Index"] == response.headers["X-Consul-Index"]


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("", 400, "Missing name"),
        ("e?tag=t", 500, "Cannot provide tag filter without service filter"),
        ("e?service=s&tag=[", 500, "Invalid tag filter: error parsing regexp: missing closing ]: `[`"),
    ],
)
async def test_bad_events(world: World, target: str, status: int, text: str) -> None:
    response = await world.put(f"/v1/event/fire/{target}")
    assert (response.status, response.text[: len(text)]) == (status, text)
    assert world.agent.user_events == []


# --- coordinates ---------------------------------------------------------------------------------------------------


async def test_coordinates(world: World) -> None:
    assert (await world.get("/v1/coordinate/datacenters")).json()[0]["AreaID"] == "wan"
    assert (await world.get("/v1/coordinate/nodes")).json()[0]["Node"] == "n"
    assert (await world.get("/v1/coordinate/nodes?segment=x")).text == "[]"
    missing = await world.get("/v1/coordinate/node/nobody")
    assert (missing.status, missing.body, "X-Consul-Index" in missing.headers) == (404, b"", False)


@pytest.mark.parametrize("target", ["/v1/coordinate/node/nobody", "/v1/internal/ui/node/nobody"])
async def test_clients_that_accept_gzip_see_the_index_of_what_is_missing(world: World, target: str) -> None:
    world.delegate.answers["Internal.NodeInfo"] = IndexedNodeDump(**META)
    missing = await world.get(target, Accept_Encoding="gzip")
    assert (missing.status, missing.body, "X-Consul-Index" in missing.headers) == (404, b"", True)


async def test_coordinate_update(world: World) -> None:
    coord = {"Vec": [0.5] * 8, "Error": 1, "Adjustment": 0, "Height": 0}
    assert (await world.put("/v1/coordinate/update", {"Node": "n", "Coord": coord})).body == b""
    assert world.delegate.last.coord == Coordinate(vec=[0.5] * 8, error=1.0)
    for bad in ({"Node": "n"}, {"Node": "n", "Coord": {"Vec": [1]}}):
        response = await world.put("/v1/coordinate/update", bad)
        assert (response.status, response.text) == (500, "incompatible coordinate")


async def test_coordinates_can_be_off(world: World) -> None:
    world.server.reconfigure(HttpOptions(coordinates=False))
    response = await world.get("/v1/coordinate/nodes")
    assert (response.status, response.text) == (401, "Coordinate support disabled")


# --- operator, snapshot --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Bad request: Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"),
        ("?id=a&address=b", "Bad request: Must specify only one of ?id or ?address"),
    ],
)
async def test_remove_peer_refused(world: World, query: str, text: str) -> None:
    response = await world.request("DELETE", f"/v1/operator/raft/peer{query}")
    assert (response.status, response.text) == (400, text)


async def test_remove_peer(world: World) -> None:
    assert (await world.request("DELETE", "/v1/operator/raft/peer?id=x")).body == b""
    assert world.delegate.last.id == "x"
    assert (await world.request("DELETE", "/v1/operator/raft/peer?id=")).status == 200
    assert world.delegate.last.id == ""


async def test_autopilot(world: World) -> None:
    assert (await world.get("/v1/operator/autopilot/configuration")).json()["LastContactThreshold"] == "200ms"
    assert (await world.put("/v1/operator/autopilot/configuration?cas=5", {"MaxTrailingLogs": 3})).text == "true"
    assert (world.delegate.last.cas, world.delegate.last.config.modify_index) == (True, 5)
    assert world.delegate.last.config.server_stabilization_time == 0
    bad = await world.put("/v1/operator/autopilot/configuration?cas=x", {})
    assert (bad.status, bad.text) == (
        400,
        'Bad request: Error parsing cas value: strconv.ParseUint: parsing "x": invalid syntax',
    )
    assert (
        await world.put("/v1/operator/autopilot/configuration", b"")
    ).text == "Bad request: Error parsing autopilot config: EOF"


@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 429)])
async def test_autopilot_health(world: World, healthy: bool, status: int) -> None:
    world.delegate.answers["Operator.ServerHealth"] = OperatorHealthReply(healthy=healthy)
    response = await world.get("/v1/operator/autopilot/health")
    assert (response.status, response.json()["Healthy"]) == (status, healthy)


async def test_snapshot(world: World) -> None:
    saved = await world.get("/v1/snapshot", Accept_Encoding="gzip")
    assert (saved.body, saved.headers["Content-Type"], saved.headers["X-Consul-Index"]) == (b"archive", "application/x-gzip", "7")
    assert (await world.put("/v1/snapshot", b"z" * 3_000_000)).body == b""
    assert world.delegate.restored == b"z" * 3_000_000


# --- prepared queries ----------------------------------------------------------------------------------------------


async def test_query_life(world: World) -> None:
    assert (await world.request("POST", "/v1/query", {"Name": "q", "Service": {"Service": "w"}})).json() == {"ID": ID}
    assert (world.delegate.last.op, world.delegate.last.query) == (
        "create",
        PreparedQuery(name="q", service=QueryService(service="w")),
    )
    assert (await world.put(f"/v1/query/{ID}", {"Name": "q2"})).body == b""
    assert (world.delegate.last.op, world.delegate.last.query.id) == ("update", ID)
    assert (await world.request("DELETE", f"/v1/query/{ID}")).body == b""
    assert (world.delegate.last.op, world.delegate.last.query.id) == ("delete", ID)
    assert (await world.get("/v1/query")).text == "[]"


async def test_unknown_query(world: World) -> None:
    response = await world.get(f"/v1/query/{ID}")
    assert (response.status, response.text, "X-Consul-Index" in response.headers) == (404, "Query not found", False)


async def test_execute(world: World) -> None:
    instance = CheckServiceNode(node=Node(node="n"), service=NodeService(id="w"), checks=[HealthCheck(check_id="c")])
    world.delegate.answers["PreparedQuery.Execute"] = PreparedQueryExecuteResponse(
        service="w", nodes=[instance], datacenter="dc1", known_leader=True, consistency_level="leader"
    )
    response = await world.get("/v1/query/a%2Fb/execute?limit=2&connect=true", X_Forwarded_For="10.1.1.1, 10.2.2.2")
    found = response.json()
    assert (found["Nodes"][0]["Service"]["Tags"], found["Nodes"][0]["Checks"][0]["ServiceTags"]) == (None, None)
    assert [found[key] for key in ("Index", "LastContact", "KnownLeader", "ConsistencyLevel")] == [0, 0, True, "leader"]
    assert response.headers["X-Consul-Index"] == "1"
    asked = world.delegate.last
    assert (asked.query_id_or_name, asked.limit, asked.connect, asked.source.ip) == ("a/b", 2, True, "10.1.1.1")
    assert asked.agent.node == "node1"
    for value, meant in (("", False), ("=", False), ("=0", False), ("=T", True)):
        await world.get(f"/v1/query/q/execute?connect{value}")
        assert world.delegate.last.connect is meant
    bad = await world.get("/v1/query/q/execute?connect=x")
    assert (bad.status, bad.text) == (500, "Error parsing 'connect' value: strconv.ParseBool: parsing \"x\": invalid syntax")
    bad = await world.get("/v1/query/q/execute?limit=x")
    assert (bad.status, bad.text) == (500, 'Bad limit: strconv.Atoi: parsing "x": invalid syntax')


@pytest.mark.parametrize("action", ["execute", "explain"])
async def test_what_a_query_means_can_only_be_read(world: World, action: str) -> None:
    for method in ("PUT", "POST", "DELETE"):
        refused = await world.request(method, f"/v1/query/q/{action}")
        assert (refused.status, refused.headers["Allow"]) == (405, "GET")
    assert (await world.request("OPTIONS", f"/v1/query/q/{action}")).headers["Allow"] == "OPTIONS,GET"


async def test_explain(world: World) -> None:
    world.delegate.answers["PreparedQuery.Explain"] = PreparedQueryExplainResponse(
        query=PreparedQuery(name="q"), known_leader=True
    )
    assert (await world.get("/v1/query/q/explain")).json()["Query"]["Name"] == "q"


# --- configuration entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (
            {"kind": "service-defaults", "name": "w", "protocol": "http", "mesh_gateway": {"mode": "local"}},
            {"Kind": "service-defaults", "Name": "w", "Protocol": "http", "MeshGateway": {"Mode": "local"}, "Expose": {}},
        ),
        (
            {"Kind": "proxy-defaults", "Name": "other", "Config": {"a": 1}},
            {"Kind": "proxy-defaults", "Name": "other", "Config": {"a": 1}, "MeshGateway": {}, "Expose": {}},
        ),
        (
            {"Kind": "service-resolver", "Name": "w", "ConnectTimeout": "3s", "Subsets": {"v1": {"Filter": "f"}}},
            {"Kind": "service-resolver", "Name": "w", "ConnectTimeout": "3s", "Subsets": {"v1": {"Filter": "f"}}},
        ),
        (
            {"Kind": "service-splitter", "Name": "w", "Splits": [{"weight": 90, "service_subset": "v1"}, {"Weight": 9.5}]},
            {"Kind": "service-splitter", "Name": "w", "Splits": [{"Weight": 90, "ServiceSubset": "v1"}, {"Weight": 9.5}]},
        ),
        (
            {"Kind": "ingress-gateway", "Name": "g", "Listeners": [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "w"}]}]},
            {
                "Kind": "ingress-gateway", "Name": "g", "TLS": {"Enabled": False},
                "Listeners": [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "w", "Hosts": None}]}],
            },
        ),
    ],
)  # fmt: skip
async def test_config_documents(world: World, body: Any, document: dict[str, Any]) -> None:
    assert (await world.put("/v1/config", body)).text == "true"
    assert (world.delegate.last.op, world.delegate.last.entry) == ("upsert", document)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"Protocol": 5}, {"Protocol": "5"}),
        ({"Protocol": True}, {"Protocol": "1"}),
        ({"Protocol": 1e6}, {"Protocol": "1000000"}),
        ({"Protocol": 2.5}, {"Protocol": "2.5"}),
        ({"Protocol": ["http"]}, {"Protocol": "http"}),
        ({"Meta": {"a": 5}}, {"Meta": {"a": "5"}}),
        ({"Expose": [{"Checks": "t"}]}, {"Expose": {"Checks": True}}),
        ({"Expose": {"Checks": 0}}, {"Expose": {}}),
        ({"expose": {"paths": {"path": "/x", "listener_port": "0x10", "local_path_port": 7.9}}},
         {"Expose": {"Paths": [{"Path": "/x", "ListenerPort": 16, "LocalPathPort": 7, "ParsedFromCheck": False}]}}),
        ({"Kind": "service-splitter", "Splits": {"Weight": "99.5"}}, {"Splits": [{"Weight": 99.5}]}),
        ({"Kind": "service-resolver", "Subsets": [{"v1": {}}, {"v2": {"OnlyPassing": "1"}}]},
         {"Subsets": {"v1": {}, "v2": {"OnlyPassing": True}}}),
        ({"Kind": "service-resolver", "Failover": {"*": {"Datacenters": "dc2"}}}, {"Failover": {"*": {"Datacenters": ["dc2"]}}}),
        ({"Kind": "service-resolver", "Subsets": []}, {}),
    ],
)  # fmt: skip
async def test_config_documents_of_inexact_types(world: World, given: dict[str, Any], kept: dict[str, Any]) -> None:
    response = await world.put("/v1/config", {"Kind": "service-defaults", "Name": "w"} | given)
    assert response.text == "true"
    document = world.delegate.last.entry
    assert {name: document[name] for name in kept} == kept


@pytest.mark.parametrize(
    "given",
    [
        {"Protocol": ["a", "b"]},
        {"Protocol": {"a": "b", "c": {}}},
        {"Expose": []},
        {"Expose": "x"},
        {"Expose": {"Checks": "bogus"}},
        {"Expose": {"Paths": [{"ListenerPort": ""}]}},
        {"Expose": {"Paths": [{"ListenerPort": "x"}]}},
        {"Kind": "service-splitter", "Splits": [{"Weight": "x"}]},
        {"Kind": "service-resolver", "ConnectTimeout": ""},
    ],
)
async def test_what_cannot_pass_for_a_config_document(world: World, given: dict[str, Any]) -> None:
    response = await world.put("/v1/config", {"Kind": "service-defaults", "Name": "w"} | given)
    assert (response.status, response.text.startswith("Bad request: Request decoding failed: ")) == (400, True)


async def test_config_cas(world: World) -> None:
    await world.put("/v1/config?cas=0", {"Kind": "service-defaults", "Name": "w"})
    assert (world.delegate.last.op, world.delegate.last.cas) == ("upsert-cas", 0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"[]", "'' expected a map, got 'slice'"),
        (b'{"Kind": 5}', "Kind value in payload is not a string"),
        (
            {"Kind": "service-router", "Name": "w", "Routes": [{"Mach": {}}], "Namespace": "n", "connect": 1},
            '3 errors occurred:\n\t* invalid config key "Routes[0].Mach"\n\t* invalid config key "Namespace", namespaces are a '
            'consul enterprise feature\n\t* invalid config key "connect"\n\n',
        ),
        (b"null", "Payload does not contain a kind/Kind key at the top level"),
        ({"Name": "w"}, "Payload does not contain a kind/Kind key at the top level"),
        ({"Kind": "bogus"}, "invalid config entry kind: bogus"),
        ({"Kind": "service-defaults", "Bogus": 1}, '1 error occurred:\n\t* invalid config key "Bogus"\n\n'),
    ],
)
async def test_bad_config(world: World, body: Any, text: str) -> None:
    response = await world.put("/v1/config", body)
    assert (response.status, response.text) == (400, f"Bad request: Request decoding failed: {text}")


async def test_config_reads(world: World) -> None:
    missing = await world.get("/v1/config/service-defaults/w")
    assert (missing.status, missing.text) == (404, 'Config entry not found for "service-defaults" / "w"')
    assert missing.headers["X-Consul-Index"] == "7"
    assert len((await world.get("/v1/config/service-defaults")).json()) == 1
    assert len((await world.get("/v1/config/")).json()) == 1
    bad = await world.get("/v1/config/bogus")
    assert (bad.status, bad.text) == (500, "invalid config entry kind: bogus")


async def test_config_delete(world: World) -> None:
    assert (await world.request("DELETE", "/v1/config/service-defaults/w")).text == "{}"
    assert world.delegate.last.op == "delete"
    for met in (True, False):
        world.delegate.answers["ConfigEntry.Apply"] = met
        assert (await world.request("DELETE", "/v1/config/service-defaults/w?cas=7")).text == str(met).lower()
        assert (world.delegate.last.op, world.delegate.last.cas) == ("delete-cas", 7)
    assert (await world.request("DELETE", "/v1/config/service-defaults/w?cas=x")).status == 500
    missing = await world.request("DELETE", "/v1/config/service-defaults")
    assert (missing.status, missing.text) == (404, "Must provide both a kind and name to delete")


# --- intentions ----------------------------------------------------------------------------------------------------


async def test_intention_life(world: World) -> None:
    body = {"SourceName": "a", "DestinationName": "b", "Action": "allow"}
    assert (await world.request("POST", "/v1/connect/intentions", body)).json() == {"ID": ID}
    assert (world.delegate.last.op, world.delegate.last.intention.source_name) == ("create", "a")
    assert (await world.put(f"/v1/connect/intentions/{ID}", body)).json() == {"ID": ID}
    assert (world.delegate.last.op, world.delegate.last.intention.id) == ("update", ID)
    assert (await world.get(f"/v1/connect/intentions/{ID}")).json()["Action"] == "deny"
    assert len((await world.get("/v1/connect/intentions?filter=Precedence==9")).json()) == 1
    assert (await world.request("DELETE", f"/v1/connect/intentions/{ID}")).text == "true"


async def test_bad_intention_bodies(world: World) -> None:
    response = await world.request("POST", "/v1/connect/intentions", {"Bogus": 1})
    assert (response.status, response.text) == (500, 'Failed to decode request body: json: unknown field "Bogus"')
    response = await world.put(f"/v1/connect/intentions/{ID}", {"Bogus": 1})
    assert (response.status, response.text) == (400, 'Bad request: Request decode failed: json: unknown field "Bogus"')


async def test_an_intention_id_that_is_none(world: World) -> None:
    world.delegate.answers["Intention.Get"] = RequestFailed("failed intention lookup: index error: UUID must be 36 characters")
    response = await world.get("/v1/connect/intentions/x")
    assert (response.status, response.text[:29]) == (400, "Bad request: failed intention")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("match?name=a", "required query parameter 'by' not set"),
        ("match?by=source&by=source&name=a", "required query parameter 'by' not set"),
        ("match?by=source&name=a/b/c", "name \"a/b/c\" is invalid: input can contain at most one '/'"),
        ("check?source=a/b/c&destination=a", "source \"a/b/c\" is invalid: input can contain at most one '/'"),
        ("check?source=a&source=b&destination=a", "required query parameter 'source' not set"),
        ("match?by=colour&name=a", "'by' parameter must be one of 'source' or 'destination'"),
        ("match?by=source", "required query parameter 'name' not set"),
        ("check?source=a", "required query parameter 'destination' not set"),
        ("check?destination=a", "required query parameter 'source' not set"),
    ],
)
async def test_intention_questions_refused(world: World, target: str, text: str) -> None:
    response = await world.get(f"/v1/connect/intentions/{target}")
    assert (response.status, response.text) == (500, text)


async def test_intention_questions(world: World) -> None:
    match = await world.get("/v1/connect/intentions/match?by=destination&name=b")
    assert list(match.json()) == ["b"]
    assert "X-Consul-Index" not in match.headers
    assert (await world.get("/v1/connect/intentions/check?source=a&destination=b")).json() == {"Allowed": True}


@pytest.mark.parametrize(
    ("source", "authorized", "reason"),
    [
        ("a", False, f"Matched intention: DENY default/a => default/b (ID: {ID}, Precedence: 9)"),
        ("c", True, "ACLs disabled, access is allowed by default"),
    ],
)
async def test_authorize(world: World, source: str, authorized: bool, reason: str) -> None:
    uri = f"spiffe://{ID}.consul/ns/default/dc/dc1/svc/{source}"
    for cache in ("MISS", "HIT"):
        response = await world.request("POST", "/v1/agent/connect/authorize", {"Target": "b", "ClientCertURI": uri})
        assert response.json() == {"Authorized": authorized, "Reason": reason}
        assert response.headers["X-Cache"] == cache


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Target service must be specified"),
        ({"Target": "b", "ClientCertURI": "http://x"}, "ClientCertURI not a valid Connect identifier"),
        (b"", "Request decode failed: EOF"),
    ],
)
async def test_authorize_refused(world: World, body: Any, text: str) -> None:
    response = await world.request("POST", "/v1/agent/connect/authorize", body)
    assert (response.status, response.text) == (400, f"Bad request: {text}")


# --- the web interface, ACLs ---------------------------------------------------------------------------------------


async def test_ui(world: World) -> None:
    info = NodeInfo(node="n", services=[NodeService(id="w")], checks=[HealthCheck(status="passing")])
    world.delegate.answers["Internal.NodeDump"] = IndexedNodeDump(dump=[info], **META)
    world.delegate.answers["Internal.NodeInfo"] = IndexedNodeDump(**META)
    instances = [
        CheckServiceNode(Node(node="n1"), NodeService(service="web", tags=["x"]), [HealthCheck(status="passing")] * 2),
        CheckServiceNode(Node(node="n1"), NodeService(service="web"), [HealthCheck(status="critical")]),
        CheckServiceNode(Node(node="n2"), NodeService(service="api"), []),
    ]
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=instances, **META)
    assert (await world.get("/v1/internal/ui/nodes")).json()[0]["Services"][0]["Tags"] is None
    assert (await world.get("/v1/internal/ui/node/nobody")).status == 404
    api, web = (await world.get("/v1/internal/ui/services")).json()
    assert api["Name"] == "api"
    assert web == {
        "Name": "web", "Tags": ["x"], "Nodes": ["n1", "n1"], "InstanceCount": 2, "ChecksPassing": 2, "ChecksWarning": 0,
        "ChecksCritical": 1, "ExternalSources": None, "GatewayConfig": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "acl/tokens"),
        ("PUT", "acl/token"),
        ("DELETE", "acl/policy/x"),
        ("GET", "acl/role/name/r"),
        ("PUT", "agent/token/default"),
    ],
)
async def test_acls_are_off(world: World, method: str, target: str) -> None:
    response = await world.request(method, f"/v1/{target}")
    assert (response.status, response.text) == (401, "ACL support disabled")

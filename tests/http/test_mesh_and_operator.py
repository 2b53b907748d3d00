"""Keys of gossip, usage, gateways, intentions by name, discovery chains: what they ask of servers and make of the answers."""

from typing import Any

import pytest

from discovery.http.options import HttpOptions
from discovery.model.config_entries import ResolverSubset
from discovery.model.discovery_chain import Chain, ChainNode, ChainResolver, ChainTarget
from discovery.model.duration import Duration
from discovery.model.records import CheckServiceNode, Connect, HealthCheck, Intention, MeshGateway, Node, NodeService, Proxy
from discovery.model.requests import (
    AutopilotState,
    ConfigEntryQuery,
    DiscoveryChainResponse,
    IndexedCheckServiceNodes,
    IndexedConfigEntries,
    IndexedIntentions,
    IndexedNodes,
    KeyringResponse,
    KeyringResponses,
    TransferLeaderResponse,
)
from tests.http.conftest import World
from tests.http.fakes import META

NODE = Node(node="n1", address="10.0.0.1")
KEY = "cg8StVXbQJ0gPvMd9o7yrg=="


def instance(name: str, status: str = "passing", **fields: Any) -> CheckServiceNode:
    return CheckServiceNode(NODE, NodeService(id=name, service=name, **fields), [HealthCheck(check_id="c", status=status)])


# --- keys ----------------------------------------------------------------------------------------------------------


async def test_keys_are_listed(world: World) -> None:
    pool = KeyringResponse(wan=True, datacenter="dc1", keys={KEY: 1}, primary_keys={KEY: 1}, num_nodes=1)
    world.delegate.answers["Internal.KeyringOperation"] = KeyringResponses(responses=[pool])
    response = await world.get("/v1/operator/keyring?relay-factor=2&local-only=true")
    assert response.json() == [
        {"WAN": True, "Datacenter": "dc1", "Segment": "", "Keys": {KEY: 1}, "PrimaryKeys": {KEY: 1}, "NumNodes": 1}
    ]
    asked = world.delegate.last
    assert (asked.operation, asked.relay_factor, asked.local_only) == ("list", 2, True)


@pytest.mark.parametrize(("method", "operation"), [("POST", "install"), ("PUT", "use"), ("DELETE", "remove")])
async def test_keys_are_changed(world: World, method: str, operation: str) -> None:
    world.delegate.answers["Internal.KeyringOperation"] = KeyringResponses(responses=[])
    response = await world.request(method, "/v1/operator/keyring", {"Key": KEY})
    assert (response.status, response.body) == (200, b"")
    assert (world.delegate.last.operation, world.delegate.last.key) == (operation, KEY)


async def test_complaints_about_keys_of_all_pools(world: World) -> None:
    pools = [
        KeyringResponse(wan=True, datacenter="dc1", error="1/1 nodes reported failure", messages={"n1.dc1": "no keyring"}),
        KeyringResponse(datacenter="dc2", error="timed out"),
        KeyringResponse(datacenter="dc1", keys={KEY: 1}),
    ]
    world.delegate.answers["Internal.KeyringOperation"] = KeyringResponses(responses=pools)
    response = await world.request("GET", "/v1/operator/keyring")
    assert (response.status, response.text) == (
        500,
        "3 errors occurred:\n\t* WAN error: 1/1 nodes reported failure\n\t* n1.dc1: no keyring\n"
        "\t* dc2 (LAN) error: timed out\n\n",
    )


@pytest.mark.parametrize(
    ("method", "target", "body", "text"),
    [
        ("GET", "?relay-factor=9", b"", "Invalid relay-factor: Relay factor must be in range: [0, 5]"),
        ("GET", "?relay-factor=x", b"", 'Error parsing relay factor: strconv.Atoi: parsing "x": invalid syntax'),
        ("GET", "?local-only=x", b"", 'Error parsing local-only: strconv.ParseBool: parsing "x": invalid syntax'),
        ("PUT", "?local-only=true", {}, "Invalid use of local-only: local-only can only be set for list requests"),
        ("POST", "", b"", "Request decode failed: EOF"),
        ("POST", "", {"Bogus": 1}, 'Request decode failed: json: unknown field "Bogus"'),
    ],
)
async def test_bad_key_requests(world: World, method: str, target: str, body: Any, text: str) -> None:
    response = await world.request(method, f"/v1/operator/keyring{target}", body)
    assert (response.status, response.text) == (400, f"Bad request: {text}")


# --- leadership ----------------------------------------------------------------------------------------------------


async def test_leadership_is_handed_over(world: World) -> None:
    world.delegate.answers["Operator.TransferLeader"] = TransferLeaderResponse(success=True)
    response = await world.request("POST", "/v1/operator/raft/transfer-leader?id=abc")
    assert (response.json(), world.delegate.last.id) == ({"Success": True}, "abc")


async def test_the_state_of_autopilot(world: World) -> None:
    world.delegate.answers["Operator.AutopilotState"] = AutopilotState(healthy=True, leader="a", voters=["a"])
    state = (await world.get("/v1/operator/autopilot/state")).json()
    assert (state["Healthy"], state["Leader"], state["Voters"], state["Servers"]) == (True, "a", ["a"], {})


# --- usage ---------------------------------------------------------------------------------------------------------


async def test_usage(world: World) -> None:
    instances = [
        instance("consul"),
        instance("web"),
        instance("Web", connect=Connect(native=True)),
        instance("web-proxy", kind="connect-proxy"),
    ]
    world.delegate.answers |= {
        "Internal.ServiceDump": IndexedCheckServiceNodes(nodes=instances, **META),
        "Catalog.ListNodes": IndexedNodes(nodes=[NODE], **META),
    }
    response = await world.get("/v1/operator/usage")
    assert response.headers["X-Consul-Index"] == "7"
    usage = response.json()["Usage"]["dc1"]
    connect = usage.pop("ConnectServiceInstances")
    assert usage == {"Nodes": 1, "Services": 3, "ServiceInstances": 4, "BillableServiceInstances": 2}
    assert {kind: count for kind, count in connect.items() if count} == {"connect-proxy": 1, "connect-native": 1}
    assert {"mesh-gateway", "terminating-gateway", "ingress-gateway"} <= connect.keys()


# --- gateways ------------------------------------------------------------------------------------------------------

INGRESS = {
    "Kind": "ingress-gateway", "Name": "ig", "CreateIndex": 3, "ModifyIndex": 4,
    "Listeners": [
        {"Port": 8080, "Protocol": "http", "Services": [{"Name": "web", "Hosts": ["x.example"]}, {"Name": "*"}]},
        {"Port": 8081, "Protocol": "tcp", "Services": [{"Name": "db"}]},
    ],
}  # fmt: skip
TERMINATING = {
    "Kind": "terminating-gateway", "Name": "tg", "CreateIndex": 5, "ModifyIndex": 6,
    "Services": [{"Name": "web", "CAFile": "ca.pem", "SNI": "web.example"}],
}  # fmt: skip


@pytest.fixture
def gateways(world: World) -> None:
    entries = {("ingress-gateway", "ig"): INGRESS, ("terminating-gateway", "tg"): TERMINATING}

    def entry(query: ConfigEntryQuery) -> IndexedConfigEntries:
        found = entries.get((query.kind, query.name))
        return IndexedConfigEntries(entries=[found] if found else [], **META)

    instances = [instance("consul"), instance("web", tags=["a"]), instance("api", "critical")]
    world.delegate.answers |= {
        "ConfigEntry.Get": entry,
        "Internal.ServiceDump": IndexedCheckServiceNodes(nodes=instances, **META),
    }


@pytest.mark.usefixtures("gateways")
async def test_services_behind_an_ingress_gateway(world: World) -> None:
    found = (await world.get("/v1/catalog/gateway-services/ig")).json()
    assert found[2] == {
        "Gateway": {"Name": "ig"}, "Service": {"Name": "web"}, "GatewayKind": "ingress-gateway", "Port": 8080,
        "Protocol": "http", "Hosts": ["x.example"], "CreateIndex": 3, "ModifyIndex": 4,
    }  # fmt: skip
    assert [(each["Service"]["Name"], each["Port"], each.get("FromWildcard")) for each in found] == [
        ("api", 8080, True), ("db", 8081, None), ("web", 8080, None),
    ]  # fmt: skip


@pytest.mark.usefixtures("gateways")
async def test_services_behind_a_terminating_gateway(world: World) -> None:
    assert (await world.get("/v1/catalog/gateway-services/tg")).json() == [
        {
            "Gateway": {"Name": "tg"}, "Service": {"Name": "web"}, "GatewayKind": "terminating-gateway", "CAFile": "ca.pem",
            "SNI": "web.example", "CreateIndex": 5, "ModifyIndex": 6,
        }
    ]  # fmt: skip


@pytest.mark.usefixtures("gateways")
async def test_an_unknown_gateway(world: World) -> None:
    assert (await world.get("/v1/catalog/gateway-services/zz?index=3")).json() is None
    assert (world.delegate.last.kind, world.delegate.last.min_query_index) == ("ingress-gateway", 3)
    assert (await world.get("/v1/internal/ui/gateway-services-nodes/zz")).json() == []
    for target in ("catalog/gateway-services/", "internal/ui/gateway-services-nodes/"):
        refused = await world.get(f"/v1/{target}")
        assert (refused.status, refused.text) == (400, "Missing gateway name")


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize("domain", ["consul", "consul."])
async def test_summaries_of_services_behind_a_gateway(world: World, domain: str) -> None:
    world.server.reconfigure(HttpOptions(dns_domain=domain))
    found = (await world.get("/v1/internal/ui/gateway-services-nodes/ig")).json()
    assert [(each["Name"], each["Nodes"], each["GatewayConfig"]) for each in found] == [
        ("api", ["n1"], {"Addresses": ["api.ingress.dc1.consul.:8080"]}),
        ("db", None, {"Addresses": ["db.ingress.dc1.consul.:8081"]}),
        ("web", ["n1"], {"Addresses": ["x.example:8080"]}),
    ]


async def test_a_proxy_says_what_it_is_for(world: World) -> None:
    proxies = [instance("p", kind="connect-proxy", proxy=Proxy(destination_service_name=name)) for name in ("web", "api")]
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=proxies, **META)
    (summary,) = (await world.get("/v1/internal/ui/services")).json()
    assert (summary["ProxyFor"], summary["InstanceCount"]) == (["api", "web"], 2)


# --- intentions by name --------------------------------------------------------------------------------------------

A_TO_B = Intention(id="1", source_ns="default", source_name="a", destination_ns="default", destination_name="b", action="deny")
EXACT = "/v1/connect/intentions/exact"


@pytest.fixture
def intentions(world: World) -> None:
    world.delegate.answers |= {
        "Intention.List": IndexedIntentions(intentions=[A_TO_B], **META),
        "Intention.Apply": "1",
    }


@pytest.mark.usefixtures("intentions")
async def test_an_intention_is_read_by_its_services(world: World) -> None:
    assert (await world.get(f"{EXACT}?source=a&destination=default/b")).json()["ID"] == "1"
    for source in ("x", "other/a"):
        missing = await world.get(f"{EXACT}?source={source}&destination=b")
        assert (missing.status, missing.text) == (404, "Intention not found")
    bad = await world.get(f"{EXACT}?source=a")
    assert (bad.status, bad.text) == (500, "required query parameter 'destination' not set")


@pytest.mark.usefixtures("intentions")
@pytest.mark.parametrize(("source", "operation", "known"), [("a", "update", "1"), ("x", "create", "")])
async def test_an_intention_is_written_by_its_services(world: World, source: str, operation: str, known: str) -> None:
    response = await world.put(f"{EXACT}?source={source}&destination=b", {"Action": "allow"})
    assert response.json() is True
    written = world.delegate.last.intention
    assert (world.delegate.last.op, written.id) == (operation, known)
    assert (written.source_ns, written.source_name, written.destination_name, written.action) == ("default", source, "b", "allow")


@pytest.mark.usefixtures("intentions")
async def test_an_intention_is_removed_by_its_services(world: World) -> None:
    assert (await world.request("DELETE", f"{EXACT}?source=x&destination=b")).json() is True
    assert not [method for method, _ in world.delegate.calls if method == "Intention.Apply"]
    assert (await world.request("DELETE", f"{EXACT}?source=a&destination=b")).json() is True
    assert (world.delegate.last.op, world.delegate.last.intention.id) == ("delete", "1")


# --- discovery chains and the certificate authority ----------------------------------------------------------------

CHAIN = Chain(
    service_name="web",
    namespace="default",
    datacenter="dc1",
    protocol="tcp",
    start_node="resolver:web",
    nodes={
        "resolver:web": ChainNode(
            type="resolver", name="web", resolver=ChainResolver(connect_timeout=Duration.parse("5s"), target="web")
        )
    },
    targets={
        "web": ChainTarget(
            id="web",
            service="web",
            namespace="default",
            datacenter="dc1",
            mesh_gateway=MeshGateway(),
            subset=ResolverSubset(),
            sni="s",
            name="s",
        )
    },
)


async def test_a_chain(world: World) -> None:
    world.delegate.answers["DiscoveryChain.Get"] = DiscoveryChainResponse(chain=CHAIN, **META)
    response = await world.get("/v1/discovery-chain/web?compile-dc=dc9")
    assert world.delegate.last.evaluate_in_datacenter == "dc9"
    assert response.headers["X-Consul-Effective-Consistency"] == "leader"
    chain = response.json()["Chain"]
    assert chain["Nodes"]["resolver:web"]["Resolver"] == {"ConnectTimeout": "5s", "Target": "web"}
    assert chain["Targets"]["web"]["SNI"] == "s"


async def test_a_chain_with_wishes(world: World) -> None:
    world.delegate.answers["DiscoveryChain.Get"] = DiscoveryChainResponse(chain=CHAIN, **META)
    wishes = {"OverrideConnectTimeout": "9s", "override_protocol": "http", "OverrideMeshGateway": {"Mode": "local"}, "Bogus": 1}
    assert (await world.request("POST", "/v1/discovery-chain/web", wishes)).status == 200
    asked = world.delegate.last
    assert (asked.override_connect_timeout, asked.override_protocol) == (9 * 10**9, "http")
    assert asked.override_mesh_gateway == MeshGateway("local")


@pytest.mark.parametrize(
    ("method", "target", "body", "text"),
    [
        ("GET", "", b"", "Bad request: Missing chain name"),
        ("POST", "web", b"", "Bad request: Request decoding failed: EOF"),
        ("POST", "web", {"OverrideMeshGateway": {"Mode": "zap"}}, "Invalid OverrideMeshGateway.Mode parameter"),
    ],
)
async def test_bad_chain_requests(world: World, method: str, target: str, body: Any, text: str) -> None:
    response = await world.request(method, f"/v1/discovery-chain/{target}", body)
    assert (response.status, response.text) == (400, text)


@pytest.mark.parametrize(
    "target", ["connect/ca/roots", "connect/ca/configuration", "agent/connect/ca/roots", "agent/connect/ca/leaf/web"]
)
async def test_there_is_no_certificate_authority(world: World, target: str) -> None:
    response = await world.get(f"/v1/{target}")
    assert (response.status, response.text) == (500, "Connect must be enabled in order to use this endpoint")


@pytest.mark.parametrize(("target", "refused"), [("kv/a?ns=x", True), ("kv/a?ns=", False), ("status/leader?ns=x", False)])
async def test_namespaces_are_refused_where_they_would_count(world: World, target: str, refused: bool) -> None:
    response = await world.get(f"/v1/{target}")
    text = 'Bad request: Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature'
    assert ((response.status, response.text) == (400, text)) is refused


async def test_a_namespace_in_a_header_is_refused(world: World) -> None:
    response = await world.get("/v1/kv/a", X_Consul_Namespace="x")
    assert (response.status, "X-Consul-Namespace" in response.text) == (400, True)

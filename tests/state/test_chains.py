"""Compiled discovery chains. Shapes as Consul 1.8.7 compiles them from the same documents."""

from typing import Any

import msgspec
import pytest

from discovery.model.discovery_chain import Chain, ChainOverrides
from discovery.model.duration import Duration
from discovery.model.errors import RequestFailed
from discovery.model.records import MeshGateway
from discovery.state.chains import compile_chain

Documents = list[dict[str, Any]]


def entry(kind: str, name: str = "web", **fields: Any) -> dict[str, Any]:
    return {"Kind": kind, "Name": name, **fields}


def http(*names: str, **fields: Any) -> Documents:
    return [entry("service-defaults", name, Protocol="http", **fields) for name in names]


def chain(documents: Documents, overrides: ChainOverrides | None = None, service: str = "web") -> Chain:
    known = {(document["Kind"], document["Name"]): document for document in documents}
    return compile_chain(lambda kind, name: known.get((kind, name)), service, "dc1", overrides or ChainOverrides(), "td.consul")


def shape(compiled: Chain) -> dict[str, Any]:
    """The nodes as JSON would show them."""
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(compiled.nodes, enc_hook=str))
    return shown


SUBSETS = entry(
    "service-resolver",
    DefaultSubset="v1",
    Subsets={"v1": {"Filter": "Service.Meta.v == 1", "OnlyPassing": True}, "v2": {}},
    Failover={"v1": {"Service": "api", "Datacenters": ["dc2", "dc3"]}, "*": {"Datacenters": ["dc4"]}},
    ConnectTimeout="7s",
)


def test_a_service_without_documents() -> None:
    compiled = chain([])
    assert (compiled.protocol, compiled.start_node, compiled.customization_hash) == ("tcp", "resolver:web.default.dc1", "")
    assert shape(compiled) == {
        "resolver:web.default.dc1": {
            "Type": "resolver",
            "Name": "web.default.dc1",
            "Resolver": {"ConnectTimeout": "5s", "Default": True, "Target": "web.default.dc1"},
        }
    }
    assert msgspec.to_builtins(compiled.targets) == {
        "web.default.dc1": {
            "ID": "web.default.dc1",
            "Service": "web",
            "Namespace": "default",
            "Datacenter": "dc1",
            "MeshGateway": {},
            "Subset": {},
            "SNI": "web.default.dc1.internal.td.consul",
            "Name": "web.default.dc1.internal.td.consul",
        }
    }


def test_a_router_before_a_splitter_before_resolvers() -> None:
    match = {"HTTP": {"PathPrefix": "/a"}}
    router = entry("service-router", Routes=[{"Match": match, "Destination": {"Service": "web", "ServiceSubset": "v1"}}])
    splitter = entry("service-splitter", Splits=[{"Weight": 33.33, "Service": "api"}, {"Weight": 66.67, "ServiceSubset": "v2"}])
    compiled = chain([*http("web", "api", MeshGateway={"Mode": "local"}), SUBSETS, splitter, router])
    assert (compiled.protocol, compiled.start_node) == ("http", "router:web.default")
    destination = {"Service": "web", "ServiceSubset": "v1"}
    rest = {"Match": {"HTTP": {"PathPrefix": "/"}}, "Destination": {"Service": "web", "Namespace": "default"}}
    assert shape(compiled) == {
        "router:web.default": {
            "Type": "router",
            "Name": "web.default",
            "Routes": [
                {"Definition": {"Match": match, "Destination": destination}, "NextNode": "resolver:v1.web.default.dc1"},
                {"Definition": rest, "NextNode": "splitter:web.default"},
            ],
        },
        "splitter:web.default": {
            "Type": "splitter",
            "Name": "web.default",
            "Splits": [
                {"Weight": 33.33, "NextNode": "resolver:api.default.dc1"},
                {"Weight": 66.67, "NextNode": "resolver:v2.web.default.dc1"},
            ],
        },
        "resolver:api.default.dc1": {
            "Type": "resolver",
            "Name": "api.default.dc1",
            "Resolver": {"ConnectTimeout": "5s", "Default": True, "Target": "api.default.dc1"},
        },
        "resolver:v1.web.default.dc1": {
            "Type": "resolver",
            "Name": "v1.web.default.dc1",
            "Resolver": {
                "ConnectTimeout": "7s",
                "Target": "v1.web.default.dc1",
                "Failover": {"Targets": ["api.default.dc2", "api.default.dc3"]},
            },
        },
        "resolver:v2.web.default.dc1": {
            "Type": "resolver",
            "Name": "v2.web.default.dc1",
            "Resolver": {
                "ConnectTimeout": "7s",
                "Target": "v2.web.default.dc1",
                "Failover": {"Targets": ["v2.web.default.dc4"]},
            },
        },
    }
    gateways = {name: target.mesh_gateway.mode for name, target in compiled.targets.items()}
    assert gateways == {
        "api.default.dc1": "", "api.default.dc2": "local", "api.default.dc3": "local",
        "v1.web.default.dc1": "", "v2.web.default.dc1": "", "v2.web.default.dc4": "local",
    }  # fmt: skip
    assert compiled.targets["v1.web.default.dc1"].subset.only_passing


def test_splitters_after_splitters_are_taken_into_the_first() -> None:
    outer = entry("service-splitter", "web", Splits=[{"Weight": 60, "Service": "api"}, {"Weight": 40, "Service": "db"}])
    inner = entry("service-splitter", "api", Splits=[{"Weight": 25, "Service": "api"}, {"Weight": 75, "Service": "cache"}])
    compiled = chain([*http("web", "api", "db", "cache"), outer, inner])
    (splitter,) = [node for node in compiled.nodes.values() if node.type == "splitter"]
    assert [(split.weight, split.next_node) for split in splitter.splits or ()] == [
        (15, "resolver:api.default.dc1"),
        (45, "resolver:cache.default.dc1"),
        (40, "resolver:db.default.dc1"),
    ]


def test_a_redirect_leads_elsewhere() -> None:
    compiled = chain([entry("service-resolver", Redirect={"Service": "api", "Datacenter": "dc2"})])
    assert (compiled.start_node, list(compiled.targets)) == ("resolver:api.default.dc2", ["api.default.dc2"])


def test_an_external_service_goes_by_its_own_name() -> None:
    documents = [entry("service-defaults", ExternalSNI="web.example.org")]
    target = chain(documents).targets["web.default.dc1"]
    assert (target.external, target.sni) == (True, "web.example.org")
    with pytest.raises(RequestFailed, match='service "web" has an external SNI set; cannot define subsets for external'):
        chain([*documents, entry("service-resolver", Subsets={"v1": {}})])


def test_overrides() -> None:
    overrides = ChainOverrides(
        override_protocol="tcp",
        override_connect_timeout=Duration.from_seconds(9),
        override_mesh_gateway=MeshGateway("remote"),
    )
    splitter = entry("service-splitter", Splits=[{"Weight": 100, "Service": "api"}])
    compiled = chain([*http("web", "api"), SUBSETS, splitter], overrides)
    assert (compiled.protocol, compiled.start_node) == ("tcp", "resolver:v1.web.default.dc1")
    resolver = compiled.nodes[compiled.start_node].resolver
    assert resolver is not None
    assert resolver.connect_timeout == Duration.from_seconds(9)
    assert compiled.targets["api.default.dc2"].mesh_gateway.mode == "remote"
    assert len(compiled.customization_hash) == 8
    assert chain(http("web"), ChainOverrides(override_protocol="grpc")).customization_hash == "ef15b5b5"
    seven = ChainOverrides(override_connect_timeout=Duration.from_seconds(7))
    assert chain(http("web"), seven).customization_hash == "8b1bc506"
    same = ChainOverrides(override_protocol="HTTP")
    assert chain(http("web"), same).customization_hash == ""


def test_a_chain_needs_a_service() -> None:
    with pytest.raises(RequestFailed, match="serviceName is required"):
        chain([], service="")

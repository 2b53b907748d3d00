"""Records in JSON: names, order and what is left out, as Consul 1.8.7 writes them."""

import gc
from typing import Any

import msgspec
import pytest

from discovery.model import records as m
from discovery.model.naming import go_name

INDEXES = '"CreateIndex":0,"ModifyIndex":0'
PROXY = '{"MeshGateway":{},"Expose":{}}'

EMPTY: list[tuple[Any, str]] = [
    (m.Node(), f'{{"ID":"","Node":"","Address":"","Datacenter":"","TaggedAddresses":null,"Meta":null,{INDEXES}}}'),
    (
        m.NodeService(),
        '{"ID":"","Service":"","Tags":[],"Address":"","Meta":null,"Port":0,"Weights":null,"EnableTagOverride":false,'
        f'"Proxy":{PROXY},"Connect":{{}},{INDEXES}}}',
    ),
    (
        m.HealthCheck(),
        '{"Node":"","CheckID":"","Name":"","Status":"","Notes":"","Output":"","ServiceID":"","ServiceName":"","ServiceTags":[],'
        f'"Type":"","Definition":{{}},{INDEXES}}}',
    ),
    (
        m.ServiceNode(),
        '{"ID":"","Node":"","Address":"","Datacenter":"","TaggedAddresses":null,"NodeMeta":null,"ServiceKind":"","ServiceID":"",'
        '"ServiceName":"","ServiceTags":[],"ServiceAddress":"","ServiceWeights":{"Passing":0,"Warning":0},"ServiceMeta":{},'
        f'"ServicePort":0,"ServiceEnableTagOverride":false,"ServiceProxy":{PROXY},"ServiceConnect":{{}},{INDEXES}}}',
    ),
    (m.DirEntry(), f'{{"LockIndex":0,"Key":"","Flags":0,"Value":null,{INDEXES}}}'),
    (
        m.Session(),
        '{"ID":"","Name":"","Node":"","LockDelay":0,"Behavior":"","TTL":"","NodeChecks":null,"ServiceChecks":null,'
        + INDEXES
        + "}",
    ),
    (m.ServiceCheckRef(), '{"ID":"","Namespace":""}'),
    (m.NodeCoordinate(), '{"Node":"","Segment":"","Coord":{"Vec":[],"Error":0.0,"Adjustment":0.0,"Height":0.0}}'),
    (
        m.PreparedQuery(),
        '{"ID":"","Name":"","Session":"","Token":"","Template":{"Type":"","Regexp":"","RemoveEmptyTags":false},'
        '"Service":{"Service":"","Failover":{"NearestN":0,"Datacenters":null},"OnlyPassing":false,"IgnoreCheckIDs":null,"Near":"",'
        f'"Tags":null,"NodeMeta":null,"ServiceMeta":null,"Connect":false}},"DNS":{{"TTL":""}},{INDEXES}}}',
    ),
    (
        m.Intention(),
        '{"ID":"","Description":"","SourceNS":"","SourceName":"","DestinationNS":"","DestinationName":"","SourceType":"","Action":"",'
        f'"DefaultAddr":"","DefaultPort":0,"Meta":{{}},"Precedence":0,"CreatedAt":"","UpdatedAt":"","Hash":"",{INDEXES}}}',
    ),
]


@pytest.mark.parametrize(("record", "text"), EMPTY, ids=[type(record).__name__ for record, _ in EMPTY])
def test_zero_values(record: m.Record, text: str) -> None:
    assert msgspec.json.encode(record).decode() == text
    assert msgspec.json.decode(text, type=type(record)) == record


def test_what_is_left_out_when_empty_has_its_place_when_not() -> None:
    service = m.NodeService(
        kind="connect-proxy",
        id="w",
        tagged_addresses={"lan": m.ServiceAddress("1.2.3.4", 5)},
        proxy=m.Proxy(
            destination_service_name="web",
            local_service_port=1,
            config={"a": 1},
            upstreams=[m.Upstream(destination_name="db", local_bind_port=2)],
            mesh_gateway=m.MeshGateway("local"),
        ),
        connect=m.Connect(native=True),
    )
    assert list(msgspec.to_builtins(service)) == [
        *("Kind", "ID", "Service", "Tags", "Address", "TaggedAddresses", "Meta", "Port", "Weights", "EnableTagOverride"),
        *("Proxy", "Connect", "CreateIndex", "ModifyIndex"),
    ]
    assert list(msgspec.to_builtins(service.proxy)) == [
        *("DestinationServiceName", "LocalServicePort", "Config", "Upstreams", "MeshGateway", "Expose"),
    ]
    assert list(msgspec.to_builtins(m.DirEntry(session="s"))) == [
        *("LockIndex", "Key", "Flags", "Value", "Session", "CreateIndex", "ModifyIndex"),
    ]
    definition = m.CheckDefinition(
        interval=m.Duration(1), output_max_size=1, timeout=m.Duration(1), deregister_critical_service_after=m.Duration(1),
        http="x", tls_skip_verify=True, header={}, method="x", body="x", tcp="x", ttl=m.Duration(1),
    )  # fmt: skip
    assert list(msgspec.to_builtins(definition, enc_hook=str)) == [
        *("Interval", "OutputMaxSize", "Timeout", "DeregisterCriticalServiceAfter", "HTTP", "TLSSkipVerify", "Header", "Method"),
        *("Body", "TCP", "TTL"),
    ]


def test_absent_parts_are_shared() -> None:
    """There may be hundreds of thousands of instances and checks."""
    first, second = (msgspec.json.decode(b"{}", type=m.NodeService) for _ in range(2))
    assert first.proxy is second.proxy is m.NO_PROXY
    assert first.connect is second.connect is m.NO_CONNECT
    assert msgspec.json.decode(b"{}", type=m.HealthCheck).definition is m.NO_DEFINITION


def test_records_cost_the_cycle_collector_nothing() -> None:
    assert not gc.is_tracked(m.NodeService(tags=["a"], meta={"b": "c"}))
    assert not gc.is_tracked(m.CheckServiceNode(m.Node(), m.NodeService(), [m.HealthCheck()]))


@pytest.mark.parametrize(
    ("python", "go"),
    [
        ("service_id", "ServiceID"),
        ("tls_skip_verify", "TLSSkipVerify"),
        ("ignore_check_ids", "IgnoreCheckIDs"),
        ("docker_container_id", "DockerContainerID"),
        ("source_ns", "SourceNS"),
        ("h2ping", "H2PING"),
        ("nearest_n", "NearestN"),
    ],
)
def test_names(python: str, go: str) -> None:
    assert go_name(python) == go

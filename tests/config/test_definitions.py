"""What files define is what the agent registers: the shapes read here fit the model's definitions, field by field."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from discovery.config.definitions import API_NAMES, NO_EFFECT_YET, SHAPES, Count, Nested
from discovery.config.kinds import Kind
from discovery.daemon.settings import check_specs, service_specs
from discovery.local.settings import Settings
from discovery.local.sidecar import sidecar_of
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.naming import go_name
from discovery.model.records import Connect, Proxy, ServiceAddress, Weights

from .rig import options, refusal

READ_LATER = {("connect", "sidecar_service"): ServiceSpec}
"""Kept as it was written until the sidecar is made of it."""
SECOND = Duration.from_seconds(1)


def struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    """The record that a field holds, however it holds it."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for part in get_args(annotation) if (found := struct_in(part))), None)


def unfitting(shape: str, record: type[msgspec.Struct], seen: set[str]) -> list[str]:
    """The fields of `shape` that `record` has no place for."""
    if shape in seen:
        return []
    seen.add(shape)
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(record)}
    missing = []
    for name, kind in SHAPES[shape].items():
        if name in NO_EFFECT_YET.get(shape, ()):
            continue
        api_name = API_NAMES.get((shape, name)) or go_name(name)
        if api_name not in fields:
            missing.append(f"{shape}.{name}: {record.__name__} has no {api_name}")
        elif isinstance(kind, Nested):
            inner = READ_LATER.get((shape, name)) or struct_in(fields[api_name])
            assert inner is not None, f"{shape}.{name}"
            missing += unfitting(kind.shape, inner, seen)
    return missing


@pytest.mark.parametrize(("shape", "record"), [("service", ServiceSpec), ("check", CheckSpec)])
def test_every_field_has_its_place(shape: str, record: type[msgspec.Struct]) -> None:
    assert unfitting(shape, record, set()) == []


@pytest.mark.parametrize(("shape", "record"), [("service", ServiceSpec), ("check", CheckSpec)])
def test_every_definition_can_be_written_in_a_file(shape: str, record: type[msgspec.Struct]) -> None:
    known = {API_NAMES.get((shape, name)) or go_name(name) for name in SHAPES[shape]}
    # `CheckID` is the id inside a service, `ScriptArgs` an older name of `Args`.
    assert {field.encode_name for field in msgspec.structs.fields(record)} - known <= {"CheckID", "ScriptArgs"}


def test_shapes_are_complete() -> None:
    for shape in SHAPES.values():
        for kind in shape.values():
            assert isinstance(kind, Kind) or (kind.shape in SHAPES and kind.count in Count)
    assert get_type_hints(ServiceSpec)


def test_a_service() -> None:
    (service,) = service_specs(
        options(
            """
            service {
              id = "web-1" name = "web" tags = ["a"] address = "10.0.0.1" port = 80 meta { x = "y" } token = "t"
              enable_tag_override = true weights { passing = 2 warning = 1 }
              tagged_addresses { lan { address = "10.0.0.1" port = 81 } }
              check { id = "one" http = "http://x" header { A = ["b"] } interval = "1s" timeout = "500ms" }
              checks = [{ name = "two" ttl = "2s" status = "passing" }]
              connect { native = true }
            }
            """
        )
    )
    assert service == ServiceSpec(
        id="web-1", name="web", tags=["a"], address="10.0.0.1", port=80, meta={"x": "y"}, token="t", enable_tag_override=True,
        weights=Weights(passing=2, warning=1), tagged_addresses={"lan": ServiceAddress("10.0.0.1", 81)},
        check=CheckSpec(
            check_id="one", http="http://x", header={"A": ["b"]}, interval=SECOND, timeout=Duration.from_seconds(0.5)
        ),
        checks=[CheckSpec(name="two", ttl=Duration.from_seconds(2), status="passing")],
        connect=Connect(native=True),
    )  # fmt: skip


def test_a_proxy() -> None:
    (service,) = service_specs(
        options(
            """
            service {
              name = "web-proxy" port = 20000 kind = "connect-proxy"
              proxy {
                destination_service_name = "web" local_service_port = 80
                config { handshake_timeout_ms = 1000 nested { a = [1, 2] } }
                upstreams { destination_name = "db" local_bind_port = 5000 }
                upstreams { destination_name = "cache" local_bind_port = 5001 config { x = 1 } }
                expose { paths { path = "/health" listener_port = 21500 local_path_port = 80 } }
              }
            }
            """
        )
    )
    proxy = service.proxy
    assert isinstance(proxy, Proxy)
    assert (service.kind, proxy.destination_service_name, proxy.local_service_port) == ("connect-proxy", "web", 80)
    assert proxy.config == {"handshake_timeout_ms": 1000, "nested": {"a": [1, 2]}}
    assert [upstream.destination_name for upstream in proxy.upstreams or ()] == ["db", "cache"]
    assert proxy.expose is not None
    assert [path.path for path in proxy.expose.paths or ()] == ["/health"]


def test_a_sidecar() -> None:
    (service,) = service_specs(
        options(
            """
            service {
              name = "web" port = 80
              connect {
                sidecar_service {
                  port  = 21100
                  check { tcp = "127.0.0.1:21100" interval = "5s" }
                  proxy { upstreams { destination_name = "db" local_bind_port = 5000 } }
                }
              }
            }
            """
        )
    )
    assert service.connect is not None
    assert service.connect.sidecar_service is not None
    settings = Settings(node_name="n", datacenter="dc1")
    sidecar = sidecar_of(service, service.connect.sidecar_service, settings, taken=(), present=0)
    assert (sidecar.id, sidecar.port) == ("web-sidecar-proxy", 21100)
    assert sidecar.check == CheckSpec(tcp="127.0.0.1:21100", interval=Duration.from_seconds(5))
    assert sidecar.proxy is not None
    assert [upstream.destination_name for upstream in sidecar.proxy.upstreams or ()] == ["db"]


def test_checks() -> None:
    found = check_specs(
        options(
            """
            check { id = "disk" name = "d" args = ["/bin/df"] interval = "10s" service_id = "web" }
            check { Name = "old" ScriptArgs = ["/bin/true"] Interval = "5s" TLSSkipVerify = true }
            checks = [{ name = "alias" alias_service = "web" }, { name = "docker" docker_container_id = "x" shell = "/bin/sh" }]
            """
        )
    )
    assert found == [
        CheckSpec(id="disk", name="d", args=["/bin/df"], interval=Duration.from_seconds(10), service_id="web"),
        CheckSpec(name="old", args=["/bin/true"], interval=Duration.from_seconds(5), tls_skip_verify=True),
        CheckSpec(name="alias", alias_service="web"),
        CheckSpec(name="docker", docker_container_id="x", shell="/bin/sh"),
    ]


def test_null_in_json_leaves_a_field_unset() -> None:
    (service,) = service_specs(options('{"service": {"name": "web", "tags": null, "check": null, "port": 80}}'))
    assert service == ServiceSpec(name="web", port=80)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            'service { name = "a" check {} check {} checks = 5 }',
            [
                "'service.checks': source data must be an array or slice, got int (flags-1.hcl:1:49; expected a list of blocks)",
                "'service.checks' is set twice (flags-1.hcl:1:40; first at flags-1.hcl:1:31)",
            ],
        ),
        (
            'service { tagged_addresses { lan { address = "a" } lan { address = "b" } } }',
            ["'service.tagged_addresses[lan]' is set twice (flags-1.hcl:1:52; first at flags-1.hcl:1:30)"],
        ),
        (
            'service { tagged_addresses { lan = "a" } }',
            ["'service.tagged_addresses[lan]' expected a map, got 'string' (flags-1.hcl:1:36; expected a block)"],
        ),
        (
            'service { tagged_addresses = "a" }',
            ["'service.tagged_addresses' expected a map, got 'string' (flags-1.hcl:1:30; expected a block of blocks)"],
        ),
        (
            "service { weights { passing = true } }",
            ["'service.weights.passing' expected type 'int', got unconvertible type 'bool' (flags-1.hcl:1:31; expected a whole "],
        ),
        ("service { check {} } service { bogus = 1 }", ["invalid config key service[1].bogus (flags-1.hcl:1:32"]),
        ("services {} services = [{}, { bogus = 1 }]", ["invalid config key services[2].bogus (flags-1.hcl:1:31"]),
        ("check = [{}, 5]", ["'check[1]' expected a map, got 'int' (flags-1.hcl:1:14; expected a block)"]),
    ],
)
def test_faults(text: str, faults: list[str]) -> None:
    message = refusal(text)
    assert message.count("\t* ") == len(faults)
    for fault in faults:
        assert f"\t* {fault}" in message

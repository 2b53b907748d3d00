"""What is refused of proxies and gateways, in Consul's words."""

from typing import Any

import pytest

from discovery.model.records import Connect, Expose, ExposePath, Proxy, Upstream
from discovery.model.service_rules import mesh_problems, several_errors


def proxy(**given: Any) -> Proxy:
    return Proxy(destination_service_name="web", **given)


def upstreams(*given: Upstream) -> Proxy:
    return proxy(upstreams=list(given))


def paths(*given: ExposePath) -> Proxy:
    return proxy(expose=Expose(paths=list(given)))


DB = Upstream(destination_name="db", local_bind_port=1)


@pytest.mark.parametrize(
    ("kind", "port", "given", "connect", "problems"),
    [
        ("", 0, Proxy(), Connect(native=True), []),
        ("connect-proxy", 1, upstreams(DB), Connect(), []),
        (
            "connect-proxy",
            0,
            Proxy(destination_service_name=" "),
            Connect(native=True),
            [
                "Proxy.DestinationServiceName must be non-empty for Connect proxy services",
                "Port must be set for a Connect proxy",
                "A Proxy cannot also be Connect Native, only typical services",
            ],
        ),
        ("connect-proxy", 1, upstreams(Upstream(destination_name="db")), Connect(), ["upstream local bind port cannot be zero"]),
        ("connect-proxy", 1, upstreams(Upstream(local_bind_port=1)), Connect(), ["upstream destination name cannot be empty"]),
        (
            "connect-proxy",
            1,
            upstreams(Upstream(destination_type="zap", destination_name="db", local_bind_port=1)),
            Connect(),
            ['unknown upstream destination type: "zap"'],
        ),
        (
            "connect-proxy",
            1,
            upstreams(DB, Upstream(destination_name="db", local_bind_port=2)),
            Connect(),
            ['upstreams cannot contain duplicates of [type="", name="db", namespace="", datacenter=""]'],
        ),
        (
            "connect-proxy",
            1,
            upstreams(DB, Upstream(destination_name="cache", local_bind_port=1)),
            Connect(),
            ['upstreams cannot contain duplicates by local bind address and port; "127.0.0.1:1" is specified twice'],
        ),
        (
            "connect-proxy",
            1,
            paths(ExposePath(path="/a", listener_port=99999), ExposePath(path="/a", listener_port=1, protocol="TCP")),
            Connect(),
            [
                "expose.paths: invalid listener port: 99999",
                "expose.paths: duplicate paths exposed",
                "protocol 'tcp' not supported for path: /a, must be in: [http http2]",
            ],
        ),
        (
            "connect-proxy",
            1,
            paths(ExposePath(listener_port=1), ExposePath(path="/b", listener_port=1)),
            Connect(),
            ["expose.paths: empty path exposed", "expose.paths: duplicate listener ports exposed"],
        ),
        ("ingress-gateway", 0, Proxy(), Connect(), []),
        ("mesh-gateway", 0, Proxy(), Connect(), ["Port must be non-zero for a mesh-gateway"]),
        (
            "terminating-gateway",
            1,
            Proxy(
                destination_service_name="a",
                destination_service_id="b",
                local_service_address="c",
                local_service_port=4,
                upstreams=[DB],
            ),
            Connect(sidecar_service={}),
            [
                "A terminating-gateway cannot have a sidecar service defined",
                "The Proxy.DestinationServiceName configuration is invalid for a terminating-gateway",
                "The Proxy.DestinationServiceID configuration is invalid for a terminating-gateway",
                "The Proxy.LocalServiceAddress configuration is invalid for a terminating-gateway",
                "The Proxy.LocalServicePort configuration is invalid for a terminating-gateway",
                "The Proxy.Upstreams configuration is invalid for a terminating-gateway",
            ],
        ),
    ],
)
def test_mesh_problems(kind: str, port: int, given: Proxy, connect: Connect, problems: list[str]) -> None:
    assert list(mesh_problems(kind, port, given, connect)) == problems


def test_errors_are_listed_as_consul_does() -> None:
    assert several_errors(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert several_errors(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"

"""The shapes of service and check definitions in configuration files.

They are read into the shapes of the HTTP API's bodies: `go_name` makes `DeregisterCriticalServiceAfter` of
`deregister_critical_service_after`. Whether a definition makes sense is judged where it is registered.

Source: Consul documentation (service and check definitions).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from .kinds import Kind


class Count(StrEnum):
    ONE = "a block"
    MANY = "a list of blocks"
    BY_NAME = "a block of blocks"


class Nested(msgspec.Struct, frozen=True):
    """A field that holds objects of the shape named."""

    shape: str
    count: Count = Count.ONE


Field: TypeAlias = Kind | Nested
Shape: TypeAlias = Mapping[str, Field]


def _fields(names: str, kind: Kind) -> dict[str, Field]:
    return dict.fromkeys(names.split(), kind)


_CHECK: Final[Shape] = {
    **_fields("id name notes service_id token status http method body tcp udp grpc h2ping os_service", Kind.TEXT),
    **_fields("docker_container_id shell alias_node alias_service tls_server_name namespace partition", Kind.TEXT),
    **_fields("interval timeout ttl deregister_critical_service_after", Kind.DURATION_TEXT),
    **_fields("initial_delay startup_grace hold_down", Kind.DURATION_TEXT),
    **_fields("success_before_passing failures_before_warning failures_before_critical output_max_size", Kind.INT),
    **_fields("tls_skip_verify grpc_use_tls h2ping_use_tls tcp_use_tls disable_redirects", Kind.BOOL),
    **_fields("args", Kind.TEXTS),
    **_fields("header", Kind.HEADERS),
}

SHAPES: Final[Mapping[str, Shape]] = {
    "service": {
        **_fields("id name address token kind socket_path namespace partition", Kind.TEXT),
        **_fields("port", Kind.INT),
        **_fields("enable_tag_override", Kind.BOOL),
        **_fields("tags", Kind.TEXTS),
        **_fields("meta", Kind.MAP),
        "tagged_addresses": Nested("address", Count.BY_NAME),
        "weights": Nested("weights"),
        "check": Nested("service_check"),
        "checks": Nested("service_check", Count.MANY),
        "connect": Nested("connect"),
        "proxy": Nested("proxy"),
        "locality": Nested("locality"),
    },
    "check": _CHECK,
    "service_check": _CHECK,
    "address": {**_fields("address", Kind.TEXT), **_fields("port", Kind.INT)},
    "weights": _fields("passing warning", Kind.INT),
    "connect": {**_fields("native", Kind.BOOL), "sidecar_service": Nested("service")},
    "proxy": {
        **_fields("destination_service_name destination_service_id local_service_address", Kind.TEXT),
        **_fields("local_service_port", Kind.INT),
        **_fields("config", Kind.OBJECT),
        "upstreams": Nested("upstream", Count.MANY),
        "mesh_gateway": Nested("mesh_gateway"),
        "expose": Nested("expose"),
    },
    "upstream": {
        **_fields("destination_type destination_namespace destination_name datacenter local_bind_address", Kind.TEXT),
        **_fields("local_bind_port", Kind.INT),
        **_fields("config", Kind.OBJECT),
        "mesh_gateway": Nested("mesh_gateway"),
    },
    "mesh_gateway": _fields("mode", Kind.TEXT),
    "expose": {**_fields("checks", Kind.BOOL), "paths": Nested("expose_path", Count.MANY)},
    "expose_path": {**_fields("path protocol", Kind.TEXT), **_fields("listener_port local_path_port", Kind.INT)},
    "locality": _fields("region zone", Kind.TEXT),
}

_CHECK_ALIASES: Final = {
    "serviceid": "service_id",
    "scriptargs": "args",
    "dockercontainerid": "docker_container_id",
    "tlsskipverify": "tls_skip_verify",
    "deregistercriticalserviceafter": "deregister_critical_service_after",
}
ALIASES: Final[Mapping[str, Mapping[str, str]]] = {"check": _CHECK_ALIASES, "service_check": _CHECK_ALIASES}
"""Spellings that files may use besides the fields' names, by shape, in lower case."""

API_NAMES: Final[Mapping[tuple[str, str], str]] = {("service_check", "id"): "CheckID"}
"""Where the API's name is not that of the field, by shape and field."""

_CHECK_WITHOUT_EFFECT: Final = frozenset({"namespace", "partition"})
NO_EFFECT_YET: Final[Mapping[str, frozenset[str]]] = {
    "service": frozenset({"socket_path", "locality", "namespace", "partition"}),
    "check": _CHECK_WITHOUT_EFFECT,
    "service_check": _CHECK_WITHOUT_EFFECT,
}
"""Fields that are read and left out of the definition, by shape."""

"""How Python names become the names that Consul's Go structs have on the wire and in JSON."""

from collections.abc import Callable
from typing import Any

import msgspec

_ACRONYMS = {
    "acl": "ACL", "dns": "DNS", "grpc": "GRPC", "h2ping": "H2PING", "http": "HTTP", "id": "ID", "ids": "IDs", "ip": "Ip",
    "kv": "KV", "ns": "NS", "os": "OS", "tcp": "TCP", "tls": "TLS", "ttl": "TTL", "udp": "UDP", "uri": "URI",
}  # fmt: skip


def go_name(name: str) -> str:
    """`service_id` -> `ServiceID`, `tls_skip_verify` -> `TLSSkipVerify`."""
    return "".join(_ACRONYMS.get(part) or part.capitalize() for part in name.split("_"))


def always(zero: Callable[[], Any], name: str | None = None) -> Any:
    """A field that has a zero value and yet is always written.

    Structs here leave out fields that hold their default (`omit_defaults`), as Go's `omitempty` does. msgspec never treats
    the product of a factory as the default, except for empty list, dict and set factories, which `zero` therefore must not be:
    use `new_list` and `new_dict`.
    """
    return msgspec.field(default_factory=zero, name=name)


def new_list() -> list[Any]:
    return []


def new_dict() -> dict[str, Any]:
    return {}


def nothing() -> None:
    """The zero of a Go slice, map or pointer: written as `null`."""

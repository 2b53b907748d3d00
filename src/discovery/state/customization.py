"""The hash that tells discovery chains apart which differ by their caller's wishes, as Consul computes it.

Source: observed from Consul 1.8.7; the scheme is that of the Go library hashstructure: FNV-1 over 64 bits, a record being its
name and, combined by exclusive or, the pairs of its fields' names and values.
"""

import struct
from functools import reduce
from operator import xor
from typing import Final

from discovery.model.discovery_chain import ChainOverrides

_OFFSET: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_MASK: Final = 2**64 - 1
_SHOWN: Final = 8
"""Hexadecimal digits of a hash that are shown."""


def customization_hash(applied: ChainOverrides) -> str:
    """`applied` has those wishes that made a difference."""
    gateway = _record("MeshGatewayConfig", Mode=_text(applied.override_mesh_gateway.mode))
    timeout = _fnv(struct.pack("<q", int(applied.override_connect_timeout or 0)))
    protocol = _text(applied.override_protocol)
    whole = _record("", OverrideMeshGateway=gateway, OverrideProtocol=protocol, OverrideConnectTimeout=timeout)
    return f"{whole:x}"[:_SHOWN]


def _fnv(data: bytes) -> int:
    return reduce(lambda value, byte: (value * _PRIME & _MASK) ^ byte, data, _OFFSET)


def _text(text: str) -> int:
    return _fnv(text.encode())


def _record(name: str, **fields: int) -> int:
    pairs = (_fnv(struct.pack("<QQ", _text(field), value)) for field, value in fields.items())
    return reduce(xor, pairs, _text(name))

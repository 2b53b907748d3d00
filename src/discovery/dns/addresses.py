"""Which of its addresses a node or a service is answered with.

Nodes and services carry a plain address, which may be a host name, and tagged ones by family, for use inside and outside of
their datacenter. Source: Consul documentation of `tagged_addresses` and `translate_wan_addrs`; observed from Consul 1.8.7.
"""

import socket
from collections.abc import Mapping
from enum import Flag
from typing import Final

import msgspec

from discovery.model.records import Node, NodeService

from .wire import AAAA, ANY, SRV, TXT, A

_MAPPED: Final = bytes(10) + b"\xff\xff"


class Family(Flag):
    V4 = 1
    V6 = 2


BOTH: Final = Family.V4 | Family.V6


def wanted(query_type: int) -> Family:
    """The families that an address may be chosen from for a question of that type."""
    return Family.V4 if query_type == A else Family.V6 if query_type == AAAA else BOTH


def shown(query_type: int) -> Family:
    """The families that a question of that type is answered with."""
    return BOTH if query_type in (ANY, SRV, TXT) else wanted(query_type) if query_type in (A, AAAA) else Family(0)


def packed(text: str) -> bytes:
    """An IP address as 4 or 16 bytes; empty for anything else."""
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        address = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return b""
    return address[12:] if address.startswith(_MAPPED) else address


def address_text(address: bytes) -> str:
    """4 or 16 bytes as an address is usually written."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def family(address: bytes) -> Family:
    return Family.V4 if len(address) == 4 else Family.V6


class Addresses(msgspec.Struct, frozen=True):
    """The candidates; empty where there is none."""

    plain: str
    v4: str
    v6: str

    def choose(self, families: Family) -> str:
        """An IP address of one of `families`, or a host name; empty if none fits."""
        if self.v6 and Family.V6 in families:
            return self.v6
        if self.v4 and Family.V4 in families:
            return self.v4
        address = packed(self.plain)
        return self.plain if not address or family(address) in families else ""


def node_addresses(node: Node, *, remote: bool) -> Addresses:
    """`remote`: as seen from another datacenter, with translation on."""
    return _candidates(node.address, node.tagged_addresses or {}, remote=remote)


def service_addresses(service: NodeService, *, remote: bool) -> Addresses:
    tagged = {tag: address.address for tag, address in (service.tagged_addresses or {}).items()}
    return _candidates(service.address, tagged, remote=remote)


def service_port(service: NodeService, *, remote: bool) -> int:
    wan = (service.tagged_addresses or {}).get("wan") if remote else None
    return wan.port if wan is not None and wan.port else service.port


def _candidates(plain: str, tagged: Mapping[str, str], *, remote: bool) -> Addresses:
    v4, v6 = tagged.get("lan_ipv4", ""), tagged.get("lan_ipv6", "")
    if remote:
        plain, v4, v6 = tagged.get("wan", plain), tagged.get("wan_ipv4", v4), tagged.get("wan_ipv6", v6)
    return Addresses(plain, v4, v6)

"""What a question's name asks for.

Within our zones a name is read from the right: the first label that is a keyword says what is asked, left of it stands the
subject, right of it the datacenter. Source: Consul documentation, "DNS interface"; observed from Consul 1.8.7.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from .wire import SRV, Name, lowered


class NodeLookup(msgspec.Struct, frozen=True):
    """In every lookup an empty `datacenter` is the agent's own."""

    node: str
    datacenter: str = ""


class ServiceLookup(msgspec.Struct, frozen=True):
    service: str
    tag: str = ""
    datacenter: str = ""
    connect: bool = False
    ingress: bool = False


class QueryLookup(msgspec.Struct, frozen=True):
    """A prepared query, by name or id."""

    query: str
    datacenter: str = ""


class AddressLookup(msgspec.Struct, frozen=True):
    """An address spelt in the name itself; `packed` is 4 or 16 bytes."""

    packed: bytes


class ReverseLookup(msgspec.Struct, frozen=True):
    """`packed` is empty where the name spells no whole address."""

    packed: bytes


class Nothing(msgspec.Struct, frozen=True):
    """A name of ours that stands for nothing."""


class Bare(msgspec.Struct, frozen=True):
    """A name of ours that exists and has no records."""


class Foreign(msgspec.Struct, frozen=True):
    """A name that others answer for."""


Lookup = NodeLookup | ServiceLookup | QueryLookup | AddressLookup | ReverseLookup | Nothing | Bare | Foreign

_KEYWORDS: Final = (b"service", b"connect", b"ingress", b"node", b"query", b"addr")
_ANY_TAG: Final = "tcp"


class Zones(msgspec.Struct, frozen=True):
    """The domains we answer for; `alternative` is empty where there is none."""

    primary: Name
    alternative: Name = ()

    def strip(self, name: Name) -> Name | None:
        """What stands before the zone in the lower-case `name`; None if the name lies outside."""
        for zone in sorted((lowered(self.primary), lowered(self.alternative)), key=len, reverse=True):
            if zone and name[-len(zone) :] == zone:
                return name[: -len(zone)]
        return None


def classify(name: Name, query_type: int, zones: Zones) -> Lookup:
    """The lookup that a question asks for."""
    name = lowered(name)
    labels = zones.strip(name)
    if labels is not None:
        return _within(labels, query_type)
    if name[-1:] == (b"arpa",):
        return ReverseLookup(_reversed_address(name))
    return Foreign()


def _within(labels: Name, query_type: int) -> Lookup:
    for place in range(len(labels) - 1, -1, -1):
        label = labels[place]
        if label in _KEYWORDS:
            return _lookup(label, labels[:place], labels[place + 1 :])
        if query_type == SRV and label.startswith(b"_"):
            return _lookup(b"service", labels[: place + 1], labels[place + 1 :])
    return Nothing()


def _lookup(keyword: bytes, subject: Name, locality: Name) -> Lookup:
    if keyword == b"addr":
        return _spelt_address(subject)
    if not subject or len(locality) > 1:
        return Nothing()
    words = [label.decode() for label in subject]
    datacenter = locality[0].decode() if locality else ""
    match keyword:
        case b"node":
            return NodeLookup(".".join(words), datacenter)
        case b"query":
            return QueryLookup(".".join(words), datacenter)
        case b"service":
            return _service(words, datacenter)
        case _:
            return ServiceLookup(words[-1], "", datacenter, connect=keyword == b"connect", ingress=keyword == b"ingress")


def _service(words: Sequence[str], datacenter: str) -> ServiceLookup:
    if len(words) == 2 and words[0].startswith("_") and words[1].startswith("_"):
        tag = words[1][1:]
        return ServiceLookup(words[0][1:], "" if tag == _ANY_TAG else tag, datacenter)
    return ServiceLookup(words[-1], ".".join(words[:-1]), datacenter)


def _spelt_address(subject: Name) -> Lookup:
    if len(subject) != 1:
        return Nothing()
    digits = subject[0]
    # An odd digit more is a mistake in an address, any other length is no address at all.
    if len(digits) // 2 not in (4, 16):
        return Bare()
    packed = _from_hex(digits)
    return AddressLookup(packed) if packed else Nothing()


def _from_hex(digits: bytes) -> bytes:
    """Empty for anything but hexadecimal digits in pairs."""
    try:
        return bytes.fromhex(digits.decode()) if digits.isalnum() else b""
    except ValueError:
        return b""


def _reversed_address(name: Name) -> bytes:
    parts, kind = name[:-2][::-1], name[-2:-1]
    if kind == (b"in-addr",) and len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts):
        return bytes(int(part) for part in parts)
    if kind == (b"ip6",) and len(parts) == 32 and all(len(part) == 1 for part in parts):
        return _from_hex(b"".join(parts))
    return b""

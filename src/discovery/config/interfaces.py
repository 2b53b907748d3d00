"""The addresses of this machine's network interfaces."""

import ctypes
import ipaddress
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_ROUTES: Final = Path("/proc/net/route")
_DOCUMENTATION: Final = ipaddress.ip_network("192.0.2.0/24")


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    name: str
    address: IpAddress
    prefix: int
    """Bits of the network part."""
    up: bool = True
    loopback: bool = False
    default: bool = False
    """Whether the default route leaves here."""

    @property
    def private(self) -> bool:
        """In one of the special-purpose ranges of RFC 6890."""
        return not self.address.is_global

    @property
    def forwardable(self) -> bool:
        """Whether routers pass it on: not loopback, link-local or reserved for documentation."""
        return not (self.loopback or self.address.is_loopback or self.address.is_link_local or self.address.is_unspecified) and (
            self.address.version == 6 or self.address not in _DOCUMENTATION
        )


class _Ifaddrs(ctypes.Structure):
    """`struct ifaddrs` of getifaddrs(3), as far as it is read here."""


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]


def system_interfaces() -> list[InterfaceAddress]:
    """By interface, in the system's order. Raises `OSError`."""
    library = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(_Ifaddrs)()
    if library.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    try:
        order = [name for _, name in socket.if_nameindex()]
        return sorted(_listed(head, _default_interface()), key=lambda one: order.index(one.name) if one.name in order else -1)
    finally:
        library.freeifaddrs(head)


def _listed(head: "ctypes._Pointer[_Ifaddrs]", default: str) -> Iterator[InterfaceAddress]:
    while head:
        entry = head.contents
        name = entry.name.decode()
        address, mask = _ip_of(entry.address), _ip_of(entry.netmask)
        if address is not None and mask is not None:
            yield InterfaceAddress(
                name=name,
                address=address,
                prefix=int(mask).bit_count(),
                up=bool(entry.flags & _UP),
                loopback=bool(entry.flags & _LOOPBACK),
                default=name == default,
            )
        head = entry.next


def _ip_of(sockaddr: int | None) -> IpAddress | None:
    """The IP in a `struct sockaddr`, if it holds one."""
    if not sockaddr:
        return None
    head = ctypes.string_at(sockaddr, 2)
    family = int.from_bytes(head, sys.byteorder) if sys.platform == "linux" else head[1]
    if family == socket.AF_INET:
        return ipaddress.IPv4Address(ctypes.string_at(sockaddr + 4, 4))
    if family == socket.AF_INET6:
        return ipaddress.IPv6Address(ctypes.string_at(sockaddr + 8, 16))
    return None


def _default_interface() -> str:
    """Where the IPv4 default route leaves; empty if there is none or this system keeps its routes elsewhere."""
    if not _ROUTES.exists():
        return ""
    for line in _ROUTES.read_text().splitlines()[1:]:
        name, destination, *_ = line.split()
        if int(destination, 16) == 0:
            return name
    return ""

"""Datagrams, read in batches.

A socket bound to all addresses leaves the choice of an answer's source to the routing table, and clients ignore answers from an
address that they did not ask. There the kernel tells with each question where it was sent to, and answers leave from there
(IP_PKTINFO; RFC 3542 for IPv6).
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .desk import Desk
from .wire import MAX_QUERY

BATCH: Final = 64
"""Datagrams read before other work gets a turn."""
_IP_PKTINFO: Final = 8
"""Linux's number; Python 3.11 has no name for it."""
_PACKET_INFO: Final = struct.Struct("=i4s4s")
_PACKET_INFO_6: Final = struct.Struct("=16si")
_ANCILLARY_ROOM: Final = socket.CMSG_SPACE(_PACKET_INFO_6.size)


class UdpListener:
    """A bound, non-blocking datagram socket."""

    def __init__(self, udp: socket.socket, desk: Desk) -> None:
        self._socket = udp
        self._desk = desk
        self._receive: Callable[[int], tuple[bytes, Any]] = udp.recvfrom
        self._send: Callable[[bytes, Any], object] = udp.sendto
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(udp, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        receive, desk = self._receive, self._desk
        now = self._loop.time()
        for _ in range(BATCH):
            try:
                packet, client = receive(MAX_QUERY + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # The kernel reports here that an earlier answer did not arrive.
                desk.dropped(str(error))
                continue
            answer = desk.ready(packet, now, tcp=False)
            if answer is not None:
                self._send_to(client, answer)
            else:
                desk.take(packet, client[0], partial(self._send_to, client), tcp=False)

    def _send_to(self, client: Any, answer: bytes) -> None:
        if not answer:
            return
        try:
            self._send(answer, client)
        except OSError as error:
            self._desk.dropped(f"an answer of {len(answer)} bytes could not be sent: {error}")


class WildcardListener(UdpListener):
    """A socket bound to all addresses; what stands for a client here is (host, address, where the question was sent to)."""

    def __init__(self, udp: socket.socket, desk: Desk) -> None:
        if udp.family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        super().__init__(udp, desk)
        self._receive = self._receive_with_target
        self._send = self._send_from_target

    def _receive_with_target(self, size: int) -> tuple[bytes, Any]:
        packet, ancillary, _, address = self._socket.recvmsg(size, _ANCILLARY_ROOM)
        return packet, (address[0], address, [_as_source(*item) for item in ancillary])

    def _send_from_target(self, answer: bytes, client: Any) -> None:
        _, address, ancillary = client
        self._socket.sendmsg([answer], ancillary, 0, address)


def _as_source(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The note that a datagram came to an address, as the wish that the answer leave from there, by whichever interface."""
    if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
        _, local, _ = _PACKET_INFO.unpack(data)
        return level, kind, _PACKET_INFO.pack(0, local, bytes(4))
    return level, kind, data


def listener(udp: socket.socket, desk: Desk) -> UdpListener:
    """Begin to answer on `udp`."""
    everywhere = udp.getsockname()[0] in ("0.0.0.0", "::")
    return (WildcardListener if everywhere and sys.platform == "linux" else UdpListener)(udp, desk)

"""The sockets of a gossip pool: UDP for packets and TCP for exchanges, on one address and port."""

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final, cast

from discovery.gossip.members import Address
from discovery.gossip.packets import Packet
from discovery.gossip.swim import Exchange, Served
from discovery.telemetry import Metrics

log = logging.getLogger(__name__)

_MAX_DATAGRAM: Final = 65_536
_RECEIVE_BUFFER: Final = 2 << 20
_SMALLEST_BUFFER: Final = 64 << 10
_BACKLOG: Final = 128
_BIND_ATTEMPTS: Final = 20
_ANY: Final = "::"
"""Bound to, it stands for all addresses of both families."""
_MAPPED: Final = "::ffff:"
"""What an IPv4 address begins with on a socket of IPv6."""


def bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket with one port, a free one if `port` is 0. Raises OSError."""
    for attempts_left in reversed(range(_BIND_ATTEMPTS)):
        udp = _udp_socket(address, port)
        bound: int = udp.getsockname()[1]
        try:
            return udp, _tcp_socket(address, bound)
        except OSError as error:
            udp.close()
            # The kernel chose a port that is free for UDP only.
            if port or error.errno != errno.EADDRINUSE or not attempts_left:
                raise
    raise AssertionError("the last attempt to bind neither succeeded nor failed")


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _udp_socket(address: str, port: int) -> socket.socket:
    udp = socket.socket(_family(address), socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        if address == _ANY:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind((address, port))
        _enlarge_receive_buffer(udp)
    except OSError:
        udp.close()
        raise
    return udp


def _enlarge_receive_buffer(udp: socket.socket) -> None:
    size = _RECEIVE_BUFFER
    while size >= _SMALLEST_BUFFER:
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            return
        except OSError:
            size //= 2
    log.warning("the system grants no receive buffer of %d bytes for gossip", _SMALLEST_BUFFER)


def _tcp_socket(address: str, port: int) -> socket.socket:
    tcp = socket.create_server((address, port), family=_family(address), backlog=_BACKLOG, dualstack_ipv6=address == _ANY)
    tcp.setblocking(False)
    return tcp


def _unmapped(host: str) -> str:
    return host.removeprefix(_MAPPED) if "." in host else host


class Datagrams:
    """Reads and writes packets without ever waiting: what does not fit the system's buffers is lost, as packets may be."""

    def __init__(self, udp: socket.socket, metrics: Metrics) -> None:
        self._udp = udp
        self._six = udp.family is socket.AF_INET6
        self._received = metrics.memberlist_udp_received
        self._sent = metrics.memberlist_udp_sent
        self.dropped = 0

    def fileno(self) -> int:
        return self._udp.fileno()

    def receive(self, limit: int) -> Iterator[tuple[bytes, Address]]:
        """What waits, at most `limit` packets."""
        for _ in range(limit):
            try:
                data, source = self._udp.recvfrom(_MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # An error that an earlier packet of ours met on its way; it says nothing about what waits behind it.
                log.debug("receiving gossip: %s", error)
                continue
            self._received.inc(len(data))
            yield data, (_unmapped(source[0]), source[1])

    def send(self, packet: Packet) -> bool:
        """Whether it may have left; false if the system knows no way to its destination."""
        host, port = packet.destination
        if self._six and ":" not in host:
            host = _MAPPED + host
        try:
            self._sent.inc(self._udp.sendto(packet.data, (host, port)))
        except (BlockingIOError, InterruptedError):
            self.dropped += 1
        except OSError as error:
            self.dropped += 1
            log.debug("sending gossip to %s:%d: %s", *packet.destination, error)
            return False
        return True

    def close(self) -> None:
        self._udp.close()


class ServedConnection(asyncio.Protocol):
    """An accepted stream: bytes to the core, its reply back, and the end. `changed` is called when the core heard something."""

    def __init__(
        self,
        serve: Callable[[Address], Served],
        changed: Callable[[], None],
        connections: "set[ServedConnection]",
        *,
        limit: int,
        timeout: float,
        metrics: Metrics,
    ) -> None:
        self._serve = serve
        self._changed = changed
        self._connections = connections
        self._limit = limit
        self._timeout = timeout
        self._metrics = metrics
        self._transport: asyncio.Transport | None = None
        self._served: Served | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked by its type: those of uvloop have another.
        self._transport = transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= self._limit:
            log.warning("refusing gossip stream: %d are open already", self._limit)
            transport.abort()
            return
        self._metrics.memberlist_tcp_accept.inc()
        self._connections.add(self)
        host, port = (transport.get_extra_info("peername") or ("unknown", 0))[:2]
        self._served = self._serve((_unmapped(host), port))
        self._expiry = asyncio.get_running_loop().call_later(self._timeout, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._served is None or self._served.finished or self._transport is None:
            return
        reply = self._served.receive(data, time.monotonic())
        if reply:
            self._metrics.memberlist_tcp_sent.inc(len(reply))
            self._transport.write(reply)
        if self._served.finished:
            self._transport.close()
            self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._served is not None and not self._served.finished:
            self._served.cut_off(time.monotonic())
            self._changed()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _ExchangeConnection(asyncio.Protocol):
    """An exchange's stream; `done` is set when it is over either way."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._exchange.receive(data, time.monotonic())
        if self._exchange.finished:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._exchange.finished:
            self._exchange.fail(str(exc) if exc else "the other side closed without a reply")
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run_exchange(exchange: Exchange, metrics: Metrics) -> None:
    """Open, ask, hear the reply. Never raises for the network's sake: what went wrong is the exchange's `error`."""
    host, port = exchange.destination
    started = time.monotonic()
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(exchange.timeout):
            await _run_stream(exchange, host, port, metrics)
    except TimeoutError:
        exchange.fail(f"dial tcp {where}: i/o timeout")
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        exchange.fail(f"dial tcp {where}: connect: {reason}")
    if exchange.of_state:
        metrics.memberlist_push_pull_node.observe(time.monotonic() - started)


async def _run_stream(exchange: Exchange, host: str, port: int, metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(lambda: _ExchangeConnection(exchange), host, port)
    try:
        metrics.memberlist_tcp_connect.inc()
        metrics.memberlist_tcp_sent.inc(len(exchange.request))
        transport.write(exchange.request)
        await connection.done
    finally:
        transport.abort()

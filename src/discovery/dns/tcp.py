"""TCP connections, each with many questions (RFC 7766)."""

import asyncio
from typing import Final, cast

from .desk import Desk
from .wire import HEADER, MAX_QUERY

IDLE_TIMEOUT: Final = 10.0
"""Seconds after which a silent connection is closed."""
MAX_CONNECTIONS: Final = 1024
MAX_PIPELINED: Final = 64
"""Unanswered questions of one connection; beyond, it is not read from."""


class Connections:
    """What the connections of all TCP listeners share."""

    def __init__(self, desk: Desk, *, limit: int = MAX_CONNECTIONS, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self.desk = desk
        self.idle_timeout = idle_timeout
        self._limit = limit
        self._open: set[TcpConnection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: "TcpConnection") -> bool:
        if len(self._open) >= self._limit:
            self.desk.dropped(f"{self._limit} TCP connections are open")
            return False
        self._open.add(connection)
        return True

    def release(self, connection: "TcpConnection") -> None:
        self._open.discard(connection)

    def close(self) -> None:
        for connection in list(self._open):
            connection.abort()


class TcpConnection(asyncio.Protocol):
    """Questions and answers, each behind its length in two bytes; answers come in the order in which they are ready."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._waiting = 0
        self._writable = True
        self._active_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._client = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface without the base class.
        transport = cast(asyncio.Transport, transport)
        if not self._connections.admit(self):
            transport.abort()
            return
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        self._active_at = self._loop.time()
        self._watch_idleness(self._connections.idle_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.release(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._active_at = self._loop.time()
        self._take_questions()

    def pause_writing(self) -> None:
        self._writable = False
        self._regulate()

    def resume_writing(self) -> None:
        self._writable = True
        self._take_questions()

    def _take_questions(self) -> None:
        received, desk = self._received, self._connections.desk
        while self._may_read and len(received) >= 2:
            size = int.from_bytes(received[:2])
            if not HEADER.size <= size <= MAX_QUERY:
                desk.dropped(f"a TCP client announced a message of {size} bytes")
                self.abort()
                return
            if len(received) < 2 + size:
                break
            packet = bytes(received[2 : 2 + size])
            del received[: 2 + size]
            answer = desk.ready(packet, self._active_at, tcp=True)
            if answer is not None:
                self._send(answer)
            else:
                self._waiting += 1
                desk.take(packet, self._client, self._answered, tcp=True)
        self._regulate()

    @property
    def _may_read(self) -> bool:
        return self._transport is not None and self._writable and self._waiting < MAX_PIPELINED

    def _answered(self, answer: bytes) -> None:
        self._waiting -= 1
        if self._transport is None:
            return
        self._active_at = self._loop.time()
        if answer:
            self._send(answer)
        self._take_questions()

    def _send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(len(answer).to_bytes(2) + answer)

    def _regulate(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._may_read:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _watch_idleness(self, delay: float) -> None:
        self._timer = self._loop.call_later(delay, self._check_idleness)

    def _check_idleness(self) -> None:
        rest = self._active_at + self._connections.idle_timeout - self._loop.time()
        if rest > 0 or self._waiting:
            self._watch_idleness(max(rest, self._connections.idle_timeout / 4))
        else:
            self.abort()

"""Raft messages between our servers.

Each server keeps one connection to each peer for what it has to say, and hears on the connection the peer keeps. A
connection opens with byte 0xD1 and a hello naming format, cluster and sender; then every frame is one encoded message.
Raft does not need delivery, only that what arrives is whole and recent: what cannot be sent soon is dropped and Raft
is told that the peer is unreachable. Snapshots travel on connections of their own (see `raft_snapshots`), so that
heartbeats never wait behind them.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec

from .connection import Connection
from .dialer import Dialer
from .first_bytes import RAFT
from .frames import MAX_FRAME, FrameConnection
from .raft_snapshots import ReceiveSnapshot, SnapshotIntake, SnapshotOutlet

log = logging.getLogger(__name__)

FORMAT: Final = 1

_MAX_HELLO: Final = 4096
_FIRST_BACK_OFF: Final = 0.05
_STEADY: Final = 5.0  # seconds a connection must last for its loss not to count as a further failure


class Hello(msgspec.Struct, frozen=True):
    """First frame of a connection. `cluster` must be the same on both ends; `snapshot` tells what follows."""

    format: int
    cluster: str
    server_id: str
    snapshot: bool


class RaftPeers:
    """Sends to peers by address, and makes the connections that hear from them.

    `on_messages` gets all messages that one read completed; `report_unreachable` gets an address whenever a message to
    it was lost here, `report_silent` the id of a peer whose connection to us has ended. Waiting to reconnect never takes longer
    than `max_back_off` seconds, which should be well below an election timeout; `max_buffer` bounds the bytes that may wait
    for one peer.
    """

    def __init__(
        self,
        server_id: str,
        on_messages: Callable[[list[bytes]], None],
        *,
        report_unreachable: Callable[[str], None],
        report_silent: Callable[[str], None] = lambda server_id: None,
        receive_snapshot: ReceiveSnapshot,
        rng: random.Random,
        cluster: str = "",
        dialer: Dialer | None = None,
        dial_timeout: float = 1.0,
        max_back_off: float = 0.25,
        max_buffer: int = MAX_FRAME,
    ) -> None:
        self._server_id = server_id
        self._on_messages = on_messages
        self._report_unreachable = report_unreachable
        self._report_silent = report_silent
        self._receive_snapshot = receive_snapshot
        self._rng = rng
        self._cluster = cluster
        self._dialer = dialer or Dialer()
        self._dial_timeout = dial_timeout
        self._max_back_off = max_back_off
        self._max_buffer = max_buffer
        self._peers: dict[str, _Peer] = {}
        self._closed = False

    def incoming(self) -> Connection:
        """A connection on which a peer speaks, for byte 0xD1 of the server port."""
        return _Incoming(self._cluster, self._on_messages, self._receive_snapshot, self._fallen_silent)

    def send(self, address: str, frame: bytes) -> None:
        """Send an encoded message soon, or drop it and report the peer; never waits. After `close` nothing is sent."""
        if len(frame) > MAX_FRAME:
            raise AssertionError(f"Raft message of {len(frame)} bytes, at most {MAX_FRAME}")
        if self._closed:
            return
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer(address)
        loop = asyncio.get_running_loop()
        if peer.connection is None and peer.dial is None:
            if loop.time() < peer.retry_at:
                self._report_unreachable(address)
                return
            peer.dial = loop.create_task(self._dial(peer))
        waiting = peer.waiting_bytes
        if waiting and waiting + len(frame) > self._max_buffer:
            self._report_unreachable(address)
            return
        peer.add(frame)

    async def send_snapshot(
        self, address: str, meta: bytes, chunks: AsyncIterator[bytes] | Iterator[bytes], *, timeout: float = 60.0
    ) -> None:
        """Stream a snapshot and return once the peer has made it its own.

        `timeout` is seconds for each single step, the last of which includes installing. Raises `SnapshotRefused` with
        the peer's reason, and OSError if the connection fails.
        """
        outlet = await self._dialer.dial(address, RAFT, SnapshotOutlet(timeout))
        try:
            outlet.send_frames([self._hello(snapshot=True)])
            await outlet.send(meta, chunks)
        finally:
            outlet.transport.abort()

    def forget(self, address: str) -> None:
        """Close the connection to an address that is no peer any longer."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            peer.close()

    async def close(self) -> None:
        """Close all connections to peers; those they made to us are the listener's to close."""
        self._closed = True
        peers = list(self._peers.values())
        self._peers.clear()
        dials = [peer.dial for peer in peers if peer.dial is not None]
        for peer in peers:
            peer.close()
        await asyncio.gather(*dials, return_exceptions=True)

    def _fallen_silent(self, server_id: str) -> None:
        if not self._closed:
            self._report_silent(server_id)

    def _hello(self, *, snapshot: bool) -> bytes:
        return msgspec.msgpack.encode(Hello(FORMAT, self._cluster, self._server_id, snapshot))

    async def _dial(self, peer: "_Peer") -> None:
        connection = _Outgoing()
        try:
            await self._dialer.dial(peer.address, RAFT, connection, timeout=self._dial_timeout)
        except OSError as error:
            peer.dial = None
            self._lost(peer, f"cannot connect: {error or 'timed out'}")
            return
        peer.dial = None
        peer.connection = connection
        peer.connected_at = asyncio.get_running_loop().time()
        connection.send_frames([self._hello(snapshot=False)])
        connection.on_lost.append(lambda: self._lost(peer, "connection lost"))
        peer.flush()

    def _lost(self, peer: "_Peer", reason: str) -> None:
        """Drop what waits and stay away for a while, longer with every failure in a row."""
        now = asyncio.get_running_loop().time()
        steady = peer.connection is not None and now - peer.connected_at > _STEADY
        peer.failures = 1 if steady else peer.failures + 1
        back_off = min(self._max_back_off, _FIRST_BACK_OFF * 2 ** min(peer.failures - 1, 16))
        peer.retry_at = now + back_off * self._rng.uniform(0.5, 1.0)
        peer.drop()
        if self._peers.get(peer.address) is peer:
            if peer.failures == 1:
                log.warning("Raft peer %s: %s", peer.address, reason)
            self._report_unreachable(peer.address)


class _Peer:
    """The way to one peer: connected, being dialled, or neither until `retry_at` (seconds of the loop's clock)."""

    __slots__ = ("_pending", "_pending_bytes", "address", "connected_at", "connection", "dial", "failures", "retry_at")

    def __init__(self, address: str) -> None:
        self.address = address
        self.connection: _Outgoing | None = None
        self.dial: asyncio.Task[None] | None = None
        self.connected_at = 0.0
        self.retry_at = 0.0
        self.failures = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet taken by the operating system."""
        unsent = self.connection.transport.get_write_buffer_size() if self.connection is not None else 0
        return self._pending_bytes + unsent

    def add(self, frame: bytes) -> None:
        """Send a frame at once, or when connected."""
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        if self.connection is not None:
            self.flush()

    def flush(self) -> None:
        """Write what is pending in one piece."""
        if self.connection is not None and self._pending and not self.connection.closing:
            self.connection.send_frames(self._pending)
            self._pending = []
            self._pending_bytes = 0

    def drop(self) -> None:
        """Forget the connection and what was to go over it."""
        self.connection = None
        self._pending = []
        self._pending_bytes = 0

    def close(self) -> None:
        """Close the connection, or stop making one."""
        if self.dial is not None:
            self.dial.cancel()
        if self.connection is not None:
            self.connection.transport.abort()


class _Outgoing(FrameConnection):
    """Nothing is heard on the connection on which we speak."""

    def frames_received(self, frames: list[bytes]) -> None:
        log.warning("closing connection to %s: it speaks where it should listen", self.peer)
        self.transport.abort()


class _Incoming(FrameConnection):
    """Hears the hello of a peer, then its messages or one snapshot."""

    def __init__(
        self,
        cluster: str,
        on_messages: Callable[[list[bytes]], None],
        receive_snapshot: ReceiveSnapshot,
        fallen_silent: Callable[[str], None],
    ) -> None:
        super().__init__(_MAX_HELLO)
        self._cluster = cluster
        self._on_messages = on_messages
        self._receive_snapshot = receive_snapshot
        self._fallen_silent = fallen_silent
        self._consume: Callable[[list[bytes]], None] | None = None

    def frames_received(self, frames: list[bytes]) -> None:
        if self._consume is None:
            self._greet(frames.pop(0))
        if self._consume is not None and frames:
            self._consume(frames)

    def _greet(self, frame: bytes) -> None:
        try:
            hello = msgspec.msgpack.decode(frame, type=Hello)
        except msgspec.MsgspecError as error:
            return self._refuse(f"its hello is invalid ({error})")
        if hello.format != FORMAT or hello.cluster != self._cluster:
            return self._refuse(f"it speaks format {hello.format} for cluster {hello.cluster!r}")
        if hello.snapshot:
            intake = SnapshotIntake(self, hello.server_id, self._receive_snapshot)
            self.on_lost.append(intake.abort)
            self._consume = intake.frames_received
        else:
            self.on_lost.append(lambda: self._fallen_silent(hello.server_id))
            self._consume = self._on_messages
        return None

    def _refuse(self, reason: str) -> None:
        log.warning("refusing Raft connection from %s: %s", self.peer, reason)
        self.transport.abort()

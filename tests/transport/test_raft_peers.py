"""Raft messages and snapshots between servers over real sockets."""

import asyncio
import random
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from discovery.transport.first_bytes import RAFT
from discovery.transport.listener import Listener
from discovery.transport.raft_peers import FORMAT, Hello, RaftPeers
from discovery.transport.raft_snapshots import SnapshotRefused, SnapshotSink
from tests.transport.rpc_rig import RawConnection, listening


class Sink:
    """Gathers one snapshot."""

    def __init__(self, meta: bytes, changed: asyncio.Event) -> None:
        self.meta = meta
        self._changed = changed
        self.data = b""
        self.writes = 0
        self.finished = False
        self.aborted = asyncio.Event()
        self.paused = asyncio.Event()

    @property
    def offset(self) -> int:
        return len(self.data)

    async def write(self, data: bytes) -> None:
        self.writes += 1
        self.data += data
        self._changed.set()

    async def finish(self) -> None:
        if self.meta == b"does not fit":
            raise ValueError("cannot install")
        self.finished = True

    def pause(self) -> None:
        self.paused.set()

    def abort(self) -> None:
        self.aborted.set()


class Server:
    """One server's Raft transport and what it heard."""

    def __init__(self, name: str, **options: Any) -> None:
        self.heard: list[bytes] = []
        self.batches = 0
        self.unreachable: list[str] = []
        self.sinks: list[Sink] = []
        self.resumes = False
        self.changed = asyncio.Event()
        self.peers = RaftPeers(
            name,
            self._hear,
            report_unreachable=self._report,
            receive_snapshot=self._receive_snapshot,
            rng=random.Random(1),
            **options,
        )

    def _hear(self, frames: list[bytes]) -> None:
        self.heard += frames
        self.batches += 1
        self.changed.set()

    def _report(self, address: str) -> None:
        self.unreachable.append(address)
        self.changed.set()

    def _receive_snapshot(self, server_id: str, meta: bytes) -> SnapshotSink:
        if meta == b"unwanted":
            raise SnapshotRefused(f"nothing wanted from {server_id}")
        broken_off = self.sinks[-1].data if self.resumes and self.sinks else b""
        self.sinks.append(Sink(meta, self.changed))
        self.sinks[-1].data = broken_off
        self.changed.set()
        return self.sinks[-1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on what was heard or reported."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[str]:
    """The address at which a server hears its peers."""
    async with listening(Listener({RAFT: server.peers.incoming})) as address:
        try:
            yield address
        finally:
            await server.peers.close()


async def test_messages_go_both_ways_in_order() -> None:
    one, two = Server("one"), Server("two")
    async with running(one) as at_one, running(two) as at_two:
        messages = [b"%d" % number for number in range(1000)]
        for message in messages:
            one.peers.send(at_two, message)
            two.peers.send(at_one, message)
        await one.until(lambda: one.heard == messages)
        await two.until(lambda: two.heard == messages)
        assert two.batches < 100
        assert one.unreachable == []


@pytest.mark.parametrize("size", [0, 1, 65_536, 20 << 20])
async def test_messages_of_any_size_arrive_whole(size: int) -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as at_two:
        message = random.Random(size).randbytes(size)
        one.peers.send(at_two, message)
        one.peers.send(at_two, b"after")
        await two.until(lambda: two.heard == [message, b"after"])
        await one.peers.close()


async def test_an_oversized_message_is_our_own_mistake() -> None:
    one = Server("one")
    with pytest.raises(AssertionError, match="67108865 bytes"):
        one.peers.send("127.0.0.1:1", bytes((64 << 20) + 1))


async def test_an_unreachable_peer_costs_nothing_and_is_reported() -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        pass
    one.peers.send(address, b"lost")
    await one.until(lambda: one.unreachable == [address])
    for _ in range(10):
        one.peers.send(address, b"dropped at once")
    assert one.unreachable == [address] * 11
    await one.peers.close()


async def test_a_peer_that_comes_back_is_reached_within_the_back_off() -> None:
    one, two = Server("one", max_back_off=0.1), Server("two")
    async with AsyncExitStack() as stack:
        first = Listener({RAFT: two.peers.incoming})
        host, port = await first.start("127.0.0.1", 0)
        address = f"{host}:{port}"
        one.peers.send(address, b"before")
        await two.until(lambda: two.heard == [b"before"])
        await first.close()
        await one.until(lambda: address in one.unreachable)
        for _ in range(8):
            one.peers.send(address, b"while down")
            await asyncio.sleep(0.02)
        second = Listener({RAFT: two.peers.incoming})
        await second.start(host, port)
        stack.push_async_callback(second.close)
        started = asyncio.get_running_loop().time()
        while b"after" not in two.heard:
            one.peers.send(address, b"after")
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - started < 5
        await one.peers.close()


async def test_a_peer_that_does_not_read_is_bounded_and_reported() -> None:
    stop = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    address = f"{host}:{port}"
    one = Server("one", max_buffer=1 << 20)
    async with server:
        for _ in range(1000):
            one.peers.send(address, bytes(100_000))
            await asyncio.sleep(0)
            if one.unreachable:
                break
        assert one.unreachable == [address]
        stop.set()
        await one.peers.close()


async def test_nothing_is_sent_after_closing() -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        await one.peers.close()
        one.peers.send(address, b"late")
        assert not any("_dial" in repr(task) for task in asyncio.all_tasks())
        assert not one.unreachable
        assert not two.heard


async def test_a_forgotten_peer_is_disconnected_without_a_report() -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        one.peers.send(address, b"hello")
        await two.until(lambda: two.heard == [b"hello"])
        one.peers.forget(address)
        one.peers.send(address, b"again")
        await two.until(lambda: two.heard == [b"hello", b"again"])
        assert one.unreachable == []
        await one.peers.close()


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def hello(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"format": FORMAT, "cluster": "", "server_id": "x", "snapshot": False} | changes
    return framed(msgspec.msgpack.encode(Hello(**fields)))


@pytest.mark.parametrize(
    "opening",
    [
        hello(format=FORMAT + 1),
        hello(cluster="other"),
        framed(b"no hello"),
        framed(b""),
        framed(bytes(4097)),
        b"\xff\xff\xff\xff",
        hello() + b"\x04\x00\x00\x01",
    ],
)
async def test_strangers_and_giants_are_disconnected(opening: bytes) -> None:
    two = Server("two")
    async with running(two) as address, RawConnection.to(address, bytes([RAFT]) + opening) as connection:
        assert await connection.closed() == b""
        assert two.heard == []


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_frames_cut_anywhere(cut: int) -> None:
    two = Server("two")
    stream = hello() + framed(b"first") + framed(b"") + framed(b"third")
    async with running(two) as address, RawConnection.to(address, bytes([RAFT]) + stream[:cut]) as connection:
        await connection.writer.drain()
        await asyncio.sleep(0)
        connection.write(stream[cut:])
        await two.until(lambda: two.heard == [b"first", b"", b"third"])


async def test_a_large_message_may_follow_the_hello_at_once() -> None:
    two = Server("two")
    opening = bytes([RAFT]) + hello() + framed(bytes(10_000))
    async with running(two) as address, RawConnection.to(address, opening):
        await two.until(lambda: two.heard == [bytes(10_000)])


SNAPSHOT = random.Random(3).randbytes(5 << 20)


def pieces(size: int) -> Iterator[bytes]:
    return (SNAPSHOT[start : start + size] for start in range(0, len(SNAPSHOT), size))


async def slowly() -> AsyncIterator[bytes]:
    for piece in pieces(1_000_003):
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("chunks", [lambda: pieces(300_000), lambda: iter([SNAPSHOT]), slowly])
async def test_a_snapshot_arrives_whole(chunks: Callable[[], Any]) -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        await one.peers.send_snapshot(address, b"meta", chunks())
        (sink,) = two.sinks
        assert (sink.meta, sink.data, sink.finished) == (b"meta", SNAPSHOT, True)
        assert sink.writes >= 5
        assert not sink.aborted.is_set()


async def test_an_empty_snapshot() -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        await one.peers.send_snapshot(address, b"", iter(()))
        assert (two.sinks[0].data, two.sinks[0].finished) == (b"", True)


async def test_messages_pass_a_snapshot_under_way() -> None:
    one, two = Server("one"), Server("two")
    more = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begin"
        await more.wait()
        yield b"end"

    async with running(two) as address:
        sending = asyncio.ensure_future(one.peers.send_snapshot(address, b"meta", chunks()))
        await two.until(lambda: bool(two.sinks))
        one.peers.send(address, b"heartbeat")
        await two.until(lambda: two.heard == [b"heartbeat"])
        more.set()
        await sending
        assert two.sinks[0].data == b"beginend"
        await one.peers.close()


@pytest.mark.parametrize(("meta", "reason"), [(b"unwanted", "nothing wanted from one"), (b"does not fit", "cannot install")])
async def test_a_refusal_reaches_the_sender(meta: bytes, reason: str) -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        with pytest.raises(SnapshotRefused, match=reason):
            await one.peers.send_snapshot(address, meta, iter([b"data"]))
        assert all(sink.aborted.is_set() and not sink.finished for sink in two.sinks)


async def test_a_snapshot_nobody_can_take() -> None:
    one, two = Server("one"), Server("two")
    async with running(two) as address:
        pass
    with pytest.raises(OSError):
        await one.peers.send_snapshot(address, b"meta", iter(()))


async def test_a_sender_that_fails_leaves_nothing_behind() -> None:
    one, two = Server("one"), Server("two")

    def failing() -> Iterator[bytes]:
        yield b"begin"
        raise ValueError("disk")

    async with running(two) as address:
        with pytest.raises(ValueError, match="disk"):
            await one.peers.send_snapshot(address, b"meta", failing())
        await two.sinks[0].paused.wait()


async def test_a_receiver_that_stops_fails_the_sender() -> None:
    one, two = Server("one"), Server("two")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"begin"
        await stopped.wait()
        yield b"more"

    stopped = asyncio.Event()
    async with running(two) as address:
        sending = asyncio.ensure_future(one.peers.send_snapshot(address, b"meta", chunks()))
        await two.until(lambda: bool(two.sinks) and two.sinks[0].data == b"begin")
    assert two.sinks[0].paused.is_set()
    stopped.set()
    with pytest.raises(OSError):
        await sending


@pytest.mark.parametrize("size", [300_000, 1 << 20, len(SNAPSHOT)])
async def test_a_snapshot_that_broke_off_goes_on_where_it_was(size: int) -> None:
    one, two = Server("one"), Server("two")
    two.resumes = True

    def breaking() -> Iterator[bytes]:
        yield SNAPSHOT[:2_500_000]
        raise ValueError("cut")

    async with running(two) as address:
        with pytest.raises(ValueError, match="cut"):
            await one.peers.send_snapshot(address, b"meta", breaking())
        await two.sinks[0].paused.wait()
        assert two.sinks[0].offset == 2_500_000
        await one.peers.send_snapshot(address, b"meta", pieces(size))
        assert (two.sinks[1].data, two.sinks[1].finished) == (SNAPSHOT, True)
        assert two.sinks[1].writes <= 1 + (len(SNAPSHOT) - 2_500_000) // min(size, 1 << 20) + 1


async def test_a_receiver_that_claims_more_than_there_is_fails_the_sender() -> None:
    one, two = Server("one"), Server("two")
    two.resumes = True
    two.sinks.append(Sink(b"meta", two.changed))
    two.sinks[0].data = b"far too much"
    async with running(two) as address:
        with pytest.raises((OSError, SnapshotRefused)):
            await one.peers.send_snapshot(address, b"meta", iter([b"short"]))
        assert not two.sinks[1].finished


def chunk(offset: int, data: bytes, checksum: int | None = None) -> bytes:
    return framed(struct.pack(">BQI", 1, offset, zlib.crc32(data) if checksum is None else checksum) + data)


def end(total: int, checksum: int) -> bytes:
    return framed(struct.pack(">BQI", 2, total, checksum))


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([framed(b"\x00meta"), chunk(0, b"abc"), chunk(4, b"d")], b"snapshot chunk at 4 instead of 3"),
        ([framed(b"\x00meta"), chunk(0, b"abc", 1)], b"snapshot chunk at 0 is damaged"),
        ([framed(b"\x00meta"), chunk(0, b"abc"), end(4, zlib.crc32(b"abc"))], b"ended after 3"),
        ([framed(b"\x00meta"), chunk(0, b"abc"), end(3, 5)], b"its checksum differs"),
        ([chunk(0, b"abc")], b"unexpected snapshot frame"),
        ([framed(b"")], b"unexpected snapshot frame"),
        ([framed(b"\x00meta"), framed(b"\x01\x00")], b"unexpected snapshot frame"),
        ([framed(b"\x00meta"), framed(b"\x00again")], b"unexpected snapshot frame"),
    ],
)
async def test_a_snapshot_with_a_fault_is_refused(steps: list[bytes], reason: bytes) -> None:
    two = Server("two")
    opening = bytes([RAFT]) + hello(snapshot=True)
    async with running(two) as address, RawConnection.to(address, opening) as connection:
        for step in steps:
            connection.write(step)
            (length,) = struct.unpack(">I", await connection.reader.readexactly(4))
            answer = await connection.reader.readexactly(length)
        assert reason in answer[8:]
        assert all(sink.aborted.is_set() and not sink.finished for sink in two.sinks)


async def test_a_sender_that_does_not_wait_is_disconnected() -> None:
    two = Server("two")
    opening = bytes([RAFT]) + hello(snapshot=True) + framed(b"\x00meta") + chunk(0, b"abc")
    async with running(two) as address, RawConnection.to(address, opening) as connection:
        await connection.closed()
        assert all(not sink.data for sink in two.sinks)

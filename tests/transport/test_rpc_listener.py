"""The first byte of a connection, patience, limits, and bytes that mean nothing."""

import asyncio
import random
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from discovery.transport import first_bytes
from discovery.transport.connection import Connection
from discovery.transport.first_bytes import RPC, RPC_MULTIPLEXED
from discovery.transport.listener import Listener
from discovery.transport.rpc_server import RpcServer
from discovery.wire import msgpack_rpc
from tests.transport.rpc_rig import METHODS, RawConnection, listening, pooling
from tests.wire import vectors as v


async def peers(method: str, request: object) -> object:
    return []


def protocols() -> dict[int, Callable[[], Connection]]:
    server = RpcServer(peers, METHODS)
    return {RPC: server.single, RPC_MULTIPLEXED: server.multiplexed}


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (0x01, "Raft of a Consul server"),
        (0x02, "old multiplexing"),
        (0x03, "TLS is not configured"),
        (0x06, "gossip over RPC"),
        (0x07, "TLS without certificate"),
        (0x08, "gRPC"),
        (0x09, "Raft forwarding"),
        (0x16, "TLS without announcement"),
        (0xD1, "unknown"),
        (0xFF, "unknown"),
    ],
)
async def test_what_is_not_served_is_named_and_closed(first: int, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(Listener(protocols())) as address, RawConnection.to(address, bytes([first]) + b"more") as connection:
        assert await connection.closed() == b""
    assert name in caplog.text


async def test_silence_is_not_waited_out() -> None:
    async with listening(Listener(protocols(), handshake_timeout=0.05)) as address, RawConnection.to(address) as connection:
        assert await connection.closed() == b""


async def test_after_the_first_byte_silence_is_allowed() -> None:
    async with (
        listening(Listener(protocols(), handshake_timeout=0.05)) as address,
        RawConnection.to(address, bytes([RPC])) as connection,
    ):
        await asyncio.sleep(0.15)
        connection.write(msgpack_rpc.request(1, "Status.Peers", b"\xc0"))
        assert (await connection.reply())[1] == b"\x90"


async def test_connections_of_one_client_are_limited_and_freed() -> None:
    async with listening(Listener(protocols(), max_per_client=2)) as address:
        call = bytes([RPC]) + msgpack_rpc.request(1, "Status.Peers", b"\xc0")
        async with RawConnection.to(address, call) as one, RawConnection.to(address, call) as two:
            await one.reply()
            await two.reply()
            async with RawConnection.to(address, call) as three:
                assert await three.closed() == b""
            one.writer.transport.abort()
            while True:
                async with RawConnection.to(address, call) as four:
                    if await four.reader.read(1):
                        break


async def test_closing_drops_every_connection() -> None:
    listener = Listener(protocols())
    host, port = await listener.start("127.0.0.1", 0)
    address = f"{host}:{port}"
    async with RawConnection.to(address, bytes([RPC])) as served, RawConnection.to(address) as silent:
        served.write(msgpack_rpc.request(1, "Status.Peers", b"\xc0"))
        await served.reply()
        await listener.close()
        assert await served.closed() == await silent.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)


async def test_ipv6() -> None:
    listener = Listener(protocols())
    host, port = await listener.start("::1", 0)
    async with pooling() as pool:
        assert await pool.call(f"[{host}]:{port}", "Status.Peers", v.Empty()) == []
    await listener.close()


def opening(rng: random.Random) -> bytes:
    """Bytes that go wrong sooner or later: pure noise, or noise behind a sound beginning."""
    noise = rng.randbytes(rng.choice((3, 40, 2000)))
    frame = struct.pack(">BBHII", 0, 0, 1, 1, rng.choice((len(noise), 2**32 - 1, 262_144)))
    call = msgpack_rpc.request(1, "Status.Peers", b"")
    return rng.choice(
        (
            noise,
            bytes([RPC]) + noise,
            bytes([RPC]) + call + noise,
            bytes([RPC]) + b"\xdd\xff\xff\xff\xff" + noise,
            bytes([RPC_MULTIPLEXED]) + noise,
            bytes([RPC_MULTIPLEXED]) + frame + noise,
            bytes([RPC_MULTIPLEXED]) + struct.pack(">BBHII", 0, 1, 1, 1, 0) + frame[:4] + noise,
            bytes([first_bytes.TLS]) + noise,
        )
    )


@pytest.mark.parametrize("seed", range(4))
async def test_noise_neither_stops_the_port_nor_fills_memory(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    async with listening(Listener(protocols(), max_per_client=500)) as address, pooling() as pool:
        await pool.call(address, "Status.Peers", v.Empty())
        tracemalloc.start()
        try:
            for _ in range(60):
                async with RawConnection.to(address, opening(rng)) as connection:
                    connection.writer.write_eof()
                    await connection.closed()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20, f"seed {seed}"
        assert await pool.call(address, "Status.Peers", v.Empty()) == []
    assert not [record for record in caplog.records if record.exc_info], f"seed {seed}"

"""Saving and restoring over the server port."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from discovery.transport.dialer import Dialer
from discovery.transport.first_bytes import SNAPSHOT
from discovery.transport.listener import Listener
from discovery.transport.rpc_client import ConnectionLost, RpcError
from discovery.transport.snapshot_rpc import (
    SnapshotReply,
    SnapshotRequest,
    SnapshotServer,
    restore_snapshot,
    save_snapshot,
)
from discovery.wire import go_msgpack, msgpack_rpc
from tests.transport.rpc_rig import RawConnection, listening
from tests.transport.snapshot_rig import ARCHIVE, Keeper

WHO = {"datacenter": "dc3", "token": "t"}


@asynccontextmanager
async def keeping(keeper: Keeper, **options: Any) -> AsyncIterator[str]:
    """The address of a listener that serves snapshots."""
    async with listening(Listener({SNAPSHOT: SnapshotServer(keeper, **options).connection})) as address:
        yield address


async def test_saving() -> None:
    keeper = Keeper()
    async with keeping(keeper) as address:
        archive, meta = await save_snapshot(Dialer(), address, stale=True, **WHO)
    assert archive == ARCHIVE
    assert (meta.index, meta.known_leader) == (35, True)
    assert keeper.asked == [WHO | {"stale": True}]


async def test_restoring() -> None:
    keeper, archive = Keeper(), gzip.compress(b"other")
    async with keeping(keeper) as address:
        await restore_snapshot(Dialer(), address, archive, **WHO)
    assert keeper.archive == archive
    assert keeper.asked == [WHO]


async def test_an_error_comes_back() -> None:
    keeper = Keeper()
    keeper.archive = b""
    async with keeping(keeper) as address:
        with pytest.raises(RpcError, match="No cluster leader"):
            await save_snapshot(Dialer(), address, stale=False, **WHO)


async def test_the_captured_request_and_reply() -> None:
    request = bytes.fromhex("0584aa416c6c6f775374616c65c2aa4461746163656e746572a3646378a24f7000a5546f6b656eda0024") + bytes(
        range(65, 101)
    )
    keeper = Keeper()
    async with keeping(keeper) as address, RawConnection.to(address, request) as connection:
        connection.writer.write_eof()
        answer = await connection.closed()
    token = bytes(range(65, 101)).decode()
    assert keeper.asked == [{"datacenter": "dcx", "token": token, "stale": False}]
    assert answer == (
        bytes.fromhex(
            "85b0436f6e73697374656e63794c6576656ca0a54572726f72a0a5496e64657823ab4b6e6f776e4c6561646572c3"
            "ab4c617374436f6e7461637400"
        )
        + ARCHIVE
    )


@pytest.mark.parametrize("step", [1, 7, 100_000])
async def test_the_end_of_the_archive_is_known_without_the_end_of_the_connection(step: int) -> None:
    keeper, archive = Keeper(), gzip.compress(b"other")
    request = go_msgpack.encode(SnapshotRequest(op=1, datacenter="dc3")) + archive
    async with keeping(keeper) as address, RawConnection.to(address, bytes([SNAPSHOT])) as connection:
        for start in range(0, len(request), step):
            connection.write(request[start : start + step])
            await asyncio.sleep(0)
        answer = await connection.closed()
    assert go_msgpack.decode(answer, SnapshotReply) == SnapshotReply()
    assert keeper.archive == archive


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\xc1", "failed to decode request"),
        (go_msgpack.encode({"Op": "x"}), "failed to decode request: SnapshotRequest.Op"),
        (b"\xdb\x00\xff\xff\xff" + bytes(70_000), "failed to decode request: too large"),
        (go_msgpack.encode(SnapshotRequest(op=7)), "unrecognized snapshot op: 7"),
        (go_msgpack.encode(SnapshotRequest(op=1)) + b"no gzip", "failed to decode request: Error"),
        (go_msgpack.encode(SnapshotRequest(op=1)) + ARCHIVE[:5000], "archive exceeds 4000 bytes"),
    ],
)
async def test_requests_that_cannot_be_served(sent: bytes, error: str) -> None:
    keeper = Keeper()
    async with keeping(keeper, max_archive=4000) as address, RawConnection.to(address, bytes([SNAPSHOT]) + sent) as connection:
        answer = await connection.closed()
    end = msgpack_rpc.first_object_end(answer)
    assert end == len(answer)
    assert go_msgpack.decode(answer, SnapshotReply).error.startswith(error)
    assert keeper.archive == ARCHIVE


async def test_nobody_listening() -> None:
    async with keeping(Keeper()) as address:
        pass
    with pytest.raises(ConnectionLost):
        await save_snapshot(Dialer(), address, stale=False, **WHO)

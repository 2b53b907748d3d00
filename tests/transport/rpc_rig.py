"""What the tests of the server port share: methods, a server on a free port, and raw connections to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from discovery.transport import first_bytes
from discovery.transport.listener import Listener
from discovery.transport.rpc_client import RpcPool
from discovery.transport.rpc_server import RpcServer
from discovery.wire import msgpack_rpc
from tests.wire import vectors as v


class Method(msgspec.Struct, frozen=True):
    """The types of a method."""

    request_type: Any
    reply_type: Any


METHODS = {
    "KVS.Apply": Method(v.KVSRequest, bool),
    "KVS.Get": Method(v.KeyRequest, v.KeyReply),
    "Catalog.ListNodes": Method(v.Query, v.NodesReply),
    "Status.Leader": Method(v.Empty, str),
    "Status.Peers": Method(v.Empty, list[str]),
    "Status.Ping": Method(v.Empty, v.Empty),
}

Dispatch = Callable[[str, Any], Awaitable[Any]]


@asynccontextmanager
async def serving(dispatch: Dispatch, **options: Any) -> AsyncIterator[str]:
    """The address of a listener that serves calls."""
    server = RpcServer(dispatch, METHODS, **options)
    protocols = {first_bytes.RPC: server.single, first_bytes.RPC_MULTIPLEXED: server.multiplexed}
    async with listening(Listener(protocols)) as address:
        yield address


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[str]:
    """The address of a started listener."""
    host, port = await listener.start("127.0.0.1", 0)
    try:
        yield f"{host}:{port}"
    finally:
        await listener.close()


@asynccontextmanager
async def pooling(**options: Any) -> AsyncIterator[RpcPool]:
    """A pool that is closed at the end."""
    pool = RpcPool(METHODS, **options)
    try:
        yield pool
    finally:
        await pool.close()


class RawConnection:
    """A plain socket to the port, for what a well-behaved client would not send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = msgpack_rpc.MessageParser(1 << 20)
        self._messages: list[msgpack_rpc.Message] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, address: str, first: bytes = b"") -> AsyncIterator["RawConnection"]:
        """Connect and send the first bytes."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(first)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def reply(self) -> tuple[msgpack_rpc.ReplyHeader, bytes]:
        """The next reply on a bare connection: its header and packed body."""
        while not self._messages:
            data = await self.reader.read(65536)
            assert data, "connection closed instead of a reply"
            self._messages += self._parser.feed(data)
        message = self._messages.pop(0)
        return msgpack_rpc.read_reply_header(message.header), message.body

    async def closed(self) -> bytes:
        """Wait for the other side to close; what it sent before."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

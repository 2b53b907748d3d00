"""Saving and restoring the whole state over the server port: one request on a connection of its own.

After byte 5 the caller sends one MessagePack object, and for a restore the archive behind it; the server answers with
one object, and for a save the archive behind it, then closes. A caller may tell the end of its archive by closing its
direction; under TLS that cannot be told from a closed connection, so the end of the gzip stream counts as well.
"""

import asyncio
import logging
import zlib
from typing import Final

from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError
from discovery.model.naming import always
from discovery.model.records import Record
from discovery.model.requests import QueryMeta
from discovery.wire import go_msgpack, msgpack_rpc

from .connection import Connection
from .dialer import Dialer
from .first_bytes import SNAPSHOT
from .rpc_client import ConnectionLost, RpcError

log = logging.getLogger(__name__)

MAX_ARCHIVE: Final = 4 << 30

_MAX_OBJECT: Final = 1 << 16
_WRITE_TIMEOUT: Final = 60.0
_SAVE, _RESTORE = range(2)
_INFLATE_STEP: Final = 1 << 20


class SnapshotRequest(Record, frozen=True, kw_only=True):
    """What a caller wants: `op` is 0 to save, 1 to restore."""

    allow_stale: bool = always(bool)
    datacenter: str = always(str)
    op: int = always(int)
    token: str = always(str)


class SnapshotReply(QueryMeta, frozen=True, kw_only=True):
    """How it went; `error` is empty if it went well."""

    error: str = always(str)


class SnapshotServer:
    """Makes the connections on which snapshots are asked for."""

    def __init__(self, delegate: Delegate, *, max_archive: int = MAX_ARCHIVE) -> None:
        self._delegate = delegate
        self._max_archive = max_archive

    def connection(self) -> Connection:
        """A connection for byte 5."""
        return _ServerEnd(self._delegate, self._max_archive)


async def save_snapshot(dialer: Dialer, address: str, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
    """Ask a server for the archive of its state. Raises `RpcError` and `ConnectionLost`."""
    request = SnapshotRequest(allow_stale=stale, datacenter=datacenter, op=_SAVE, token=token)
    return await _exchange(dialer, address, go_msgpack.encode(request))


async def restore_snapshot(dialer: Dialer, address: str, archive: bytes, *, datacenter: str, token: str) -> None:
    """Have a server replace its state by an archive's. Raises `RpcError` and `ConnectionLost`."""
    request = SnapshotRequest(datacenter=datacenter, op=_RESTORE, token=token)
    await _exchange(dialer, address, go_msgpack.encode(request) + archive)


async def _exchange(dialer: Dialer, address: str, data: bytes) -> tuple[bytes, QueryMeta]:
    try:
        connection = await dialer.dial(address, SNAPSHOT, _ClientEnd())
    except OSError as error:
        raise ConnectionLost(address, sent=False, reason=str(error) or "dial timed out") from error
    try:
        connection.transport.write(data)
        if connection.transport.can_write_eof():
            connection.transport.write_eof()
        await connection.gone.wait()
    finally:
        connection.transport.abort()
    return _read_reply(address, connection.received)


def _read_reply(address: str, received: bytearray) -> tuple[bytes, QueryMeta]:
    try:
        end = msgpack_rpc.first_object_end(received)
        if end is None:
            raise ConnectionLost(address, sent=True, reason="closed before the reply to a snapshot request")
        reply = go_msgpack.decode(bytes(received[:end]), SnapshotReply)
    except (msgpack_rpc.MalformedStream, go_msgpack.DecodeError) as error:
        raise RpcError(f"failed to decode response: {error}") from error
    if reply.error:
        raise RpcError(reply.error)
    return bytes(memoryview(received)[end:]), reply


class _ClientEnd(Connection):
    """Gathers all that comes until the server closes."""

    def __init__(self) -> None:
        super().__init__(_WRITE_TIMEOUT)
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > MAX_ARCHIVE:
            self.transport.abort()


class _ServerEnd(Connection):
    def __init__(self, delegate: Delegate, max_archive: int) -> None:
        super().__init__(_WRITE_TIMEOUT)
        self._delegate = delegate
        self._max_archive = max_archive
        self._received = bytearray()
        self._request: SnapshotRequest | None = None
        self._inflater = zlib.decompressobj(wbits=31)
        self._task: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            return
        self._received += data
        try:
            self._advance(data)
        except (msgpack_rpc.MalformedStream, go_msgpack.DecodeError, zlib.error) as error:
            self._refuse(f"failed to decode request: {error}")

    def eof_received(self) -> bool:
        if self._request is not None and self._task is None:
            self._start(self._request)
        # Kept open for the answer, which TLS does not allow.
        return self._task is not None and self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        # A restore that has begun goes on: half a restore is worse than one whose end nobody hears of.
        if self._task is not None and self._request is not None and self._request.op == _SAVE:
            self._task.cancel()
        super().connection_lost(exc)

    def _advance(self, data: bytes) -> None:
        if self._request is None:
            end = msgpack_rpc.first_object_end(self._received)
            if end is None:
                if len(self._received) > _MAX_OBJECT:
                    self._refuse("failed to decode request: too large")
                return
            self._request = go_msgpack.decode(bytes(self._received[:end]), SnapshotRequest)
            del self._received[:end]
            data = bytes(self._received)
        if len(self._received) > self._max_archive:
            self._refuse(f"archive exceeds {self._max_archive} bytes")
        elif self._request.op != _RESTORE or self._archive_ends(data):
            self._start(self._request)

    def _archive_ends(self, data: bytes) -> bool:
        """Whether these bytes end the gzip stream; what it unpacks to is dropped step by step."""
        while data and not self._inflater.eof:
            self._inflater.decompress(data, _INFLATE_STEP)
            data = self._inflater.unconsumed_tail
        return self._inflater.eof

    def _start(self, request: SnapshotRequest) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: SnapshotRequest) -> None:
        archive, meta, error = b"", QueryMeta(), ""
        try:
            if request.op == _SAVE:
                archive, meta = await self._delegate.save_snapshot(
                    datacenter=request.datacenter, token=request.token, stale=request.allow_stale
                )
            elif request.op == _RESTORE:
                await self._delegate.restore_snapshot(bytes(self._received), datacenter=request.datacenter, token=request.token)
            else:
                error = f"unrecognized snapshot op: {request.op}"
        except DiscoveryError as failure:
            error = str(failure)
        except Exception as failure:
            log.exception("snapshot request failed")
            error = str(failure) or type(failure).__name__
        self._answer(meta, error, archive)

    def _refuse(self, error: str) -> None:
        self._received.clear()
        self._answer(QueryMeta(), error, b"")

    def _answer(self, meta: QueryMeta, error: str, archive: bytes) -> None:
        reply = SnapshotReply(
            index=meta.index,
            last_contact=meta.last_contact,
            known_leader=meta.known_leader,
            consistency_level=meta.consistency_level,
            error=error,
        )
        if not self.closing:
            self.transport.write(go_msgpack.encode(reply))
            self.transport.write(archive)
            self.transport.close()

"""One snapshot on a connection between two servers.

After the hello the sender states the metadata, then chunk after chunk, then the end; the receiver acknowledges each
with the offset it has reached, or with a reason to stop, and the sender waits for that before it goes on. What an earlier
stream of the same snapshot brought before it broke off need not come again: the answer to the offer says where to begin.

    offer  0 | metadata
    chunk  1 | offset u64 | CRC-32 of the data u32 | data
    end    2 | total u64 | CRC-32 of everything sent on this connection u32
    answer offset u64 | reason, empty while all is well
"""

import asyncio
import logging
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol

from .frames import FrameConnection

log = logging.getLogger(__name__)

_OFFER, _CHUNK, _END = range(3)
_CHECKED: Final = struct.Struct(">BQI")
_OFFSET: Final = struct.Struct(">Q")
_PIECE: Final = 1 << 20  # bytes of data in a chunk at most
_IDLE_TIMEOUT: Final = 120.0  # seconds the sender may stay silent


class SnapshotRefused(Exception):
    """The receiver does not want the snapshot or could not use it; the text is its reason."""


class SnapshotSink(Protocol):
    """Where an incoming snapshot goes. Any exception refuses the snapshot, with its text as the reason."""

    @property
    def offset(self) -> int:
        """How many bytes are there already; asked once, before anything is written."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""

    async def finish(self) -> None:
        """Everything has come and was checked: make it durable and use it. The sender waits for this."""

    def pause(self) -> None:
        """The connection is lost; the sender may come again. May be called in the middle of `write` or `finish`."""

    def abort(self) -> None:
        """The snapshot was refused: throw away what came."""


ReceiveSnapshot = Callable[[str, bytes], SnapshotSink]
"""Sender's server id and metadata -> where to put it; raises `SnapshotRefused` where it is not wanted."""


class SnapshotOutlet(FrameConnection):
    """The sending end."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout
        self._answer: asyncio.Future[bytes] | None = None

    async def send(self, meta: bytes, chunks: AsyncIterator[bytes] | Iterator[bytes]) -> None:
        """Send everything. Raises `SnapshotRefused` and OSError."""
        offset = await self._ask(bytes([_OFFER]) + meta)
        position = checksum = 0
        async for chunk in _off_the_loop(chunks):
            missing = chunk[max(0, offset - position) :]
            position += len(chunk)
            for start in range(0, len(missing), _PIECE):
                piece = missing[start : start + _PIECE]
                checksum = zlib.crc32(piece, checksum)
                await self._exchange(_CHECKED.pack(_CHUNK, offset, zlib.crc32(piece)) + piece, offset + len(piece))
                offset += len(piece)
        await self._exchange(_CHECKED.pack(_END, position, checksum), position)

    async def _exchange(self, frame: bytes, expected: int) -> None:
        reached = await self._ask(frame)
        if reached != expected:
            raise ConnectionAbortedError(f"snapshot acknowledged up to {reached} instead of {expected}")

    async def _ask(self, frame: bytes) -> int:
        """The offset that the receiver has reached."""
        if self.closing:
            raise ConnectionResetError("connection lost")
        self._answer = asyncio.get_running_loop().create_future()
        self.send_frames([frame])
        async with asyncio.timeout(self._timeout):
            answer = await self._answer
        if len(answer) < _OFFSET.size:
            raise ConnectionAbortedError("invalid answer to a snapshot")
        if reason := answer[_OFFSET.size :]:
            raise SnapshotRefused(reason.decode(errors="replace"))
        return int(_OFFSET.unpack_from(answer)[0])

    def frames_received(self, frames: list[bytes]) -> None:
        if len(frames) > 1 or self._answer is None or self._answer.done():
            log.warning("closing connection to %s: answer without a question", self.peer)
            self.transport.abort()
            return
        self._answer.set_result(frames[0])

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("connection lost"))


class SnapshotIntake:
    """The receiving end, on a connection that has heard the hello."""

    def __init__(self, connection: FrameConnection, sender: str, receive: ReceiveSnapshot) -> None:
        self._connection = connection
        self._sender = sender
        self._receive = receive
        self._sink: SnapshotSink | None = None
        self._offset = 0
        self._checksum = 0
        self._task: asyncio.Task[None] | None = None
        self._idle_timer = self._start_idle_timer()

    def frames_received(self, frames: list[bytes]) -> None:
        """What the sender says next; it must have waited for our last answer."""
        if len(frames) > 1 or self._task is not None:
            log.warning("closing connection to %s: snapshot sent without waiting", self._connection.peer)
            self._connection.transport.abort()
            return
        self._idle_timer.cancel()
        self._task = asyncio.get_running_loop().create_task(self._take(frames[0]))

    def abort(self) -> None:
        """The connection is lost."""
        self._idle_timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._sink is not None:
            self._sink.pause()
            self._sink = None

    async def _take(self, frame: bytes) -> None:
        reason = ""
        try:
            await self._handle(frame)
        except Exception as error:
            log.warning("refusing snapshot of %s: %s", self._sender, error)
            reason = str(error) or type(error).__name__
            self._discard()
        self._task = None
        self._idle_timer = self._start_idle_timer()
        if not self._connection.closing:
            self._connection.send_frames([_OFFSET.pack(self._offset) + reason.encode()])

    async def _handle(self, frame: bytes) -> None:
        kind = frame[0] if frame else None
        if kind == _OFFER and self._sink is None:
            self._sink = self._receive(self._sender, frame[1:])
            self._offset = self._sink.offset
        elif kind == _CHUNK and len(frame) >= _CHECKED.size and self._sink is not None:
            await self._take_chunk(self._sink, frame)
        elif kind == _END and len(frame) == _CHECKED.size and self._sink is not None:
            await self._finish(self._sink, frame)
        else:
            raise ValueError(f"unexpected snapshot frame {frame[:16].hex()}")

    async def _take_chunk(self, sink: SnapshotSink, frame: bytes) -> None:
        _, offset, checksum = _CHECKED.unpack_from(frame)
        data = frame[_CHECKED.size :]
        if offset != self._offset:
            raise ValueError(f"snapshot chunk at {offset} instead of {self._offset}")
        if zlib.crc32(data) != checksum:
            raise ValueError(f"snapshot chunk at {offset} is damaged")
        await sink.write(data)
        self._offset += len(data)
        self._checksum = zlib.crc32(data, self._checksum)

    async def _finish(self, sink: SnapshotSink, frame: bytes) -> None:
        _, total, checksum = _CHECKED.unpack(frame)
        if (total, checksum) != (self._offset, self._checksum):
            raise ValueError(f"snapshot of {total} bytes ended after {self._offset}, or its checksum differs")
        await sink.finish()
        self._sink = None

    def _discard(self) -> None:
        if self._sink is not None:
            self._sink.abort()
            self._sink = None

    def _start_idle_timer(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(_IDLE_TIMEOUT, self._connection.transport.abort)


async def _off_the_loop(chunks: AsyncIterator[bytes] | Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of either kind of iterator; a plain one likely reads a file, so it runs in a thread."""
    if isinstance(chunks, AsyncIterator):
        async for chunk in chunks:
            yield chunk
        return
    while (piece := await asyncio.to_thread(next, chunks, None)) is not None:
        yield piece

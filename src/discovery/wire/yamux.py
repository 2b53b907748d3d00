"""Yamux: many byte streams over one connection, as a state machine without any input or output of its own.

Every frame has a header of twelve bytes: version 0, type, flags, stream, length. Data frames carry `length` bytes;
window updates grant the other side `length` more bytes on a stream; pings carry an opaque value there, go-aways a
reason. SYN on a first frame opens a stream, ACK accepts it, FIN closes one direction, RST both at once. The client
numbers its streams 1, 3, 5..., the server 2, 4, 6...; stream 0 is the session itself.

Each side of each stream may send 262,144 bytes before it needs a grant. A receiver grants what its application has
taken once that is half of the window. Who sends more than granted, or breaks the format, loses the whole session.

The shell around this class hands in received bytes, carries out the events, and writes what `data_to_send` returns.
While the connection is congested it asks for control frames only; stream data then stays where it was queued.
"""

import struct
from collections import deque
from typing import Final

import msgspec

INITIAL_WINDOW: Final = 262_144
ACCEPT_BACKLOG: Final = 256
"""Streams that other implementations let wait to be accepted; here they are accepted at once and those open bounded."""

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)

_HEADER: Final = struct.Struct(">BBHII")
_MAX_FRAME: Final = 65_536  # of data we send at once, so that no stream holds up the others for long
_BATCH: Final = 1 << 20  # of output in one piece, after which congestion is looked at again
_ALL_FLAGS: Final = SYN | ACK | FIN | RST
_LAST_STREAM: Final = 2**32 - 1


class ProtocolError(Exception):
    """The other side broke the protocol; the go-away that says so is queued, and the session is over."""


class StreamOpened(msgspec.Struct, frozen=True):
    """The other side opened a stream; it is accepted already."""

    stream: int


class DataReceived(msgspec.Struct, frozen=True):
    """Bytes of a stream. Their window is given back by `grant` once they are taken care of."""

    stream: int
    data: bytes


class StreamEnded(msgspec.Struct, frozen=True):
    """The other side sends nothing more on a stream; ours may still be open."""

    stream: int


class StreamReset(msgspec.Struct, frozen=True):
    """The other side gave a stream up in both directions; it is forgotten."""

    stream: int


class PingAnswered(msgspec.Struct, frozen=True):
    """The other side answered our ping of that value."""

    value: int


class WentAway(msgspec.Struct, frozen=True):
    """The other side takes no new streams; those open go on."""

    reason: int


Event = StreamOpened | DataReceived | StreamEnded | StreamReset | PingAnswered | WentAway


class _Stream:
    """What one stream may still send and receive."""

    __slots__ = ("end_queued", "ended_here", "ended_there", "granting", "queue", "receive_window", "send_window", "stale")

    def __init__(self) -> None:
        self.send_window = INITIAL_WINDOW
        self.receive_window = INITIAL_WINDOW
        self.granting = 0  # bytes taken by the application and not yet granted again
        self.queue: deque[memoryview] = deque()
        self.end_queued = False
        self.ended_here = False
        self.ended_there = False
        self.stale = False  # ended here and unanswered when stale streams were last looked for


class Session:
    """One end of a yamux connection.

    `max_streams` bounds the streams the other side may have open; a further one is refused with RST.
    """

    def __init__(self, *, client: bool, max_streams: int = ACCEPT_BACKLOG) -> None:
        self._next_stream = 1 if client else 2
        self._max_streams = max_streams
        self._accepted = 0
        self._streams: dict[int, _Stream] = {}
        self._sendable: dict[int, _Stream] = {}  # streams with queued data and window, in turn
        self._output: list[bytes | memoryview] = []
        self._events: list[Event] = []
        self._drained: list[int] = []
        self._partial = b""  # of a header
        self._payload_left = 0
        self._payload_stream = 0  # 0 while the payload belongs to no stream we know
        self._payload_ends = False
        self._next_ping = 0
        self._gone_away = False

    def __repr__(self) -> str:
        return f"<yamux streams={len(self._streams)} next={self._next_stream} sendable={len(self._sendable)}>"

    @property
    def open_streams(self) -> int:
        """Streams not yet closed in both directions."""
        return len(self._streams)

    @property
    def accepts_streams(self) -> bool:
        """Whether `open_stream` may be called: no go-away came and numbers are left."""
        return not self._gone_away and self._next_stream <= _LAST_STREAM

    # What the application does.

    def open_stream(self) -> int:
        """Open a stream and return its number."""
        if not self.accepts_streams:
            raise AssertionError(f"stream opened on a session that takes none: {self!r}")
        stream_id = self._next_stream
        self._next_stream += 2
        self._streams[stream_id] = _Stream()
        self._control(WINDOW_UPDATE, SYN, stream_id, 0)
        return stream_id

    def send(self, stream_id: int, data: bytes) -> None:
        """Queue bytes on a stream; does nothing if the stream is gone, of which an event has told."""
        stream = self._streams.get(stream_id)
        if stream is None or not data:
            return
        if stream.end_queued:
            raise AssertionError(f"data after the end of stream {stream_id}")
        stream.queue.append(memoryview(data))
        if stream.send_window:
            self._sendable[stream_id] = stream

    def end_stream(self, stream_id: int) -> None:
        """Send nothing more on a stream once its queue is empty."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_queued:
            return
        stream.end_queued = True
        if not stream.queue:
            self._send_end(stream_id, stream)

    def reset_stream(self, stream_id: int) -> None:
        """Give a stream up in both directions, dropping what is queued."""
        if stream_id in self._streams:
            self._forget(stream_id)
            self._control(WINDOW_UPDATE, RST, stream_id, 0)

    def reset_stale_streams(self) -> None:
        """Reset streams ended here that the other side left open since the last call of this; call it once in a while."""
        for stream_id, stream in list(self._streams.items()):
            if stream.stale:
                self.reset_stream(stream_id)
            stream.stale = stream.ended_here

    def grant(self, stream_id: int, count: int) -> None:
        """Let the other side send `count` bytes more, as many as were received and are now taken care of."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ended_there:
            return
        stream.granting += count
        if stream.granting >= INITIAL_WINDOW // 2:
            self._control(WINDOW_UPDATE, 0, stream_id, stream.granting)
            stream.receive_window += stream.granting
            stream.granting = 0

    def ping(self) -> int:
        """Ask for a sign of life; `PingAnswered` will carry the returned value."""
        value = self._next_ping
        self._next_ping = (value + 1) & 0xFFFF_FFFF
        self._control(PING, SYN, 0, value)
        return value

    def go_away(self, reason: int = NORMAL) -> None:
        """Tell that no new streams are taken."""
        self._control(GO_AWAY, 0, 0, reason)

    # What the connection does.

    def data_to_send(self, *, control_only: bool = False) -> bytes:
        """What may go out now, as one piece of about a mebibyte at most; call it until it returns nothing.

        Streams take turns frame by frame.
        """
        if not control_only:
            room = _BATCH
            while self._sendable and room > 0:
                room -= self._send_turn()
        if not self._output:
            return b""
        data = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        return bytes(data)

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` would return anything."""
        return bool(self._output or self._sendable)

    def take_drained(self) -> list[int]:
        """Streams whose queue `data_to_send` has emptied since the last call of this."""
        drained, self._drained = self._drained, []
        return drained

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the connection; return what they mean. Raises `ProtocolError`."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        position, size = 0, len(data)
        while position < size:
            if self._payload_left:
                position = self._receive_payload(data, position)
            elif size - position < _HEADER.size:
                self._partial = data[position:]
                break
            else:
                self._receive_header(*_HEADER.unpack_from(data, position))
                position += _HEADER.size
        events, self._events = self._events, []
        return events

    # Receiving.

    def _receive_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0 or kind > GO_AWAY or flags & ~_ALL_FLAGS:
            self._fail(f"invalid frame: version {version}, type {kind}, flags {flags}")
        if kind == PING:
            self._receive_ping(flags, length)
        elif kind == GO_AWAY:
            self._gone_away = True
            self._events.append(WentAway(length))
        elif stream_id == 0:
            self._fail("stream frame for the session")
        else:
            self._receive_stream_frame(kind, flags, stream_id, length)

    def _receive_ping(self, flags: int, value: int) -> None:
        if flags & SYN:
            self._control(PING, ACK, 0, value)
        elif flags & ACK:
            self._events.append(PingAnswered(value))

    def _receive_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if flags & SYN:
            self._accept(stream_id)
        stream = self._streams.get(stream_id)
        if kind == DATA:
            self._expect_payload(stream_id, stream, flags, length)
        elif stream is not None:
            self._widen(stream_id, stream, length)
        if stream is None:
            return
        if flags & RST:
            self._forget(stream_id)
            self._payload_stream = 0
            self._events.append(StreamReset(stream_id))
        elif flags & FIN and not self._payload_left:
            self._end_there(stream_id, stream)

    def _accept(self, stream_id: int) -> None:
        if stream_id % 2 == self._next_stream % 2:
            self._fail(f"stream {stream_id} opened by the side that does not own its number")
        if stream_id in self._streams:
            self._fail(f"stream {stream_id} opened twice")
        if self._accepted >= self._max_streams:
            self._control(WINDOW_UPDATE, RST, stream_id, 0)
            return
        self._streams[stream_id] = _Stream()
        self._accepted += 1
        self._control(WINDOW_UPDATE, ACK, stream_id, 0)
        self._events.append(StreamOpened(stream_id))

    def _expect_payload(self, stream_id: int, stream: _Stream | None, flags: int, length: int) -> None:
        self._payload_left = length
        self._payload_stream = stream_id if stream is not None else 0
        self._payload_ends = bool(flags & FIN)
        if stream is None or not length:
            return
        if stream.ended_there:
            self._fail(f"data after the end of stream {stream_id}")
        if length > stream.receive_window:
            self._fail(f"{length} bytes on stream {stream_id} exceed its window of {stream.receive_window}")
        stream.receive_window -= length

    def _receive_payload(self, data: bytes, position: int) -> int:
        end = min(position + self._payload_left, len(data))
        self._payload_left -= end - position
        stream = self._streams.get(self._payload_stream)
        if stream is not None:
            self._events.append(DataReceived(self._payload_stream, data[position:end]))
            if self._payload_ends and not self._payload_left:
                self._end_there(self._payload_stream, stream)
        return end

    def _widen(self, stream_id: int, stream: _Stream, increment: int) -> None:
        stream.send_window += increment
        if stream.send_window > _LAST_STREAM:
            self._fail(f"window of stream {stream_id} exceeds 32 bits")
        if stream.queue and stream.send_window:
            self._sendable[stream_id] = stream

    def _end_there(self, stream_id: int, stream: _Stream) -> None:
        if stream.ended_there:
            self._fail(f"stream {stream_id} ended twice")
        stream.ended_there = True
        self._events.append(StreamEnded(stream_id))
        if stream.ended_here:
            self._forget(stream_id)

    def _fail(self, text: str) -> None:
        self.go_away(PROTOCOL_ERROR)
        raise ProtocolError(text)

    # Sending.

    def _control(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        self._output.append(_HEADER.pack(0, kind, flags, stream_id, value))

    def _send_turn(self) -> int:
        """Put out one frame of the stream whose turn it is; return the size of its data."""
        stream_id, stream = next(iter(self._sendable.items()))
        del self._sendable[stream_id]
        chunk = stream.queue.popleft()
        size = min(len(chunk), stream.send_window, _MAX_FRAME)
        if size < len(chunk):
            stream.queue.appendleft(chunk[size:])
        stream.send_window -= size
        self._output += (_HEADER.pack(0, DATA, 0, stream_id, size), chunk[:size])
        if stream.queue:
            if stream.send_window:
                self._sendable[stream_id] = stream
            return size
        self._drained.append(stream_id)
        if stream.end_queued:
            self._send_end(stream_id, stream)
        return size

    def _send_end(self, stream_id: int, stream: _Stream) -> None:
        stream.ended_here = True
        self._control(WINDOW_UPDATE, FIN, stream_id, 0)
        if stream.ended_there:
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self._sendable.pop(stream_id, None)
        if stream_id % 2 != self._next_stream % 2:
            self._accepted -= 1

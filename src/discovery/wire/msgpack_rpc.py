"""Calls and replies of Go's net/rpc in MessagePack: a header object, then a body object, with nothing between.

    request: {"Seq": n, "ServiceMethod": "Service.Method"} body
    reply:   {"Error": "", "Seq": n, "ServiceMethod": the same} body

Headers are written and read without a detour where they have the form that every known caller and server gives them; any
other form is understood too.

No length announces an object, so its end is found by walking over it without building anything; only a complete
object is unpacked. A claimed length is therefore never believed before the bytes have arrived, and the bytes are
bounded.
"""

import struct
from functools import lru_cache
from typing import Final, NamedTuple

import msgpack
import msgspec

from . import go_msgpack

_MAX_CHUNK: Final = 1 << 20  # the most bytes one feed may add

EMPTY_BODY: Final = b"\x80"
"""The body that accompanies an error."""


class RequestHeader(msgspec.Struct, frozen=True):
    """What opens a call: its number, chosen by the caller, and `Service.Method`."""

    seq: int = msgspec.field(name="Seq")
    service_method: str = msgspec.field(name="ServiceMethod")


class ReplyHeader(msgspec.Struct, frozen=True):
    """What opens a reply: number and method of the call, and the text of an error or nothing."""

    error: str = msgspec.field(name="Error")
    seq: int = msgspec.field(name="Seq")
    service_method: str = msgspec.field(name="ServiceMethod")


class Message(NamedTuple):
    """One call or reply, both halves still packed."""

    header: bytes
    body: bytes


class MalformedStream(ValueError):
    """The stream holds no MessagePack, or an object larger than allowed; it cannot be read any further."""


_REQUEST: Final = b"\x82" + go_msgpack.encode("Seq")
_REPLY: Final = b"\x83" + go_msgpack.encode("Error")
_SUCCESS: Final = _REPLY + go_msgpack.encode("") + go_msgpack.encode("Seq")
_METHOD: Final = go_msgpack.encode("ServiceMethod")
_INTEGERS: Final = {
    0xCC: struct.Struct(">xB"),
    0xCD: struct.Struct(">xH"),
    0xCE: struct.Struct(">xI"),
    0xCF: struct.Struct(">xQ"),
}

_decode_request_header = go_msgpack.decoder(RequestHeader)
_decode_reply_header = go_msgpack.decoder(ReplyHeader)


def request(seq: int, service_method: str, body: bytes) -> bytes:
    """A call ready to be sent."""
    return b"".join((_REQUEST, _packed_number(seq), _packed_method(service_method), body))


def reply(seq: int, service_method: str, *body: bytes) -> bytes:
    """The reply to a call that succeeded; its body may come in parts."""
    return b"".join((_SUCCESS, _packed_number(seq), _packed_method(service_method), *body))


def error_reply(seq: int, service_method: str, text: str) -> bytes:
    """The reply to a call that failed; Go's callers read the text and an empty body."""
    return go_msgpack.encode(ReplyHeader(text, seq, service_method)) + EMPTY_BODY


def read_request_header(data: bytes) -> RequestHeader:
    """Raises `go_msgpack.DecodeError`."""
    usual = _read_usual(data, _REQUEST)
    return _decode_request_header(data) if usual is None else RequestHeader(*usual)


def read_reply_header(data: bytes) -> ReplyHeader:
    """Raises `go_msgpack.DecodeError`."""
    usual = _read_usual(data, _SUCCESS)
    return _decode_reply_header(data) if usual is None else ReplyHeader("", *usual)


def _packed_number(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x10000:
        return b"\xcc" + bytes((number,)) if number < 0x100 else b"\xcd" + number.to_bytes(2, "big")
    return b"\xce" + number.to_bytes(4, "big") if number < 1 << 32 else b"\xcf" + number.to_bytes(8, "big")


@lru_cache(maxsize=512)
def _packed_method(name: str) -> bytes:
    return _METHOD + go_msgpack.encode(name)


def _read_usual(data: bytes, start: bytes) -> tuple[int, str] | None:
    """Number and method of a header that begins so and goes on as usual; None for any other."""
    place = len(start)
    if not data.startswith(start) or len(data) == place:
        return None
    first = data[place]
    if first < 0x80:
        number, end = first, place + 1
    else:
        form = _INTEGERS.get(first)
        if form is None or len(data) < place + form.size:
            return None
        number, end = form.unpack_from(data, place)[0], place + form.size
    name = _read_method(data[end:])
    return None if name is None else (number, name)


@lru_cache(maxsize=512)
def _read_method(packed: bytes) -> str | None:
    if not packed.startswith(_METHOD):
        return None
    try:
        name = go_msgpack.unpack(packed[len(_METHOD) :])
        return name.decode() if isinstance(name, bytes) else None
    except (go_msgpack.DecodeError, UnicodeDecodeError):
        return None


def first_object_end(data: bytes | bytearray) -> int | None:
    """Where the object ends with which the data begins, or None if it is not complete. Raises `MalformedStream`."""
    walker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=max(len(data), 1))
    try:
        walker.feed(data)
        walker.skip()
    except msgpack.OutOfData:
        return None
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedStream(f"invalid message: {error or type(error).__name__}") from error
    return int(walker.tell())


class MessageParser:
    """Cuts a stream of bytes, fed as they come, into messages of at most `max_message` bytes (header and body)."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._pending = bytearray()
        self._consumed = 0  # bytes of the stream before _pending
        self._header_end: int | None = None  # where in the stream the header ended whose body is awaited
        self._walker = msgpack.Unpacker(raw=True, strict_map_key=False, read_size=256, max_buffer_size=max_message + _MAX_CHUNK)

    @property
    def mid_message(self) -> bool:
        """Whether the stream stands inside a message, so that its end now would be a loss."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages they complete. Raises `MalformedStream`."""
        # Most messages arrive whole: then they are cut from the received bytes without a copy in between.
        source: bytes | bytearray = data
        if self._pending:
            self._pending += data
            source = self._pending
        messages, taken = self._cut(data, source)
        self._consumed += taken
        if source is self._pending:
            del self._pending[:taken]
        elif taken < len(data):
            self._pending += memoryview(data)[taken:]
        if len(self._pending) > self._max_message:
            raise MalformedStream(f"message exceeds {self._max_message} bytes")
        return messages

    def _cut(self, data: bytes, source: bytes | bytearray) -> tuple[list[Message], int]:
        messages: list[Message] = []
        start = self._consumed
        with memoryview(source) as view:
            for end in self._object_ends(data):
                if self._header_end is None:
                    self._header_end = end
                    continue
                begin, middle = start - self._consumed, self._header_end - self._consumed
                messages.append(Message(bytes(view[begin:middle]), bytes(view[middle : end - self._consumed])))
                self._header_end, start = None, end
        return messages, start - self._consumed

    def _object_ends(self, data: bytes) -> list[int]:
        """Positions in the stream where the objects end that the new bytes complete."""
        ends: list[int] = []
        try:
            self._walker.feed(data)
            while True:
                self._walker.skip()
                ends.append(self._walker.tell())
        except msgpack.OutOfData:
            return ends
        except (ValueError, msgpack.UnpackException) as error:
            raise MalformedStream(f"invalid message: {error or type(error).__name__}") from error

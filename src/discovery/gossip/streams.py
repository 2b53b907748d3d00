"""Streams: one message each way. Full state exchanges (push/pull), pings where UDP fails, and errors.

`0A length payload` (encryption) may hold `09 {Algo, Buf}` (compression), which may hold the message. A push/pull is a header,
that many node maps one after another, then the user state as raw bytes.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgpack

from .codec import MAX_STREAM, UNPACK_ERRORS, MalformedMessage, encode, from_plain, inflate, pack
from .messages import Ack, Compressed, ErrorReply, Kind, NodeRecord, Ping, PushPullHeader, UserMessageHeader, Wire
from .security import MAX_STREAM_PAYLOAD, STREAM_HEADER, CannotDecrypt, Protection, stream_header

W = TypeVar("W", bound=Wire)

MAX_NODES: Final = 1 << 20
MAX_COMPRESSED: Final = 4 << 20
"""Bytes before decompression, which takes a second then; a group of ten thousand needs a quarter of it."""
MAX_USER_STATE: Final = 20 << 20
_MAX_ITEMS: Final = 64
"""Entries of any one map or list on a stream, the user state aside."""


class StreamRefused(ValueError):
    """What came on a stream is not acceptable; the text is sent back to the peer."""


@dataclass(frozen=True, slots=True)
class PushPull:
    """All that one side knows."""

    join: bool
    nodes: list[NodeRecord]
    user_state: bytes


@dataclass(frozen=True, slots=True)
class UserMessage:
    data: bytes


StreamMessage = PushPull | UserMessage | Ping | Ack | ErrorReply


def encode_push_pull(exchange: PushPull) -> bytes:
    header = PushPullHeader(nodes=len(exchange.nodes), user_state_len=len(exchange.user_state), join=exchange.join)
    return b"".join((bytes((Kind.PUSH_PULL,)), pack(header), *map(pack, exchange.nodes), exchange.user_state))


def encode_error(text: str) -> bytes:
    return encode(ErrorReply(text))


class StreamParser:
    """Takes a stream's bytes as they come and gives its message once it is whole."""

    def __init__(self, protection: Protection) -> None:
        self._protection = protection
        self._unpacker = _new_unpacker()
        self._whole = False
        self._fed = 0
        self._steps = self._parse()
        next(self._steps)

    def feed(self, data: bytes) -> StreamMessage | None:
        """Raises `StreamRefused`."""
        self._fed += len(data)
        if self._fed > MAX_STREAM:
            raise StreamRefused(f"more than {MAX_STREAM} bytes on one stream")
        self._unpacker.feed(data)
        try:
            self._steps.send(None)
        except StopIteration as result:
            message: StreamMessage = result.value
            return message
        except (MalformedMessage, CannotDecrypt) as error:
            raise StreamRefused(str(error)) from error
        return None

    def _parse(self) -> Generator[None, None, StreamMessage]:
        yield
        kind = yield from self._kind()
        kind = yield from self._decrypt(kind)
        if kind == Kind.COMPRESS:
            compressed = yield from self._struct(Compressed)
            if len(compressed.buf) > MAX_COMPRESSED:
                raise StreamRefused(f"{len(compressed.buf)} compressed bytes on one stream")
            self._continue_within(inflate(compressed, MAX_STREAM))
            kind = yield from self._kind()
        return (yield from self._message(kind))

    def _decrypt(self, kind: int) -> Generator[None, None, int]:
        keyring = self._protection.keyring
        if kind != Kind.ENCRYPT:
            if keyring is not None and self._protection.verify_incoming:
                raise StreamRefused("Encryption is configured but remote state is not encrypted")
            return kind
        if keyring is None:
            raise StreamRefused("Remote state is encrypted and encryption is not configured")
        length = int.from_bytes((yield from self._bytes(STREAM_HEADER - 1)), "big")
        if length > MAX_STREAM_PAYLOAD:
            raise StreamRefused(f"Remote node state is larger than limit ({length})")
        payload = yield from self._bytes(length)
        self._continue_within(keyring.open_stream(stream_header(length), payload))
        return (yield from self._kind())

    def _message(self, kind: int) -> Generator[None, None, StreamMessage]:
        if kind == Kind.PUSH_PULL:
            return (yield from self._push_pull())
        if kind == Kind.USER:
            header = yield from self._struct(UserMessageHeader)
            return UserMessage((yield from self._user_bytes(header.user_msg_len)))
        if kind == Kind.PING:
            return (yield from self._struct(Ping))
        if kind == Kind.ACK:
            return (yield from self._struct(Ack))
        if kind == Kind.ERROR:
            return (yield from self._struct(ErrorReply))
        raise StreamRefused(f"Received invalid msgType ({kind})")

    def _push_pull(self) -> Generator[None, None, PushPull]:
        header = yield from self._struct(PushPullHeader)
        if header.nodes > MAX_NODES:
            raise StreamRefused(f"{header.nodes} nodes in one exchange")
        nodes = []
        for _ in range(header.nodes):
            nodes.append((yield from self._struct(NodeRecord)))
        return PushPull(header.join, nodes, (yield from self._user_bytes(header.user_state_len)))

    def _user_bytes(self, length: int) -> Generator[None, None, bytes]:
        if length > MAX_USER_STATE:
            raise StreamRefused(f"user data of {length} bytes")
        return (yield from self._bytes(length))

    def _continue_within(self, content: bytes) -> None:
        """The rest is what an outer layer held, and it is all there."""
        self._unpacker = _new_unpacker()
        self._unpacker.feed(content)
        self._whole = True

    def _await_more(self) -> Generator[None, None, None]:
        if self._whole:
            raise MalformedMessage("the message ends too early")
        yield

    def _kind(self) -> Generator[None, None, int]:
        return (yield from self._bytes(1))[0]

    def _bytes(self, count: int) -> Generator[None, None, bytes]:
        parts: list[bytes] = []
        while True:
            part: bytes = self._unpacker.read_bytes(count)
            parts.append(part)
            count -= len(part)
            if not count:
                return b"".join(parts)
            yield from self._await_more()

    def _struct(self, form: type[W]) -> Generator[None, None, W]:
        while True:
            try:
                value: Any = self._unpacker.unpack()
            except msgpack.OutOfData:
                yield from self._await_more()
                continue
            except UNPACK_ERRORS as error:
                raise MalformedMessage(f"no msgpack: {error or type(error).__name__}") from error
            return from_plain(value, form)


def _new_unpacker() -> Any:
    return msgpack.Unpacker(
        raw=True, strict_map_key=False, max_buffer_size=MAX_STREAM, max_array_len=_MAX_ITEMS, max_map_len=_MAX_ITEMS
    )

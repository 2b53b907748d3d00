"""Memberlist's messages as bytes: the msgpack dialect, and the wrappings of a packet.

The dialect: a struct is a map from field name to value, names sorted; text and bytes alike are written in the old "raw"
family; nil and missing fields read as zero values; unknown fields are skipped. Source fields are left out where empty.

A packet, outermost first, every layer but the last optional: encryption (see `security`), checksum, compression, compound,
one message.
"""

import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints
from zlib import crc32

import msgpack
import msgspec

from .lzw import CorruptLzw, compress, decompress
from .messages import KINDS, Compressed, Kind, Message, Wire

T = TypeVar("T", bound=Wire)

MAX_PACKET: Final = 65_536
MAX_STREAM: Final = 40 << 20
"""Bytes of a stream's message when decompressed."""
COMPOUND_OVERHEAD: Final = 2
"""Bytes of a compound header, and of each part's length."""

MAX_ITEMS: Final = 1024
"""Entries of any one map or list in a packet."""

UNPACK_ERRORS: Final = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)
"""What the library raises for bytes which are no msgpack."""

_LZW: Final = 0
_MAX_PARTS: Final = 255
_LEFT_OUT_WHEN_EMPTY: Final = ("SourceAddr", "SourceNode", "SourcePort")


class MalformedMessage(ValueError):
    """Bytes from the network that are no message; the text says why."""


def encode(message: Message) -> bytes:
    """A message with its kind in front."""
    return bytes((KINDS[type(message)],)) + pack(message)


def pack(message: Wire) -> bytes:
    """The map alone, as headers on streams and Serf's messages have it."""
    return pack_plain(_plain(message))


def pack_plain(value: object) -> bytes:
    """An untyped value in the dialect; the order of maps is kept."""
    return cast(bytes, msgpack.packb(value, use_bin_type=False))


def _plain(message: Wire) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(message, builtin_types=(bytes,), order="sorted")
    for name in _LEFT_OUT_WHEN_EMPTY:
        if not plain.get(name, True):
            del plain[name]
    return plain


def unpack(data: bytes, form: type[T], max_items: int = MAX_ITEMS) -> T:
    """One struct; bytes behind it are ignored, as Go's decoder does. Raises `MalformedMessage`."""
    return from_plain(unpack_plain(data, max_items), form)


def unpack_plain(data: bytes, max_items: int = MAX_ITEMS) -> Any:
    """One untyped value, text as bytes; no map or list may have more than `max_items`. Raises `MalformedMessage`."""
    try:
        return msgpack.unpackb(data, raw=True, strict_map_key=False, max_array_len=max_items, max_map_len=max_items)
    except msgpack.ExtraData as extra:
        return extra.unpacked
    except UNPACK_ERRORS as error:
        raise MalformedMessage(f"no msgpack: {error or type(error).__name__}") from error


def unpack_leading(data: bytes, form: type[T]) -> tuple[T, bytes]:
    """One struct and the bytes behind it. Raises `MalformedMessage`."""
    try:
        msgpack.unpackb(data, raw=True, strict_map_key=False, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except msgpack.ExtraData as extra:
        return from_plain(extra.unpacked, form), bytes(extra.extra)
    except UNPACK_ERRORS as error:
        raise MalformedMessage(f"no msgpack: {error or type(error).__name__}") from error
    raise MalformedMessage(f"nothing follows the {form.__name__}")


def from_plain(value: Any, form: type[T]) -> T:
    """An unpacked map as a struct. Raises `MalformedMessage`."""
    return cast(T, _struct_reader(form)(value))


_Reader = Callable[[Any], Any]


class _Field(NamedTuple):
    attribute: str
    read: _Reader


@cache
def _struct_reader(form: type[Wire]) -> _Reader:
    """Built once for each struct from its annotations."""
    hints = get_type_hints(form, include_extras=True)
    fields = {
        field.encode_name.encode(): _Field(field.name, _reader(hints[field.name])) for field in msgspec.structs.fields(form)
    }

    def struct(value: Any) -> Wire:
        if type(value) is not dict:
            raise MalformedMessage(f"{form.__name__} is a {type(value).__name__}, not a map")
        values: dict[str, Any] = {}
        for key, item in value.items():
            field = fields.get(key)
            if field is not None and item is not None:
                values[field.attribute] = field.read(item)
        return form(**values)

    return struct


def _reader(form: Any) -> _Reader:
    origin, arguments = get_origin(form), get_args(form)
    if origin is Annotated:
        return _unsigned(arguments[1].le)
    if origin is list:
        return _sequence(arguments[0])
    if origin is dict:
        return _mapping(*arguments)
    if origin is types.UnionType:
        return _reader(arguments[0])
    return _SCALARS.get(form) or _struct_reader(form)


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise MalformedMessage(f"{type(value).__name__} instead of bytes")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedMessage(f"{type(value).__name__} instead of a truth value")
    return value


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise MalformedMessage(f"{type(value).__name__} instead of a number")
    return float(value)


def _unsigned(limit: int) -> _Reader:
    def unsigned(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise MalformedMessage(f"{value!r:.40} is not within 0..{limit}")
        return value

    return unsigned


def _text(value: Any) -> str:
    if type(value) is not bytes:
        raise MalformedMessage(f"{type(value).__name__} instead of text")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedMessage(f"text that is not UTF-8: {value[:40]!r}") from None


_SCALARS: Final[dict[Any, _Reader]] = {bytes: _bytes, bool: _boolean, float: _number, str: _text}


def _sequence(form: Any) -> _Reader:
    read, nullable = _reader(form), get_origin(form) is types.UnionType

    def sequence(value: Any) -> list[Any]:
        if type(value) is not list:
            raise MalformedMessage(f"{type(value).__name__} instead of a list")
        return [None if item is None and nullable else read(item) for item in value]

    return sequence


def _mapping(key: Any, form: Any) -> _Reader:
    read_key, read = _reader(key), _reader(form)

    def mapping(value: Any) -> dict[Any, Any]:
        if type(value) is not dict:
            raise MalformedMessage(f"{type(value).__name__} instead of a map")
        return {read_key(name): read(item) for name, item in value.items()}

    return mapping


def make_compound(parts: Sequence[bytes]) -> bytes:
    """One packet of several messages; a single one is sent bare."""
    if len(parts) == 1:
        return parts[0]
    assert 1 < len(parts) <= _MAX_PARTS, f"{len(parts)} parts in one compound message"
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return b"".join((bytes((Kind.COMPOUND, len(parts))), lengths, *parts))


def split_compound(body: bytes) -> tuple[list[bytes], int]:
    """The whole parts of a compound message without its kind byte, and how many were cut off. Raises `MalformedMessage`."""
    if not body or len(body) < 1 + 2 * body[0]:
        raise MalformedMessage(f"a compound message of {len(body)} bytes ends within its table of lengths")
    start = 1 + 2 * body[0]
    parts = []
    for index in range(1, start, 2):
        end = start + int.from_bytes(body[index : index + 2], "big")
        if end > len(body):
            break
        parts.append(body[start:end])
        start = end
    return parts, body[0] - len(parts)


def add_crc(data: bytes) -> bytes:
    return bytes((Kind.CRC,)) + crc32(data).to_bytes(4, "big") + data


def check_crc(body: bytes) -> bytes:
    """What a checksum, given without its kind byte, stands for. Raises `MalformedMessage`."""
    if len(body) < 4:
        raise MalformedMessage("a checksum that is cut off")
    expected, actual = int.from_bytes(body[:4], "big"), crc32(body[4:])
    if expected != actual:
        raise MalformedMessage(f"checksum {actual:08x} instead of {expected:08x}")
    return body[4:]


def deflate(data: bytes) -> bytes:
    return encode(Compressed(_LZW, compress(data)))


def inflate(compressed: Compressed, limit: int) -> bytes:
    """What was compressed. Raises `MalformedMessage`, also for more than `limit` bytes."""
    if compressed.algo != _LZW:
        raise MalformedMessage(f"Cannot decompress unknown algorithm {compressed.algo}")
    try:
        return decompress(compressed.buf, limit)
    except CorruptLzw as error:
        raise MalformedMessage(f"corrupt compression: {error}") from error

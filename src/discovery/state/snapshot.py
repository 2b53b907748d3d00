"""Snapshots: the whole state as bytes, and back.

A snapshot is a row of frames, each a big-endian length (4 bytes), a section number (1 byte) and MessagePack. The first frame says
the format and the state index, the last one how many rows there were: a snapshot that was cut or continued by something else is
refused. In between every frame holds some rows of one section. Rows are maps by field name, so a later version may add fields.
Sections and their rows have a fixed order: servers with the same history write the same bytes.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from types import GenericAlias
from typing import Any, Final

import msgspec

from discovery.model.errors import RequestFailed
from discovery.model.records import (
    AutopilotConfig,
    DirEntry,
    HealthCheck,
    Intention,
    Node,
    NodeCoordinate,
    NodeService,
    PreparedQuery,
    Session,
)

FORMAT: Final = 1

_FRAME: Final = struct.Struct(">IB")
_FRAME_BYTES: Final = 256 * 1024
_FRAME_ROWS: Final = 500
_MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes; a longer frame can't have been written here."""
_HEADER: Final = 0
_FOOTER: Final = 255


class InvalidSnapshot(RequestFailed):
    """The bytes are no snapshot of ours, or not all of one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"failed to restore snapshot: {reason}")


class Header(msgspec.Struct, frozen=True):
    format: int
    index: int


class Footer(msgspec.Struct, frozen=True):
    rows: int


class IndexRow(msgspec.Struct, frozen=True, gc=False):
    """State index of a tombstone, by key or prefix."""

    name: str
    index: int


class TopicRow(msgspec.Struct, frozen=True, gc=False):
    """State index of a topic."""

    topic: tuple[str, ...]
    index: int


class ServiceRow(msgspec.Struct, frozen=True, gc=False):
    node: str
    service: NodeService


class RestoreRow(msgspec.Struct, frozen=True, gc=False):
    """A piece of a restore that was going on; see `model.commands.RestoreChunk`."""

    restore_id: str
    data: bytes


SECTIONS: Final[Mapping[int, tuple[str, Any]]] = {
    1: ("topics", TopicRow),
    2: ("kv", DirEntry),
    3: ("key_tombstones", IndexRow),
    4: ("tree_tombstones", IndexRow),
    5: ("nodes", Node),
    6: ("services", ServiceRow),
    7: ("checks", HealthCheck),
    8: ("sessions", Session),
    9: ("coordinates", NodeCoordinate),
    10: ("queries", PreparedQuery),
    11: ("config_entries", dict[str, Any]),
    12: ("intentions", Intention),
    13: ("autopilot", AutopilotConfig),
    14: ("restore", RestoreRow),
    15: ("gone_topics", TopicRow),
}
"""Section number -> name and row type."""

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=int)
_header: Final = msgspec.msgpack.Decoder(Header)
_footer: Final = msgspec.msgpack.Decoder(Footer)


def _to_type(kind: type, value: Any) -> Any:
    return kind(value)


_decoders: Final = {
    number: msgspec.msgpack.Decoder(GenericAlias(list, (kind,)), dec_hook=_to_type) for number, (_, kind) in SECTIONS.items()
}

Rows = Callable[[], Iterable[Any]]


class Snapshot:
    """The state as it was when this was made. `sections` gives the ordered rows of each section by name."""

    def __init__(self, index: int, sections: Mapping[str, Rows]) -> None:
        self.index = index
        self._sections = sections

    def chunks(self) -> Iterator[bytes]:
        """The bytes, piece by piece. May run in a thread while the store goes on."""
        yield _frame(_HEADER, Header(FORMAT, self.index))
        count = 0
        for number, (name, _) in SECTIONS.items():
            for rows in _slices(self._sections[name]()):
                count += len(rows)
                yield _frame(number, rows)
        yield _frame(_FOOTER, Footer(count))


def _frame(section: int, content: object) -> bytes:
    body = _encoder.encode(content)
    return _FRAME.pack(len(body), section) + body


def _slices(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Cut rows into frames of bounded size; large values end a frame early."""
    batch: list[Any] = []
    size = 0
    for row in rows:
        batch.append(row)
        if type(row) is DirEntry and row.value is not None:
            size += len(row.value)
        elif type(row) is RestoreRow:
            size += len(row.data)
        if len(batch) >= _FRAME_ROWS or size >= _FRAME_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_SORTED_AT_ONCE: Final = 4096


def in_order(keys: Iterable[Any]) -> Iterator[Any]:
    """Sorted, but never many in one go: sorting keeps all other threads from running."""
    every = list(keys)
    parts = [sorted(every[start : start + _SORTED_AT_ONCE]) for start in range(0, len(every), _SORTED_AT_ONCE)]
    return iter(parts[0]) if len(parts) == 1 else merge(*parts)


class Reader:
    """Takes a snapshot in pieces cut anywhere, and hands on its rows as they come.

    `take` gets the name of a section and some of its rows; it may raise `InvalidSnapshot`.
    """

    def __init__(self, take: Callable[[str, list[Any]], None]) -> None:
        self._take = take
        self._pending = bytearray()
        self._index: int | None = None
        self._count = 0
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """Raises `InvalidSnapshot`, after which nothing more may be fed."""
        self._pending += piece
        start = 0
        while len(self._pending) - start >= _FRAME.size:
            size, section = _FRAME.unpack_from(self._pending, start)
            if size > _MAX_FRAME or (self._index is None and section != _HEADER):
                raise InvalidSnapshot("it has no header" if self._index is None else f"a part of it claims {size} bytes")
            end = start + _FRAME.size + size
            if end > len(self._pending):
                break
            self._frame(section, bytes(memoryview(self._pending)[start + _FRAME.size : end]))
            start = end
        del self._pending[:start]

    def finish(self) -> int:
        """The state index, once all pieces were fed; raises `InvalidSnapshot` if they are not a whole snapshot."""
        if self._pending:
            raise InvalidSnapshot("it ends within a frame")
        if self._index is None or not self._ended:
            raise InvalidSnapshot("it ends too early" if self._index is not None else "it has no header")
        return self._index

    def _frame(self, section: int, body: bytes) -> None:
        if self._ended:
            raise InvalidSnapshot("it goes on after its end")
        try:
            if section == _HEADER:
                self._start(_header.decode(body))
            elif section == _FOOTER:
                self._end(_footer.decode(body))
            elif section not in SECTIONS:
                raise InvalidSnapshot(f"section {section} is unknown")
            else:
                rows = _decoders[section].decode(body)
                self._count += len(rows)
                self._take(SECTIONS[section][0], rows)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidSnapshot(str(error)) from None

    def _start(self, header: Header) -> None:
        if self._index is not None:
            raise InvalidSnapshot("it begins twice")
        if header.format != FORMAT:
            raise InvalidSnapshot(f"format {header.format} is unknown, {FORMAT} is known")
        self._index = header.index

    def _end(self, footer: Footer) -> None:
        if self._count != footer.rows:
            raise InvalidSnapshot(f"it has {self._count} rows instead of {footer.rows}")
        self._ended = True

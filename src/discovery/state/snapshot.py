"""Snapshots: the whole state as bytes, and back.

A snapshot is a row of frames, each a big-endian length (4 bytes), a section number (1 byte) and MessagePack. The first frame says
the format and the state index, the last one how many rows there were: a snapshot that was cut or continued by something else is
refused. In between every frame holds some rows of one section. Rows are maps by field name, so a later version may add fields.
Sections and their rows have a fixed order: servers with the same history write the same bytes.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
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


class IndexRow(msgspec.Struct, frozen=True):
    """State index by name: of a table, a service, a tombstone."""

    name: str
    index: int


class ServiceRow(msgspec.Struct, frozen=True):
    node: str
    service: NodeService


class RestoreRow(msgspec.Struct, frozen=True):
    """A piece of a restore that was going on; see `model.commands.RestoreChunk`."""

    restore_id: str
    data: bytes


SECTIONS: Final[Mapping[int, tuple[str, Any]]] = {
    1: ("indexes", IndexRow),
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
}
"""Section number -> name and row type."""

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=int)
_header: Final = msgspec.msgpack.Decoder(Header)
_footer: Final = msgspec.msgpack.Decoder(Footer)


def _to_type(kind: type, value: Any) -> Any:
    return kind(value)


_decoders: Final = {
    number: msgspec.msgpack.Decoder(list[kind], dec_hook=_to_type)  # type: ignore[valid-type]
    for number, (_, kind) in SECTIONS.items()
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
        if len(batch) >= _FRAME_ROWS or size >= _FRAME_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Contents(msgspec.Struct):
    """What a snapshot says."""

    index: int
    rows: dict[str, list[Any]]


def read(chunks: Iterable[bytes]) -> Contents:
    """Read a whole snapshot, however its bytes are cut; raises `InvalidSnapshot`."""
    try:
        return _read(_frames(chunks))
    except msgspec.MsgspecError as error:
        raise InvalidSnapshot(str(error)) from None


def _read(frames: Iterator[tuple[int, bytes]]) -> Contents:
    section, body = next(frames, (_FOOTER, b""))
    if section != _HEADER:
        raise InvalidSnapshot("it has no header")
    header = _header.decode(body)
    if header.format != FORMAT:
        raise InvalidSnapshot(f"format {header.format} is unknown, {FORMAT} is known")
    contents = Contents(header.index, {name: [] for name, _ in SECTIONS.values()})
    for section, body in frames:
        if section == _FOOTER:
            _check_end(_footer.decode(body), contents, frames)
            return contents
        if section not in SECTIONS:
            raise InvalidSnapshot(f"section {section} is unknown")
        contents.rows[SECTIONS[section][0]] += _decoders[section].decode(body)
    raise InvalidSnapshot("it ends too early")


def _check_end(footer: Footer, contents: Contents, frames: Iterator[tuple[int, bytes]]) -> None:
    count = sum(map(len, contents.rows.values()))
    if count != footer.rows:
        raise InvalidSnapshot(f"it has {count} rows instead of {footer.rows}")
    if next(frames, None) is not None:
        raise InvalidSnapshot("it goes on after its end")


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Put frames together from pieces of any size."""
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        start = 0
        while len(pending) - start >= _FRAME.size:
            size, section = _FRAME.unpack_from(pending, start)
            end = start + _FRAME.size + size
            if end > len(pending):
                break
            yield section, bytes(pending[start + _FRAME.size : end])
            start = end
        del pending[:start]
    if pending:
        raise InvalidSnapshot("it ends within a frame")

"""Tells a torn tail of SQLite's write-ahead log from damage in its middle.

SQLite stops reading at the first frame whose checksum fails and forgets whatever follows, as if it had never been
acknowledged. That is right for the last transaction, which a crash may tear. But a later transaction is only begun once the
earlier is durable: if valid frames of a later one follow a broken frame, what broke had been promised, and opening the
database would destroy the evidence.

Format: https://www.sqlite.org/fileformat2.html#walformat. Checksums are cumulative, but every frame header stores the sum up
to itself, so that frames after a broken one can still be checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from .errors import CorruptLog

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
MAGIC_LITTLE_ENDIAN, MAGIC_BIG_ENDIAN = 0x377F0682, 0x377F0683


@dataclass(frozen=True, slots=True)
class _Frame:
    commits: bool
    intact: bool


def check_wal(database: Path) -> None:
    """Raises CorruptLog when opening `database` would silently drop transactions that were durable."""
    path = database.with_name(database.name + "-wal")
    if not path.exists():
        return
    data = path.read_bytes()
    if len(data) <= HEADER_SIZE + FRAME_HEADER_SIZE:
        return
    frames = _frames(path, data)
    broken = next((number for number, frame in enumerate(frames) if not frame.intact), len(frames))
    torn = frames[broken:]
    commit = next((number for number, frame in enumerate(torn) if frame.commits), len(torn))
    if any(frame.intact for frame in torn[commit + 1 :]):
        raise CorruptLog(path, None, f"frame {broken} of {len(frames)} is broken, yet later transactions follow it")


def _frames(path: Path, data: bytes) -> list[_Frame]:
    """The frames of the present generation (they carry the header's salt), up to the first of an older one."""
    magic, _, page_size, _ = struct.unpack_from(">IIII", data)
    salt = data[16:24]
    checksum = struct.unpack_from(">II", data, 24)
    if magic not in (MAGIC_LITTLE_ENDIAN, MAGIC_BIG_ENDIAN) or _checksum(data[:24], (0, 0), magic) != checksum:
        raise CorruptLog(path, None, "the header of the write-ahead log is broken, yet frames follow it")
    frames = []
    size = FRAME_HEADER_SIZE + page_size
    for start in range(HEADER_SIZE, len(data) - size + 1, size):
        frame = data[start : start + size]
        stored = struct.unpack_from(">II", frame, 16)
        computed = _checksum(frame[:8] + frame[FRAME_HEADER_SIZE:], checksum, magic)
        ours = frame[8:16] == salt
        frames.append(_Frame(commits=ours and frame[4:8] != b"\0\0\0\0", intact=ours and computed == stored))
        checksum = stored
    return frames


def _checksum(data: bytes, start: tuple[int, ...], magic: int) -> tuple[int, int]:
    """SQLite's own sum: two interleaved 32-bit accumulators over pairs of words."""
    order = ">" if magic == MAGIC_BIG_ENDIAN else "<"
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second

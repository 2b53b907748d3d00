"""A disk that forgets what was not synced, and tears what it was writing. `storage.recovery` reads it like the real one.

A later write begins once the earlier is durable, so a crash tears at most one: of its sectors each may be there or not.
"""

from __future__ import annotations

import random
import struct
import zlib
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from discovery.raft.messages import Entry, HardState, SnapshotMeta
from discovery.storage.errors import CorruptLog
from discovery.storage.log import StoredLog

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Append:
    """A write that is waiting for its fsync."""

    entries: Sequence[Entry]
    hard_state: HardState | None


class Disk(ABC):
    """What is durable of one server, and the changes that wait for their fsync in order. Snapshots are kept in memory."""

    def __init__(self, path: Path, counters: Counter[str]) -> None:
        self.path = path
        self.hard_state = HardState()
        self.base_index = 0
        self.entries: list[Entry] = []
        self.snapshots: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self._counters = counters
        self._queue: deque[tuple[Append | Done, Done]] = deque()

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, itself or inside a snapshot."""
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1].term == term
        return index <= max(self.snapshots, default=0)

    # what waits for its fsync

    def append(self, entries: Sequence[Entry], hard_state: HardState | None, done: Done) -> None:
        self._queue.append((Append(entries, hard_state), done))

    def compact(self, up_to: int) -> None:
        self._queue.append((lambda: self._compact(up_to), _nothing))

    def restart_after(self, meta: SnapshotMeta, done: Done) -> None:
        self._queue.append((lambda: self.reset(meta), done))

    def finish_one(self) -> Done:
        """The oldest change becomes durable; returns who is to be told."""
        change, done = self._queue.popleft()
        if isinstance(change, Append):
            self._store(change)
            self._note(change)
        else:
            change()
        return done

    def crash(self, rng: random.Random) -> None:
        """The first few changes happened to reach the disk though nobody was told; of the next one, some sectors did."""
        for _ in range(rng.randint(0, len(self._queue))):
            self.finish_one()
        change = self._queue[0][0] if self._queue else None
        self._queue.clear()
        self._break_off(change if isinstance(change, Append) else None, rng)

    def _note(self, write: Append) -> None:
        """The durable image changes likewise."""
        if write.entries:
            first = write.entries[0].index
            if not self.base_index < first <= self.last_index + 1:
                raise CorruptLog(self.path, first, f"append at {first} to {self.base_index}..{self.last_index}")
            self._counters["writes over other entries"] += first <= self.last_index
            self.entries[first - self.base_index - 1 :] = write.entries
        self.hard_state = write.hard_state or self.hard_state

    # snapshots

    def save(self, meta: SnapshotMeta, state: bytes) -> None:
        """The newest two are kept, as the real store does."""
        self.snapshots[meta.index] = (meta, state)
        for index in sorted(self.snapshots)[:-2]:
            del self.snapshots[index]

    def newest(self) -> SnapshotMeta | None:
        return self.snapshots[max(self.snapshots)][0] if self.snapshots else None

    # what differs

    @abstractmethod
    def load(self) -> StoredLog:
        """What a start finds; raises CorruptLog."""

    @abstractmethod
    def reset(self, meta: SnapshotMeta) -> None: ...

    @abstractmethod
    def _compact(self, up_to: int) -> None: ...

    @abstractmethod
    def _store(self, write: Append) -> None: ...

    @abstractmethod
    def _break_off(self, write: Append | None, rng: random.Random) -> None:
        """The machine stops, in the middle of `write` if there is one."""


FRAME = struct.Struct("<II")
SECTOR = 16


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """`base_index` only in the first frame of a file."""

    base_index: int | None
    hard_state: HardState | None
    entries: Sequence[Entry]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


class FramedDisk(Disk):
    """The log is a file of frames in memory: length, CRC-32, then a write as msgpack, its entries encoded as on the wire.

    Compaction and a restart of the log make a new file that takes the place of the old one as a whole.
    """

    def __init__(self, name: str, counters: Counter[str], *, believes_torn_writes: bool = False) -> None:
        super().__init__(Path(name), counters)
        self._believes_torn_writes = believes_torn_writes
        self._rewrite()

    def load(self) -> StoredLog:
        """Reads the file from its start; a torn frame at its end is cut off, anything else that is wrong is CorruptLog."""
        self.hard_state, self.base_index, self.entries = HardState(), 0, []
        offset = 0
        while (end := self._frame_end(offset)) is not None:
            frame = _decoder.decode(self._file[offset + FRAME.size : end])
            self.base_index = self.base_index if frame.base_index is None else frame.base_index
            self._note(Append(frame.entries, frame.hard_state))
            offset = end
        if offset < len(self._file):
            self._counters["torn writes cut"] += 1
            del self._file[offset:]
        return StoredLog(self.hard_state, self.base_index, list(self.entries))

    def reset(self, meta: SnapshotMeta) -> None:
        self.entries = []
        self.base_index = meta.index
        self._rewrite()

    def _compact(self, up_to: int) -> None:
        if up_to > self.base_index:
            del self.entries[: up_to - self.base_index]
            self.base_index = up_to
            self._rewrite()

    def _store(self, write: Append) -> None:
        self._file += _framed(Frame(None, write.hard_state, write.entries))

    def _break_off(self, write: Append | None, rng: random.Random) -> None:
        if write is not None:
            self._file += torn(_framed(Frame(None, write.hard_state, write.entries)), SECTOR, rng)

    def _rewrite(self) -> None:
        self._file = bytearray(_framed(Frame(self.base_index, self.hard_state, self.entries)))

    def _frame_end(self, offset: int) -> int | None:
        """Where the frame at `offset` ends; None if there is none that is whole."""
        if offset + FRAME.size > len(self._file):
            return None
        length, checksum = FRAME.unpack_from(self._file, offset)
        end = offset + FRAME.size + length
        if not length or end > len(self._file):
            return None
        whole = zlib.crc32(self._file[offset + FRAME.size : end]) == checksum
        return end if whole or self._believes_torn_writes else None


def _framed(frame: Frame) -> bytes:
    payload = _encoder.encode(frame)
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def torn(data: bytes, sector: int, rng: random.Random) -> bytes:
    """What is found after a crash where `data` was being written at the end of a file: never all of it."""
    sectors = [data[start : start + sector] for start in range(0, len(data), sector)]
    found = [piece if rng.random() < 0.8 else bytes(len(piece)) for piece in sectors]
    if found == sectors:
        found[-1] = b""
    return b"".join(found)[: rng.choice((len(data), rng.randint(1, len(data))))]


def _nothing() -> None:
    return

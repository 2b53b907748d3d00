"""A disk that forgets what was not synced, and tears what it was writing. `storage.recovery` reads it like the real one.

The log is a file of frames, one a write: length, CRC-32, then the write as msgpack, entries encoded as they are on the wire.
A later write begins once the earlier is durable, so a crash tears at most one: of its sectors each may be there or not.
Compaction and a restart of the log make a new file that takes the place of the old one as a whole.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from discovery.raft.messages import Entry, HardState, SnapshotMeta
from discovery.storage.errors import CorruptLog
from discovery.storage.log import StoredLog

FRAME = struct.Struct("<II")
SECTOR = 16


class Write(msgspec.Struct, array_like=True, frozen=True):
    """What one frame holds; `base_index` only in the first frame of a file."""

    base_index: int | None
    hard_state: HardState | None
    entries: Sequence[Entry]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Write)

Change = Callable[[], None]


class SimulatedDisk:
    """The durable image of one server, and the changes that wait for their fsync in order."""

    def __init__(self, name: str, counters: Counter[str], *, believes_torn_writes: bool = False) -> None:
        self.path = Path(name)
        self._counters = counters
        self.hard_state = HardState()
        self.base_index = 0
        self.entries: list[Entry] = []
        self.snapshots: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self._believes_torn_writes = believes_torn_writes
        self._file = bytearray()
        self._queue: deque[tuple[bytes | Change, Change]] = deque()
        self._rewrite()

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

    def append(self, entries: Sequence[Entry], hard_state: HardState | None, done: Change) -> None:
        self._queue.append((_framed(Write(None, hard_state, entries)), done))

    def compact(self, up_to: int) -> None:
        self._queue.append((lambda: self._compacted(up_to), _nothing))

    def restart_after(self, meta: SnapshotMeta, done: Change) -> None:
        self._queue.append((lambda: self.reset(meta), done))

    def finish_one(self) -> Change:
        """The oldest change becomes durable; returns who is to be told."""
        change, done = self._queue.popleft()
        if isinstance(change, bytes):
            self._file += change
            self._replay(_decoder.decode(change[FRAME.size :]))
        else:
            change()
        return done

    def crash(self, rng: random.Random) -> None:
        """The first few changes happened to reach the disk though nobody was told; of the next one, some sectors did."""
        for _ in range(rng.randint(0, len(self._queue))):
            self.finish_one()
        if self._queue and isinstance(self._queue[0][0], bytes):
            self._file += _torn(self._queue[0][0], rng)
        self._queue.clear()

    # snapshots

    def save(self, meta: SnapshotMeta, state: bytes) -> None:
        """The newest two are kept, as the real store does."""
        self.snapshots[meta.index] = (meta, state)
        for index in sorted(self.snapshots)[:-2]:
            del self.snapshots[index]

    # what recovery uses

    def load(self) -> StoredLog:
        """Reads the file from its start; a torn frame at its end is cut off, anything else that is wrong is CorruptLog."""
        self.hard_state, self.base_index, self.entries = HardState(), 0, []
        offset = 0
        while (end := self._frame_end(offset)) is not None:
            self._replay(_decoder.decode(self._file[offset + FRAME.size : end]))
            offset = end
        if offset < len(self._file):
            self._counters["torn writes cut"] += 1
            del self._file[offset:]
        return StoredLog(self.hard_state, self.base_index, list(self.entries))

    def reset(self, meta: SnapshotMeta) -> None:
        self.entries = []
        self.base_index = meta.index
        self._rewrite()

    def newest(self) -> SnapshotMeta | None:
        return self.snapshots[max(self.snapshots)][0] if self.snapshots else None

    # the file

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

    def _replay(self, write: Write) -> None:
        if write.base_index is not None:
            self.base_index = write.base_index
        if write.entries:
            first = write.entries[0].index
            if not self.base_index < first <= self.last_index + 1:
                raise CorruptLog(self.path, first, f"append at {first} to {self.base_index}..{self.last_index}")
            self._counters["writes over other entries"] += first <= self.last_index
            self.entries[first - self.base_index - 1 :] = write.entries
        self.hard_state = write.hard_state or self.hard_state

    def _compacted(self, up_to: int) -> None:
        if up_to > self.base_index:
            del self.entries[: up_to - self.base_index]
            self.base_index = up_to
            self._rewrite()

    def _rewrite(self) -> None:
        self._file = bytearray(_framed(Write(self.base_index, self.hard_state, self.entries)))


def _framed(write: Write) -> bytes:
    payload = _encoder.encode(write)
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _torn(frame: bytes, rng: random.Random) -> bytes:
    """What is found after a crash where `frame` was being written."""
    sectors = [frame[start : start + SECTOR] for start in range(0, len(frame), SECTOR)]
    found = [sector if rng.random() < 0.8 else bytes(len(sector)) for sector in sectors]
    if found == sectors:
        found[-1] = b""
    return b"".join(found)[: rng.choice((len(frame), rng.randint(1, len(frame))))]


def _nothing() -> None:
    return

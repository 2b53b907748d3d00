"""A world may also run on the real log store: SQLite in a directory, opened anew after every crash.

Nothing is closed in a crash: the next life finds a copy of the files as they were, where the write that was under way has left
some sectors of its pages at the end of the write-ahead log. The store is compared with the image of what must be durable.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from discovery.raft.messages import SnapshotMeta
from discovery.storage.log import LogStore, StoredLog
from tests.simulation.disk import Append, Disk, torn

SECTOR = 512
WAL_HEADER = 32
"""Bytes that SQLite syncs by themselves before it writes the first frame of a write-ahead log."""
DATABASE, WRITE_AHEAD_LOG, MARK = "raft.db", "raft.db-wal", "raft.db.mark"


class StoredDisk(Disk):
    def __init__(self, directory: Path, counters: Counter[str]) -> None:
        super().__init__(directory / "0" / DATABASE, counters)
        self._directory = directory
        self._life = 0
        self._store_of_life: LogStore | None = None

    @property
    def _log(self) -> LogStore:
        assert self._store_of_life is not None
        return self._store_of_life

    def load(self) -> StoredLog:
        """What the store says, and the only thing it may say: all that was synced."""
        LogStore(self.path).close()
        self._store_of_life = LogStore(self.path)
        stored = self._log.load()
        found = (stored.hard_state, stored.base_index, stored.entries)
        assert found == (self.hard_state, self.base_index, self.entries), f"{self.path} holds {found}"
        return stored

    def reset(self, meta: SnapshotMeta) -> None:
        self._log.reset(meta)
        self.entries, self.base_index = [], meta.index

    def _compact(self, up_to: int) -> None:
        self._log.compact(up_to)
        if up_to > self.base_index:
            del self.entries[: up_to - self.base_index]
            self.base_index = up_to

    def _store(self, write: Append) -> None:
        self._log.append(write.entries, write.hard_state)

    def _break_off(self, write: Append | None, rng: random.Random) -> None:
        """The mark beside the log is written after a write, so a write that was torn has not moved it."""
        before, after = self.path.parent, self._directory / str(self._life + 1)
        after.mkdir(parents=True)
        wal = before / WRITE_AHEAD_LOG
        shutil.copy(before / MARK, after)
        synced = wal.read_bytes() if wal.exists() else b""
        if write is not None:
            self._store(write)
            written = wal.read_bytes()
            synced = synced or written[:WAL_HEADER]
            synced += torn(written[len(synced) :], SECTOR, rng)
            self._counters["torn writes cut"] += 1
        (after / WRITE_AHEAD_LOG).write_bytes(synced)
        shutil.copy(before / DATABASE, after)
        self.close()
        shutil.rmtree(before)
        self._life += 1
        self.path = after / DATABASE

    def close(self) -> None:
        if self._store_of_life is not None:
            self._store_of_life.close()
            self._store_of_life = None

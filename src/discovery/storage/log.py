"""The durable Raft log, term and vote: one SQLite database, one transaction and thus one fsync a write.

SQLite's write-ahead log cuts a torn tail, which nobody was promised; everything older is checked here. Writes are numbered. Each
entry carries the number of the write that stored it, and a CRC over all of itself. One state row says which entries there must be
after the last write that did more than append; a write that only appends leaves it alone, and so changes one page instead of two.
The number of the newest write is compared with what was acknowledged (`mark`). What is missing or altered is reported, never
served, and the log never silently becomes shorter.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from discovery.raft.errors import InvariantViolated
from discovery.raft.messages import Entry, EntryKind, HardState, SnapshotMeta

from .checkpoints import Checkpoints
from .errors import CorruptLog, DataDirectoryLocked, DataDirectoryOfAnother, StorageFailed
from .files import fsync_dir, make_directory
from .mark import Mark
from .wal import check_wal

FORMAT_VERSION = b"2"
COMPACTION_STEP = 256
"""Entries deleted in one transaction: more would hold up the writes that come meanwhile."""
WRITE_OVERHEAD = 4096
"""Bytes that a transaction adds to the write-ahead log beside its entries."""
OWNER = "server-id"

_DISK_ERRORS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)

SCHEMA = (
    "CREATE TABLE entries (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, kind INTEGER NOT NULL, write INTEGER NOT NULL,"
    " data BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), term INTEGER NOT NULL, vote TEXT NOT NULL,"
    " base_index INTEGER NOT NULL, last_index INTEGER NOT NULL, writes INTEGER NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
)


_Row = tuple[int, int, int, int, bytes, int]
"""Index, term, kind, number of the write, data, CRC over all of these; values of other types where there is damage."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """What a load found: `entries` follow `base_index`, up to which the log was deleted."""

    hard_state: HardState
    base_index: int
    entries: list[Entry]


class LogStore:
    """The log of one server. It may be used from any thread, but from one at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the database at `path` and locks it. Raises DataDirectoryLocked, CorruptLog, StorageFailed."""
        self.path = path
        self._hard_state = HardState()
        self._base_index = 0
        self._last_index = 0
        self._writes = 0
        self._broken = False
        try:
            make_directory(path.parent)
            self._lock = _lock(path.with_name(path.name + ".lock"))
        except OSError as error:
            raise StorageFailed(f"{path.parent} can't be used: {error}") from error
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def last_index(self) -> int:
        return self._last_index

    def claim(self, server_id: str) -> None:
        """Makes this the log of `server_id` for good. Raises DataDirectoryOfAnother, StorageFailed."""
        owner = self.get_meta(OWNER)
        if owner is None:
            self.set_meta(OWNER, server_id.encode())
        elif owner.decode() != server_id:
            raise DataDirectoryOfAnother(self.path.parent, owner.decode(), server_id)

    def load(self) -> StoredLog:
        """Everything stored, verified. Raises CorruptLog, which names the first entry that is missing or altered."""
        try:
            rows: Iterable[_Row] = self._database.execute("SELECT * FROM entries ORDER BY idx")
            entries = [self._verified(expected, row) for expected, row in enumerate(rows, self._base_index + 1)]
        except sqlite3.Error as error:
            raise _told(self.path, error) from error
        if self._base_index + len(entries) != self._last_index:
            raise CorruptLog(self.path, self._base_index + len(entries) + 1, f"the log must reach {self._last_index}")
        return StoredLog(self._hard_state, self._base_index, entries)

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Replaces the log from the first of `entries` on, and term and vote if given, durably and as one.

        Raises StorageFailed: nothing more may be done with this store or on its behalf.
        """
        first = entries[0].index if entries else self._last_index + 1
        if not self._base_index < first <= self._last_index + 1:
            raise InvariantViolated(f"append at {first} to a log of {self._base_index + 1}..{self._last_index}")
        only_appends = bool(entries) and hard_state is None and first > self._last_index
        with self._transaction(sum(len(entry.data) for entry in entries), with_state=not only_appends) as database:
            if first <= self._last_index:
                database.execute("DELETE FROM entries WHERE idx >= ?", (first,))
            rows = [_row(entry, self._writes) for entry in entries]
            database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._last_index = first - 1 + len(entries)
            self._hard_state = hard_state or self._hard_state

    def compaction_steps(self, up_to: int) -> list[Callable[[], None]]:
        """What to run, with writes in between if there are any, in place of one long `compact`."""
        ends = [*range(self._base_index + COMPACTION_STEP, up_to, COMPACTION_STEP), up_to]
        return [partial(self.compact, end) for end in ends]

    def compact(self, up_to: int) -> None:
        """Deletes the entries up to `up_to`, which a durable snapshot covers. Raises StorageFailed."""
        if up_to > self._last_index:
            raise InvariantViolated(f"compaction to {up_to} of a log that ends at {self._last_index}")
        if up_to <= self._base_index:
            return
        with self._transaction() as database:
            database.execute("DELETE FROM entries WHERE idx <= ?", (up_to,))
            self._base_index = up_to

    def reset(self, meta: SnapshotMeta) -> None:
        """Deletes all entries: the log goes on after the durable snapshot `meta`. Raises StorageFailed."""
        with self._transaction() as database:
            database.execute("DELETE FROM entries")
            self._base_index = self._last_index = meta.index

    def get_meta(self, key: str) -> bytes | None:
        """A value kept beside the log."""
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def set_meta(self, key: str, value: bytes) -> None:
        """Keeps `value` durably. Raises StorageFailed."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def copy_to(self, directory: Path) -> None:
        """A durable copy of the database as it is now, in a new directory. Raises StorageFailed, OSError."""
        make_directory(directory)
        target = sqlite3.connect(directory / self.path.name)
        try:
            self._database.backup(target)
        except sqlite3.Error as error:
            raise _told(self.path, error) from error
        finally:
            target.close()
        fsync_dir(directory)

    def close(self) -> None:
        """Gives up the lock; what was written stays durable. May be called twice."""
        if self._lock >= 0:
            self._checkpoints.close()
            self._database.close()
            self._mark.close()
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> None:
        check_wal(self.path)
        try:
            self._mark = Mark(self.path)
            self._check_mark()
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise StorageFailed(f"{self.path}: {error}") from error
        except sqlite3.Error as error:
            raise _told(self.path, error) from error
        try:
            self._configure()
            if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
                _create(self._database, self.path)
            self._read_state()
            self._checkpoints = Checkpoints(self.path)
        except sqlite3.Error as error:
            self._database.close()
            raise _told(self.path, error) from error
        except CorruptLog:
            self._database.close()
            raise

    def _configure(self) -> None:
        """FULL is one fsync a transaction; `checkpoints` sees to the rest."""
        for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0"):
            self._database.execute(f"PRAGMA {setting}")

    def _check_mark(self) -> None:
        """Looks without touching anything: opening for writing would make the loss final."""
        acknowledged = self._mark.read()
        if not acknowledged:
            return
        if not self.path.exists():
            raise CorruptLog(self.path, None, f"it is missing, {acknowledged} writes to it were acknowledged")
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            state = database.execute("SELECT writes, last_index FROM state").fetchone() or (0, 0)
            newest = database.execute("SELECT write, idx FROM entries ORDER BY idx DESC LIMIT 1").fetchone() or (0, 0)
        except sqlite3.Error as error:
            raise _told(self.path, error) from error
        finally:
            database.close()
        writes, last = max(row for row in ((0, 0), state, newest) if all(isinstance(value, int) for value in row))
        if writes < acknowledged:
            lost = f"{acknowledged - writes} of {acknowledged} acknowledged writes are lost"
            raise CorruptLog(self.path, last + 1, f"{lost}: the write-ahead log was damaged, cut or removed")

    def _read_state(self) -> None:
        row = self._database.execute("SELECT term, vote, base_index, last_index, writes, crc FROM state").fetchone()
        version = self._database.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if version is None or bytes(version[0]) != FORMAT_VERSION:
            raise CorruptLog(self.path, None, f"format {version and version[0]!r} is not {FORMAT_VERSION!r}")
        if row is None or _state_crc(*row[:5]) != row[5]:
            raise CorruptLog(self.path, None, "term and vote are lost")
        self._hard_state = HardState(row[0], row[1])
        self._base_index, self._last_index, self._writes = row[2:5]
        self._read_appended()

    def _read_appended(self) -> None:
        """What was only appended after the state was written: each entry by the write of the one before it, or by the next."""
        rows = self._database.execute("SELECT idx, write FROM entries WHERE idx > ? ORDER BY idx", (self._last_index,))
        for index, write in rows:
            if index != self._last_index + 1:
                raise CorruptLog(self.path, self._last_index + 1, f"the next entry found is {index}")
            if write not in (self._writes, self._writes + 1):
                raise CorruptLog(self.path, index, f"it is of write {write}, the one before of {self._writes}")
            self._last_index, self._writes = index, write

    def _write_state(self) -> None:
        values = (self._hard_state.term, self._hard_state.vote, self._base_index, self._last_index, self._writes)
        self._database.execute(
            "UPDATE state SET term = ?, vote = ?, base_index = ?, last_index = ?, writes = ?, crc = ?",
            (*values, _state_crc(*values)),
        )

    @contextmanager
    def _transaction(self, size: int = 0, *, with_state: bool = True) -> Iterator[sqlite3.Connection]:
        """One durable write of about `size` bytes.

        After a failure the disk's content is anybody's guess: no other write is tried, ever.
        """
        if self._broken:
            raise StorageFailed(f"{self.path}: an earlier write failed")
        self._broken = True
        try:
            if self._checkpoints.due():
                self._checkpoints.finish(self._database)
            self._database.execute("BEGIN IMMEDIATE")
            self._writes += 1
            yield self._database
            if with_state:
                self._write_state()
            self._database.execute("COMMIT")
            self._mark.write(self._writes)
        except (sqlite3.Error, OSError) as error:
            raise StorageFailed(f"{self.path}: {error}") from error
        self._broken = False
        self._checkpoints.noted(size + WRITE_OVERHEAD)

    def _verified(self, expected: int, row: _Row) -> Entry:
        index, term, kind, _, data, crc = row
        if index != expected:
            raise CorruptLog(self.path, expected, f"the next entry found is {index}")
        if not _has_types(row) or _entry_crc(*row[:5]) != crc:
            raise CorruptLog(self.path, index, "checksum mismatch")
        return Entry(index, term, EntryKind(kind), data)


def _lock(path: Path) -> int:
    """Locks for as long as the returned descriptor is open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace")
        os.close(descriptor)
        raise DataDirectoryLocked(f"{path.parent} is in use by process {owner or 'unknown'}") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _create(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        database.execute(statement)
    database.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT_VERSION,))
    database.execute("INSERT INTO state VALUES (1, 0, '', 0, 0, 0, ?)", (_state_crc(0, "", 0, 0, 0),))
    database.execute("COMMIT")
    fsync_dir(path.parent)


def _row(entry: Entry, write: int) -> _Row:
    crc = _entry_crc(entry.index, entry.term, entry.kind, write, entry.data)
    return entry.index, entry.term, int(entry.kind), write, entry.data, crc


def _has_types(row: _Row) -> bool:
    return isinstance(row[4], bytes) and all(isinstance(value, int) for value in row[:4])


def _entry_crc(index: int, term: int, kind: int, write: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<qqqq", index, term, kind, write)))


def _state_crc(term: int, vote: str, base_index: int, last_index: int, writes: int) -> int:
    return zlib.crc32(vote.encode(), zlib.crc32(struct.pack("<qqqq", term, base_index, last_index, writes)))


def _told(path: Path, error: sqlite3.Error) -> StorageFailed | CorruptLog:
    """A disk that is full or out of order is one thing, a file that is no sound log another."""
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DISK_ERRORS:
        return StorageFailed(f"{path}: {error}")
    return CorruptLog(path, None, str(error))

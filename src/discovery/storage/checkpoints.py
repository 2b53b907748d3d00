"""Moves what SQLite's write-ahead log holds into the database while the log goes on being written.

SQLite would do it within some commit, which then takes as long as writing all the pages. Here a thread does it on a connection
of its own; the writer adds only the few pages that came meanwhile, after which SQLite begins its write-ahead log anew.

Source: https://www.sqlite.org/wal.html (checkpointing; passive checkpoints do not wait for writers, nor writers for them).
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

THRESHOLD = 4 << 20
"""Bytes written since the last time from which on it is worth it."""
PASSES = 2
"""The second finds little more than what was written during the first."""


class Checkpoints:
    """Of the database at `path`. `noted`, `due` and `finish` are called by the writer between two commits."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._written = 0
        self._error: sqlite3.Error | None = None
        self._thread: threading.Thread | None = None

    def noted(self, size: int) -> None:
        """`size` bytes were written."""
        self._written += size
        if self._written >= THRESHOLD and self._thread is None:
            self._written = 0
            self._thread = threading.Thread(target=self._run, name="raft-checkpoint", daemon=True)
            self._thread.start()

    def due(self) -> bool:
        """Whether little is left, for `finish` to do."""
        return self._thread is not None and not self._thread.is_alive()

    def finish(self, writer: sqlite3.Connection) -> None:
        """Raises sqlite3.Error, also for what the thread met: a sync that failed once cannot be trusted a second time."""
        self._thread = None
        if self._error is not None:
            raise self._error
        checkpoint(writer)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._database.close()

    def _run(self) -> None:
        try:
            for _ in range(PASSES):
                checkpoint(self._database)
        except sqlite3.Error as error:
            self._error = error


def checkpoint(database: sqlite3.Connection) -> None:
    """As far as possible without waiting for anybody. Raises sqlite3.Error."""
    database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

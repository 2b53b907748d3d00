"""The file behind a gossip pool's memory: lines are appended, and now and then the whole is written anew."""

import logging
from pathlib import Path
from typing import TextIO

from discovery.gossip.events import Event
from discovery.gossip.snapshot import LEAVE, Snapshot

log = logging.getLogger(__name__)


class SnapshotFile:
    """Owns the file at `path`. A disk that fails costs the memory, not the membership: it is logged and gossip goes on."""

    def __init__(self, path: Path, *, keep_on_leave: bool) -> None:
        self._path = path
        self._pending: list[str] = []
        self._file: TextIO | None = None
        self.content = Snapshot(keep_on_leave=keep_on_leave)

    def open(self) -> None:
        """Read what an earlier run left. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            with self._path.open(encoding="utf-8", errors="replace") as file:
                self.content.read(file)
        self._file = self._path.open("a", encoding="utf-8")

    def record(self, event: Event) -> None:
        self._pending += self.content.record(event)

    def flush(self, clocks: tuple[int, int, int]) -> None:
        """Write what was recorded, and how far the clocks are."""
        self._pending += self.content.record_clocks(clocks)
        lines, self._pending = self._pending, []
        if lines:
            self._append(lines)

    def _append(self, lines: list[str]) -> None:
        if self._file is None:
            return
        try:
            self._file.writelines(lines)
            self._file.flush()
            if self._file.tell() > self.content.compact_above:
                self._compact()
        except OSError as error:
            log.error("cannot write gossip snapshot: path=%s error=%s", self._path, error)

    def _compact(self) -> None:
        fresh = self._path.with_name(self._path.name + ".compact")
        file = fresh.open("w", encoding="utf-8")
        file.writelines(self.content.lines())
        file.flush()
        fresh.rename(self._path)
        if self._file is not None:
            self._file.close()
        self._file = file

    def leave(self, clocks: tuple[int, int, int]) -> None:
        """After a graceful leave nobody is looked for again, unless that was asked for. Nothing is recorded from here on."""
        self.flush(clocks)
        self._append([LEAVE])
        self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            log.error("cannot write gossip snapshot: path=%s error=%s", self._path, error)

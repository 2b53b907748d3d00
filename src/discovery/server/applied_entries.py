"""What the newest applied log entries hold: a block may be one command or a thousand, yet the log that is kept behind a snapshot
is meant in commands, and must not fill the memory either."""

from collections import deque
from typing import Final

MAX_BYTES: Final = 64 << 20


class AppliedEntries:
    def __init__(self) -> None:
        self._entries: deque[tuple[int, int, int]] = deque()
        self.size = 0
        """Of all of them, in bytes."""

    def add(self, index: int, commands: int, size: int) -> None:
        """The entry at `index` was applied; `size` is in bytes."""
        self._entries.append((index, commands, size))
        self.size += size

    def clear(self) -> None:
        self._entries.clear()
        self.size = 0

    def kept_behind(self, end: int, commands: int) -> int:
        """How many log entries up to `end` hold the last `commands` commands; the older ones are forgotten here."""
        first, size = end + 1, 0
        for index, count, length in reversed(self._entries):
            if index > end:
                continue
            commands -= count
            size += length
            if commands < 0 or size > MAX_BYTES:
                break
            first = index
        while self._entries and self._entries[0][0] < first:
            self.size -= self._entries.popleft()[2]
        return end + 1 - first

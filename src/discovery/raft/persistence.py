"""What awaits the disk, and the promises that may only be made afterwards."""

from __future__ import annotations

from collections import deque

from .errors import InvariantViolated
from .log import RaftLog
from .messages import HardState, Message
from .ready import Ready


class Persistence:
    """Writes under way, oldest first. `durable` is the term and vote that the disk is known to hold."""

    def __init__(self, log: RaftLog, hard_state: HardState) -> None:
        self._log = log
        self.durable = hard_state
        self._handed = hard_state
        self._promises: list[Message] = []
        self._writes: deque[tuple[int, HardState]] = deque()
        self._last_id = 0

    def promise(self, message: Message) -> None:
        """`message` speaks of a term, a vote or entries: it leaves when all that it may speak of is durable."""
        self._promises.append(message)

    def withdraw(self) -> None:
        """What was promised and has not left never will: its term is over, or its entries never reach the disk."""
        self._promises.clear()

    def has_waiting(self, hard_state: HardState) -> bool:
        return bool(self._promises) or self._log.has_unwritten() or hard_state != self._handed

    def start(self, ready: Ready, hard_state: HardState, *, with_entries: bool) -> None:
        """Moves what awaits the disk into `ready`. Promises leave at once if nothing stands between them and the disk."""
        promises, self._promises = self._promises, []
        new_state = hard_state != self._handed
        new_entries = with_entries and self._log.has_unwritten()
        if not new_state and not new_entries and not (promises and self._writes):
            ready.messages += promises
            return
        ready.messages_after_persist = promises
        if new_state:
            ready.hard_state = self._handed = hard_state
        ready.entries = self._log.start_write(with_entries=with_entries)
        self._last_id += 1
        ready.write_id = self._last_id
        self._writes.append((self._last_id, hard_state))

    def finish(self, write_id: int) -> None:
        """This write and all before it are durable."""
        if not self._writes or self._writes[0][0] != write_id:
            raise InvariantViolated(f"write {write_id} finished, under way are {[write for write, _ in self._writes]}")
        self.durable = self._writes.popleft()[1]
        self._log.finish_write()

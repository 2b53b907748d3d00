"""What a leader knows of one follower, and how much it may send it.

    PROBE      one append at a time, its position a guess      --first success-->  REPLICATE
    REPLICATE  appends leave without waiting, window permitting  --refusal, lost connection-->  PROBE
    SNAPSHOT   the follower needs entries that are compacted away; nothing but heartbeats  --done or failed-->  PROBE

Always 0 <= match < next: everything up to `match` is known to be durable there and equal, `next` is what leaves next.
"""

from __future__ import annotations

import enum
from collections import deque

from .errors import InvariantViolated


class ProgressState(enum.StrEnum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Window:
    """Appends on their way, oldest first, bounded in number and bytes."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._sent: deque[tuple[int, int]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def full(self) -> bool:
        return len(self._sent) >= self._max_messages or self.bytes >= self._max_bytes

    def add(self, last_index: int, size: int) -> None:
        self._sent.append((last_index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        while self._sent and self._sent[0][0] <= index:
            self.bytes -= self._sent.popleft()[1]

    def clear(self) -> None:
        self._sent.clear()
        self.bytes = 0


class Progress:
    def __init__(self, *, next_index: int, now: float, window: Window) -> None:
        self.state = ProgressState.PROBE
        self.match = 0
        self.next = next_index
        self.window = window
        self.last_contact = now
        """When any answer came last; a new follower gets the benefit of the doubt."""
        self.acked_round = 0
        """The newest heartbeat round it has answered."""
        self.resumed_round = 0
        """The heartbeat round after which it was last resumed."""
        self.told_commit = 0
        """The commit index last sent."""
        self.poked = True
        """Send one append even if empty: it finds out what is there, or whether what was sent has arrived."""
        self.pending_snapshot = 0
        self._probing = False

    def __repr__(self) -> str:
        return f"Progress({self.state}, match {self.match}, next {self.next}, {len(self.window)} in flight)"

    def paused(self) -> bool:
        """Whether nothing may leave now."""
        match self.state:
            case ProgressState.PROBE:
                return self._probing
            case ProgressState.REPLICATE:
                return self.window.full() and not self.poked
            case ProgressState.SNAPSHOT:
                return True

    def sent(self, last_index: int, size: int, commit: int) -> None:
        """An append up to `last_index` left; `size` is 0 when it carried no entries."""
        self.told_commit = max(self.told_commit, commit)
        self.poked = False
        if self.state is ProgressState.PROBE:
            self._probing = True
        elif size:
            self.next = last_index + 1
            self.window.add(last_index, size)

    def succeeded(self, index: int) -> bool:
        """The follower holds everything up to `index`; tells whether that is news."""
        self.window.free_to(index)
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        return True

    def refused(self, prev_index: int, probe_next: int) -> None:
        """The append at `prev_index` did not fit; goes back to `probe_next` within what is proven. Old news is ignored."""
        if prev_index <= self.match or self.state is ProgressState.SNAPSHOT:
            return
        if self.state is ProgressState.REPLICATE:
            self.become_probe(self.match + 1)
        elif prev_index == self.next - 1:
            self.become_probe(max(min(prev_index, probe_next), self.match + 1))

    def resume(self, last_index: int) -> None:
        """A heartbeat was answered: what was sent before it may be lost. A probe may be repeated, and a window that waits is
        looked into by one append more, so that its loss is noticed. Nothing is in doubt of who holds everything."""
        self._probing = False
        if self.match < last_index:
            self.poked = True
        elif self.state is ProgressState.PROBE:
            self.become_replicate()

    def become_probe(self, next_index: int, *, wait: bool = False) -> None:
        """With `wait` the first probe is held until the follower answers a heartbeat."""
        if next_index <= self.match:
            raise InvariantViolated(f"next {next_index} not above match {self.match}")
        self.state = ProgressState.PROBE
        self.next = next_index
        self.pending_snapshot = 0
        self.window.clear()
        self._probing = wait

    def become_replicate(self) -> None:
        self.become_probe(self.match + 1)
        self.state = ProgressState.REPLICATE

    def become_snapshot(self, index: int) -> None:
        self.become_probe(self.next)
        self.state = ProgressState.SNAPSHOT
        self.pending_snapshot = index

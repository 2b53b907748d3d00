"""When a server that does not lead loses patience: with its leader, or with an election (paper, 5.2)."""

from __future__ import annotations

import math
import random

from .options import Timings


class ElectionTimer:
    """Times are drawn at random from one to two timeouts, so that servers rarely campaign at once."""

    def __init__(self, timings: Timings, rng: random.Random, *, now: float, last_contact: float) -> None:
        """`last_contact` is when a leader may have been heard of last, minus infinity if surely never."""
        self._timings = timings
        self._rng = rng
        self.last_contact = last_contact
        self.deadline = math.inf
        self._patience = math.inf
        self._loyalty = timings.heartbeat
        self._excused = False
        self.await_leader(now, in_a_hurry=False)

    def await_leader(self, now: float, *, in_a_hurry: bool) -> None:
        """Draws a new patience. `in_a_hurry` is who has nobody to wait for but a leader it still supports."""
        self._patience = self._rng.uniform(1, 2) * self._timings.heartbeat
        self._excused = False
        self.deadline = max(now, self.last_contact + self._timings.heartbeat) if in_a_hurry else now + self._patience

    def await_result(self, now: float) -> None:
        """An election of our own begins."""
        self._excused = False
        self.deadline = now + self._rng.uniform(1, 2) * self._timings.election

    def heard_leader(self, now: float) -> None:
        self.last_contact = now
        self._loyalty = self._timings.heartbeat
        self.restart(now)

    def leader_is_gone(self, now: float, rank: int) -> None:
        """Nobody has to find out by silence. Campaigns follow each other by rank, so that votes are not split; the first one
        not before the others, who may have heard the leader a little later, honour it no more."""
        self._loyalty = self._timings.gone
        turn = max(now, self.last_contact + self._loyalty) + (rank * 2 + 0.5) * self._timings.heartbeat_interval
        self.deadline = min(self.deadline, turn)

    def restart(self, now: float) -> None:
        """Patience begins anew: the leader was heard, or a vote was given."""
        self._excused = False
        self.deadline = now + self._patience

    def supports_leader(self, now: float) -> bool:
        """Whether a leader was heard of within the shortest time after which anybody may replace it."""
        return now < self.last_contact + self._loyalty

    def is_over(self, now: float) -> bool:
        """Whether it is time to campaign. A server that was itself asleep waits a moment more, once: the leader's messages
        may lie unread."""
        if now < self.deadline:
            return False
        if now - self.deadline > self._timings.heartbeat_interval and not self._excused:
            self._excused = True
            self.deadline = now + self._timings.heartbeat_interval
            return False
        return True

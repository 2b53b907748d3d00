"""Linearizable reads: who waits until a quorum has confirmed that we lead, and until what was committed then is applied."""

import asyncio
import time

from discovery.model.errors import NoLeader
from discovery.raft.core import Raft, Ready
from discovery.raft.errors import NotLeader
from discovery.telemetry import Metrics

from .proposals import fail

Turn = asyncio.Future[None]


class ReadBarriers:
    """All readers of one turn of the event loop share a barrier, and so a round of heartbeats."""

    def __init__(self, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self._loop = loop
        self._metrics = metrics
        self._next: Turn | None = None
        self._asked: dict[int, Turn] = {}
        self._confirmed: list[tuple[int, Turn]] = []

    def join(self) -> Turn:
        """Resolves when the read may be answered; fails with `NoLeader`."""
        if self._next is None:
            self._next = self._loop.create_future()
        return self._next

    def ask(self, raft: Raft) -> None:
        """Begin the round of those who joined since the last call."""
        turn, self._next = self._next, None
        if turn is None:
            return
        try:
            self._asked[raft.read_index(time.monotonic())] = turn
        except NotLeader:
            fail(turn, NoLeader())
            return
        self._metrics.raft_verify_leader.inc()

    def take(self, ready: Ready) -> None:
        """What Raft says of the rounds under way."""
        for token, index in ready.reads:
            turn = self._asked.pop(token, None)
            if turn is not None:
                self._confirmed.append((index, turn))
        for token in ready.reads_failed:
            turn = self._asked.pop(token, None)
            if turn is not None:
                fail(turn, NoLeader())

    def applied(self, index: int) -> None:
        """The state is as of `index`."""
        if not self._confirmed:
            return
        waiting = []
        for needed, turn in self._confirmed:
            if needed > index:
                waiting.append((needed, turn))
            elif not turn.done():
                turn.set_result(None)
        self._confirmed = waiting

    def fail(self) -> None:
        """We no longer lead."""
        turns = [*self._asked.values(), *(turn for _, turn in self._confirmed)]
        if self._next is not None:
            turns.append(self._next)
        self._next, self._asked, self._confirmed = None, {}, []
        for turn in turns:
            fail(turn, NoLeader())

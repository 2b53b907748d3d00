"""Commands on their way through the log: gathered into blocks, and their callers told how it ended.

Every command is encoded when it arrives, so that one that cannot be encoded fails its own caller alone, and blocks can be cut
by size. While enough blocks are under way what arrives waits for the next one: the busier the server, the larger the blocks.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from discovery.model import commands as c
from discovery.model.errors import DiscoveryError, NoLeader, OutcomeUnknown, RequestFailed
from discovery.raft.core import Raft
from discovery.raft.errors import NotLeader, ProposalRefused
from discovery.raft.messages import Entry
from discovery.state.store import Result
from discovery.telemetry import Metrics

MAX_BLOCK_COMMANDS: Final = 1024
MAX_BLOCK_BYTES: Final = 1 << 20
"""A single larger command travels alone."""
MAX_BLOCKS_IN_FLIGHT: Final = 2
"""More would make smaller blocks, each with the cost of a whole one."""

Waiter = asyncio.Future[Result]

Committed = Callable[[int, int], bool]
"""Whether the entry with this index and term is known to be committed."""


def nothing_committed(_index: int, _term: int) -> bool:
    return False


class _Block:
    """A block in the log that is not applied yet."""

    __slots__ = ("started", "term", "waiters")

    def __init__(self, term: int, started: float, waiters: list[Waiter]) -> None:
        self.term = term
        self.started = started
        self.waiters = waiters


class Proposals:
    """To be used on the event loop alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, metrics: Metrics) -> None:
        self._loop = loop
        self._metrics = metrics
        self._waiting: deque[tuple[bytes, Waiter]] = deque()
        self._blocks: dict[int, _Block] = {}

    @property
    def waiting(self) -> bool:
        """Whether commands are not in the log yet."""
        return bool(self._waiting)

    def add(self, command: c.Command) -> Waiter:
        """Take a command; its result comes with the future, or `NoLeader` if surely nothing happened, or `OutcomeUnknown`."""
        try:
            encoded = c.encode_command(command)
        except (ValueError, OverflowError) as error:
            raise RequestFailed(f"the request can't be stored: {error}") from None
        waiter: Waiter = self._loop.create_future()
        self._waiting.append((encoded, waiter))
        return waiter

    def propose_to(self, raft: Raft) -> None:
        """Make blocks of what waits. During a transfer of leadership everything waits for its end."""
        while self._waiting and len(self._blocks) < MAX_BLOCKS_IN_FLIGHT:
            size = self._next_block_size()
            block = c.join_block([self._waiting[position][0] for position in range(size)])
            try:
                index, term = raft.propose(block)
            except NotLeader:
                self._fail_waiting()
                return
            except ProposalRefused:
                return
            waiters = [self._waiting.popleft()[1] for _ in range(size)]
            self._blocks[index] = _Block(term, time.monotonic(), waiters)
            self._metrics.raft_apply.inc(size)

    def _next_block_size(self) -> int:
        total = 0
        for count, (encoded, _) in enumerate(self._waiting):
            total += len(encoded)
            if count == MAX_BLOCK_COMMANDS or (count and total > MAX_BLOCK_BYTES):
                return count
        return len(self._waiting)

    def applied(self, entry: Entry, results: Sequence[Result]) -> None:
        """An entry of the log was applied; whoever waited for it learns its result."""
        block = self._blocks.pop(entry.index, None)
        if block is None:
            return
        if block.term != entry.term:
            _fail_all(block.waiters, OutcomeUnknown())
            return
        self._metrics.raft_commit_duration.observe(time.monotonic() - block.started)
        for waiter, result in zip(block.waiters, results, strict=True):
            if not waiter.done():
                waiter.set_result(result)

    def fail(self, error: DiscoveryError, committed: Committed = nothing_committed) -> None:
        """We no longer lead: what is in the log may still be applied, which `error` says; what is not, surely won't be.

        Who waits for a block that is `committed` goes on waiting: it will be applied.
        """
        self._fail_waiting()
        for index, block in list(self._blocks.items()):
            if not committed(index, block.term):
                _fail_all(self._blocks.pop(index).waiters, error)

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        _fail_all([waiter for _, waiter in waiting], NoLeader())


def fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    """End a future with an error. Whoever asked may be gone: an error that nobody collects is no fault."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def _fail_all(waiters: Sequence[Waiter], error: DiscoveryError) -> None:
    for waiter in waiters:
        fail(waiter, error)

"""Is there one order of all operations on a key, within their intervals, in which each result makes sense?

Wing and Gong's search with Lowe's memory of visited (done operations, value) pairs; keys are judged apart. An operation whose
outcome is unknown has no end: it may take effect at any later time or never. One that was surely refused is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_VISITED = 100_000


@dataclass(slots=True)
class Operation:
    """`kind` is read, write, delete or cas; no two operations write the same value, None is the absence of one.

    `result`: the value read, or whether the cas took place. `index`: the ModifyIndex that came with a value read.
    """

    client: int
    key: str
    kind: str
    argument: str | None = None
    expected: str | None = None
    called: int = 0
    returned: float = math.inf
    result: str | bool | None = None
    index: int = 0

    @property
    def known(self) -> bool:
        return self.returned < math.inf

    def apply(self, value: str | None) -> tuple[bool, str | None]:
        """Whether the known result fits `value`, and the value afterwards."""
        if self.kind == "read":
            return self.result == value, value
        if self.kind != "cas":
            return True, self.argument
        took_place = value == self.expected
        return not self.known or self.result == took_place, self.argument if took_place else value


class SearchExhausted(Exception):
    """The history was too tangled to decide."""


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Decides for operations on one key that starts as None. Raises SearchExhausted."""
    operations = sorted(history, key=lambda operation: operation.called)
    required = sum(1 << number for number, operation in enumerate(operations) if operation.known)
    visited: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, None)]
    while stack:
        done, value = stack.pop()
        if done & required == required:
            return True
        for state in _next_states(operations, done, value):
            if state not in visited:
                visited.add(state)
                stack.append(state)
        if len(visited) > MAX_VISITED:
            raise SearchExhausted(f"{len(operations)} operations")
    return False


def _next_states(operations: Sequence[Operation], done: int, value: str | None) -> list[tuple[int, str | None]]:
    """What may come next, the likeliest last: what ends soonest."""
    states = []
    for number, operation in sorted(_candidates(operations, done), key=lambda found: -found[1].returned):
        fits, following = operation.apply(value)
        if fits:
            states.append((done | 1 << number, following))
    return states


def _candidates(operations: Sequence[Operation], done: int) -> Iterator[tuple[int, Operation]]:
    """Any operation not done yet that was called before the first of these returned."""
    first_return = math.inf
    first_open = (~done & (done + 1)).bit_length() - 1
    for number in range(first_open, len(operations)):
        operation = operations[number]
        if operation.called > first_return:
            return
        if not done >> number & 1:
            first_return = min(first_return, operation.returned)
            yield number, operation


def stale_read(history: Sequence[Operation]) -> Operation | None:
    """A read that returned an older value than one which had been returned before it began; None if there is none.

    Values carry the index of their writing, so this needs no search. It proves a violation, never the absence of one.
    """
    reads = sorted((operation for operation in history if operation.kind == "read" and operation.index), key=_end)
    newest: list[tuple[float, int]] = []
    for read in sorted(reads, key=lambda operation: operation.called):
        while reads and reads[0].returned < read.called:
            ended = reads.pop(0)
            newest.append((ended.returned, max(ended.index, newest[-1][1] if newest else 0)))
        if newest and read.index < newest[-1][1]:
            return read
    return None


def _end(operation: Operation) -> float:
    return operation.returned

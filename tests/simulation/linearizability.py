"""Is there one order of all operations on a register, within their intervals, in which each result makes sense?

Wing and Gong's search with Lowe's memory of visited (done operations, value) pairs. An operation whose outcome is unknown has
no end: it may take effect at any later time or never.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_VISITED = 200_000


@dataclass(slots=True)
class Operation:
    """`kind` is read, write or cas. `result`: the value read, or whether the cas took place; None when unknown."""

    client: int
    key: str
    kind: str
    argument: str | None = None
    expected: str | None = None
    called: int = 0
    returned: float = math.inf
    result: str | bool | None = None

    def apply(self, value: str | None) -> tuple[bool, str | None]:
        """Whether the known result fits `value`, and the value afterwards."""
        if self.kind == "read":
            return self.result == value, value
        if self.kind == "write":
            return True, self.argument
        took_place = value == self.expected
        fits = self.returned == math.inf or self.result == took_place
        return fits, self.argument if took_place else value


class SearchExhausted(Exception):
    """The history was too tangled to decide."""


def is_linearizable(history: list[Operation]) -> bool:
    """Decides for operations on one key that starts as None. Raises SearchExhausted."""
    operations = sorted(history, key=lambda operation: operation.called)
    required = sum(1 << number for number, operation in enumerate(operations) if operation.returned < math.inf)
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


def _next_states(operations: list[Operation], done: int, value: str | None) -> list[tuple[int, str | None]]:
    """What may come next: any operation called before the first return among those still open."""
    candidates = []
    first_return = math.inf
    for number, operation in enumerate(operations):
        if operation.called > first_return:
            break
        if not done >> number & 1:
            candidates.append((number, operation))
            first_return = min(first_return, operation.returned)
    states = []
    for number, operation in candidates:
        fits, following = operation.apply(value)
        if fits and operation.called <= first_return:
            states.append((done | 1 << number, following))
    states.reverse()
    return states

"""The judge is judged: known histories, and a second, slower way to decide."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.linearizability import Operation, is_linearizable, stale_read


def write(argument: str, called: int, returned: float) -> Operation:
    return Operation(0, "k", "write", argument, called=called, returned=returned, result=True)


def read(result: str | None, called: int, returned: float, index: int = 0) -> Operation:
    return Operation(0, "k", "read", called=called, returned=returned, result=result, index=index)


def cas(expected: str | None, argument: str, result: bool, called: int, returned: float) -> Operation:
    return Operation(0, "k", "cas", argument, expected, called=called, returned=returned, result=result)


def delete(called: int, returned: float) -> Operation:
    return Operation(0, "k", "delete", called=called, returned=returned, result=True)


LINEARIZABLE = {
    "nothing": [],
    "a read of nothing": [read(None, 1, 2)],
    "one after the other": [write("a", 1, 2), read("a", 3, 4), write("b", 5, 6), read("b", 7, 8)],
    "a read beside a write sees the old value": [write("a", 1, 2), write("b", 3, 6), read("a", 4, 5)],
    "a read beside a write sees the new value": [write("a", 1, 2), write("b", 3, 6), read("b", 4, 5)],
    "two reads beside a write": [write("a", 1, 10), read(None, 2, 3), read("a", 4, 5)],
    "an unknown write took effect late": [write("a", 1, math.inf), read(None, 2, 3), read("a", 4, 5)],
    "an unknown write never took effect": [write("a", 1, math.inf), read(None, 2, 3), read(None, 4, 5)],
    "an unknown cas took effect": [cas(None, "a", False, 1, math.inf), read("a", 2, 3)],
    "a cas that failed": [write("a", 1, 2), cas("b", "c", False, 3, 4), read("a", 5, 6)],
    "deleted": [write("a", 1, 2), delete(3, 4), read(None, 5, 6), cas(None, "b", True, 7, 8), read("b", 9, 10)],
}
BROKEN = {
    "a read of what was never written": [read("a", 1, 2)],
    "a stale read": [write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)],
    "two reads beside a write, backwards": [write("a", 1, 10), read("a", 2, 3), read(None, 4, 5)],
    "an unknown write took effect twice": [write("a", 1, math.inf), read("a", 2, 3), write("b", 4, 5), read("a", 6, 7)],
    "two cas from one value": [cas(None, "a", True, 1, 4), cas(None, "b", True, 2, 3)],
    "a cas that failed for no reason": [write("a", 1, 2), cas("a", "b", False, 3, 4)],
    "a lost write": [write("a", 1, 2), read(None, 3, 4)],
    "a deleted value": [write("a", 1, 2), delete(3, 4), read("a", 5, 6)],
}


@pytest.mark.parametrize("history", LINEARIZABLE.values(), ids=LINEARIZABLE)
def test_accepts(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize("history", BROKEN.values(), ids=BROKEN)
def test_rejects(history: list[Operation]) -> None:
    assert not is_linearizable(history)


def test_an_older_index_after_a_newer_one_is_a_stale_read() -> None:
    stale = read("a", 7, 8, index=1)
    assert stale_read([read("b", 3, 4, index=2), read("c", 5, 6, index=3), stale]) is stale


def test_reads_side_by_side_may_come_in_any_order() -> None:
    assert stale_read([read("b", 3, 9, index=2), read("a", 4, 8, index=1), read("b", 10, 11, index=2)]) is None


VALUES = [None, "a", "b"]


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Up to six operations of any interleaving, right or wrong; some without an end."""
    count = draw(st.integers(0, 6))
    times = draw(st.permutations(range(2 * count)))
    operations = []
    for number in range(count):
        called, returned = sorted((times[2 * number], times[2 * number + 1]))
        end = draw(st.sampled_from([float(returned), float(returned), math.inf]))
        kind = draw(st.sampled_from(["read", "write", "cas", "delete"]))
        argument = draw(st.sampled_from(["a", "b"])) if kind in ("write", "cas") else None
        expected = draw(st.sampled_from(VALUES)) if kind == "cas" else None
        result = draw(st.sampled_from(VALUES)) if kind == "read" else draw(st.booleans())
        operations.append(Operation(number, "k", kind, argument, expected, called, end, result))
    return operations


def in_any_order(history: list[Operation]) -> bool:
    """By trying every order of every choice of what took effect among the unknown."""
    known = [operation for operation in history if operation.known]
    unknown = [operation for operation in history if not operation.known]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            if any(makes_sense(order) for order in itertools.permutations([*known, *chosen])):
                return True
    return False


def makes_sense(order: tuple[Operation, ...]) -> bool:
    value: str | None = None
    for number, operation in enumerate(order):
        if any(later.returned < operation.called for later in order[number + 1 :]):
            return False
        fits, value = operation.apply(value)
        if not fits:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(histories())
def test_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert is_linearizable(history) == in_any_order(history)

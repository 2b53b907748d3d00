"""The arithmetic of majorities. Voters are counted, nobody else."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

T = TypeVar("T", int, float)


class VoteResult(enum.Enum):
    PENDING = enum.auto()
    WON = enum.auto()
    LOST = enum.auto()


def majority(voters: int) -> int:
    return voters // 2 + 1


def reached_by_majority(voters: Collection[str], value: Callable[[str], T], nothing: T) -> T:
    """The highest value that a majority of `voters` has reached; `nothing` when there are no voters."""
    if not voters:
        return nothing
    return sorted(map(value, voters), reverse=True)[len(voters) // 2]


def tally(voters: Collection[str], votes: Mapping[str, bool]) -> VoteResult:
    """The state of an election: grants and refusals of strangers and learners are not counted."""
    granted = sum(votes.get(voter, False) for voter in voters)
    refused = sum(not votes.get(voter, True) for voter in voters)
    if granted >= majority(len(voters)):
        return VoteResult.WON
    if refused > len(voters) - majority(len(voters)):
        return VoteResult.LOST
    return VoteResult.PENDING

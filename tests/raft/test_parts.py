"""Majorities, single changes of members, and the wire."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft import messages as m
from discovery.raft.configuration import ChangeKind, ConfigurationChange, change_configuration, check_configuration
from discovery.raft.errors import ConfigurationRefused
from discovery.raft.quorum import VoteResult, majority, reached_by_majority, tally

from .rig import NAMES, members, scenario

# majorities


@scenario(65, 163)
@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=7))
def test_a_majority_has_reached_what_more_than_half_have(values: list[int]) -> None:
    voters = NAMES[: len(values)]
    table = dict(zip(voters, values, strict=True))
    reached = [value for value in range(10) if sum(table[voter] >= value for voter in voters) > len(voters) / 2]
    assert reached_by_majority(voters, table.__getitem__, 0) == max(reached, default=0)


@scenario(65)
def test_a_vote_ends_exactly_when_it_is_decided() -> None:
    """For up to seven voters and every mix of answers: won or lost as soon as the silent ones cannot change it."""
    for size in range(1, 8):
        voters = NAMES[:size]
        for answers in itertools.product((True, False, None), repeat=size):
            votes = {voter: answer for voter, answer in zip(voters, answers, strict=True) if answer is not None}
            granted, silent = sum(answer is True for answer in answers), answers.count(None)
            expected = VoteResult.PENDING
            if granted > size / 2:
                expected = VoteResult.WON
            elif granted + silent <= size / 2:
                expected = VoteResult.LOST
            assert tally(voters, votes) is expected, (voters, votes)


@scenario(163)
def test_who_is_no_voter_is_not_counted() -> None:
    assert tally(("a", "b", "c"), {"x": True, "y": True, "a": True}) is VoteResult.PENDING
    assert tally(("a", "b", "c"), {"x": False, "y": False, "a": False}) is VoteResult.PENDING


@scenario(163)
def test_without_voters_nothing_is_reached_and_nobody_wins() -> None:
    assert reached_by_majority((), lambda voter: 5, 0) == 0
    assert tally((), {}) is VoteResult.LOST


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_majority(voters: int, needed: int) -> None:
    assert majority(voters) == needed


# changes

BEFORE = members(("a", "b"), ("c",))


@scenario(155)
@pytest.mark.parametrize(
    ("kind", "server", "address", "after"),
    [
        (ChangeKind.ADD_VOTER, "d", "d:1", "a:1 b:1 d:1 (c:1)"),
        (ChangeKind.ADD_VOTER, "c", "c:1", "a:1 b:1 c:1"),
        (ChangeKind.ADD_VOTER, "b", "b:2", "a:1 b:2 (c:1)"),
        (ChangeKind.ADD_VOTER, "b", "b:1", "a:1 b:1 (c:1)"),
        (ChangeKind.ADD_NONVOTER, "d", "d:1", "a:1 b:1 (c:1) (d:1)"),
        (ChangeKind.ADD_NONVOTER, "b", "b:2", "a:1 b:2 (c:1)"),
        (ChangeKind.ADD_NONVOTER, "c", "c:2", "a:1 b:1 (c:2)"),
        (ChangeKind.DEMOTE_VOTER, "b", "", "a:1 (b:1) (c:1)"),
        (ChangeKind.DEMOTE_VOTER, "c", "", "a:1 b:1 (c:1)"),
        (ChangeKind.DEMOTE_VOTER, "x", "", "a:1 b:1 (c:1)"),
        (ChangeKind.REMOVE_SERVER, "b", "", "a:1 (c:1)"),
        (ChangeKind.REMOVE_SERVER, "c", "", "a:1 b:1"),
        (ChangeKind.REMOVE_SERVER, "x", "", "a:1 b:1 (c:1)"),
    ],
)
def test_a_change_leads_to(kind: ChangeKind, server: str, address: str, after: str) -> None:
    found = change_configuration(BEFORE, ConfigurationChange(kind, server, address))
    voters = [known.address for known in found.servers if known.voter]
    learners = [f"({known.address})" for known in found.servers if not known.voter]
    assert " ".join([*voters, *learners]) == after


@scenario(155, 152)
@pytest.mark.parametrize(
    ("before", "kind", "server", "address", "reason"),
    [
        (BEFORE, ChangeKind.ADD_VOTER, "d", "a:1", "addresses"),
        (BEFORE, ChangeKind.ADD_VOTER, "d", "", "addresses"),
        (BEFORE, ChangeKind.ADD_VOTER, "", "d:1", "ids"),
        (members(("a",), ("c",)), ChangeKind.DEMOTE_VOTER, "a", "", "at least one voter"),
        (members(("a",), ("c",)), ChangeKind.REMOVE_SERVER, "a", "", "at least one voter"),
    ],
)
def test_a_change_is_refused(before: m.Configuration, kind: ChangeKind, server: str, address: str, reason: str) -> None:
    with pytest.raises(ConfigurationRefused, match=reason):
        change_configuration(before, ConfigurationChange(kind, server, address))


@pytest.mark.parametrize(
    "servers",
    [
        (),
        (m.Server("a", "a:1", voter=False),),
        (m.Server("a", "a:1"), m.Server("a", "a:2")),
        (m.Server("a", "a:1"), m.Server("b", "a:1")),
    ],
)
def test_a_configuration_must_make_sense(servers: tuple[m.Server, ...]) -> None:
    with pytest.raises(ConfigurationRefused):
        check_configuration(m.Configuration(servers))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(ChangeKind)), st.sampled_from(NAMES)), max_size=30))
def test_neighbouring_configurations_have_overlapping_majorities(changes: list[tuple[ChangeKind, str]]) -> None:
    """That is what makes single changes safe: any majority of the one meets any majority of the other."""
    current = members(("s1", "s2", "s3"))
    for kind, server in changes:
        try:
            following = change_configuration(current, ConfigurationChange(kind, server, f"{server}:1"))
        except ConfigurationRefused:
            continue
        old, new = current.voters(), following.voters()
        together = len(old | new)
        assert majority(len(old)) + majority(len(new)) > together
        current = following


# the wire

META = m.SnapshotMeta(9, 2, members(("a", "b"), ("c",)), 4, 1234, "ab" * 32)
EXAMPLES: list[m.Message] = [
    m.AppendEntries("a", "b", 3, 4, 2, 4, (m.Entry(5, 3, m.EntryKind.COMMAND, b"\0\xff"), m.Entry(6, 3, m.EntryKind.NOOP, b""))),
    m.AppendReply("a", "b", 3, False, 4, 3, 2),
    m.Heartbeat("a", "b", 3, 4, 17),
    m.HeartbeatReply("a", "b", 3, 17),
    m.RequestVote("a", "b", 3, 4, 2, pre_vote=True, transfer=False),
    m.VoteReply("a", "b", 3, granted=True, pre_vote=True),
    m.InstallSnapshot("a", "b", 3, META),
    m.SnapshotProgress("a", "b", 3),
    m.TimeoutNow("a", "b", 3),
]


def test_a_frame_holds_messages_of_every_kind_in_order() -> None:
    assert m.decode(m.encode(EXAMPLES)) == EXAMPLES
    assert {type(example) for example in EXAMPLES} == set(m.Message.__args__)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_nonsense_is_no_frame(frame: bytes) -> None:
    try:
        decoded = m.decode(frame)
    except msgspec.DecodeError:
        return
    assert m.decode(m.encode(decoded)) == decoded


def test_a_damaged_frame_is_refused_or_another_frame_but_never_a_crash() -> None:
    frame, chance = m.encode(EXAMPLES), random.Random(1)
    for _ in range(3000):
        damaged = bytearray(frame)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            m.decode(damaged)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


def test_a_configuration_survives_its_encoding() -> None:
    assert m.decode_configuration(m.encode_configuration(META.configuration)) == META.configuration
    with pytest.raises(msgspec.DecodeError):
        m.decode_configuration(b"\x01")


@scenario(184)
def test_a_kind_of_message_that_is_not_known_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        m.decode(msgspec.msgpack.encode([[99, "a", "b", 3]]))
    with pytest.raises(msgspec.DecodeError):
        m.decode(m.encode([m.AppendEntries("a", "b", 3, 4, 2, 4, (m.Entry(5, 3, 9, b""),))]))  # type: ignore[arg-type]


def test_more_fields_than_we_know_are_passed_over() -> None:
    """A later version may append some."""
    newer = msgspec.msgpack.encode([[4, "a", "b", 3, 17, "something new"]])
    assert m.decode(newer) == [m.HeartbeatReply("a", "b", 3, 17)]

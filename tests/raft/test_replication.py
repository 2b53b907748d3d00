"""Log replication (paper, 5.3 and 5.4.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.core import Raft, Role
from discovery.raft.errors import InvariantViolated, MalformedMessage, NotLeader
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    TimeoutNow,
)

from .rig import (
    NAMES,
    Cluster,
    as_candidate,
    as_follower,
    as_leader,
    carry_out,
    command,
    log_of,
    raft,
    scenario,
    step,
    terms_of,
)


def acked(core: Raft, peer: str, index: int) -> None:
    step(core, AppendReply(peer, "s1", core.term, True, index))


def append(prev: tuple[int, int], entries: Sequence[Entry] = (), *, term: int = 9, commit: int = 0) -> AppendEntries:
    return AppendEntries("s2", "s1", term, *prev, commit, tuple(entries))


# leaders


@scenario(54)
def test_a_proposal_is_appended_sent_and_not_committed() -> None:
    core = as_leader(raft(terms=[1]))
    for peer in ("s2", "s3"):
        acked(core, peer, 2)
    assert core.propose(b"x") == (3, 2)
    outcome = carry_out(core)
    assert [(message.target, message.entries) for message in outcome.of(AppendEntries)] == [
        (peer, (command(3, 2, b"x"),)) for peer in ("s2", "s3")
    ]
    assert (core.last_index, core.commit_index) == (3, 2)


@scenario(55)
@pytest.mark.parametrize(
    ("size", "acks", "commits"),
    [(1, 0, True), (3, 0, False), (3, 1, True), (3, 2, True), (4, 1, False), (4, 2, True), (5, 1, False), (5, 2, True)],
)
def test_a_majority_commits(size: int, acks: int, commits: bool) -> None:
    core = as_leader(raft(voters=NAMES[:size]))
    index, _ = core.propose(b"x")
    carry_out(core)
    for peer in NAMES[1 : 1 + acks]:
        acked(core, peer, index)
    assert (core.commit_index == index) is commits
    assert (core.applied_index == index) is commits


@scenario(56, 68)
def test_entries_of_earlier_terms_are_committed_by_one_of_the_own() -> None:
    core = as_leader(raft(terms=[1, 2, 2], term=3, max_message_bytes=1))
    outcome = carry_out(core)
    for index in (1, 2, 3):
        acked(core, "s2", index)
    assert core.commit_index == 0
    core.step(AppendReply("s2", "s1", core.term, True, 4), 0.0)
    outcome = carry_out(core)
    assert [entry.index for entry in outcome.committed] == [1, 2, 3, 4]


@scenario(68)
def test_figure_8_an_old_entry_on_a_majority_is_not_safe() -> None:
    """s1 brings its entry of term 2 to a majority in term 4 and fails; s5, of term 3, may still erase it."""
    logs = {"s1": [1, 2], "s2": [1, 2], "s3": [1], "s4": [1], "s5": [1, 3]}
    cluster = Cluster(5, terms=logs, term={"s1": 3, "s2": 3, "s3": 3, "s4": 3, "s5": 3}, max_message_bytes=1)
    cluster.isolate("s5")

    def before_the_new_term_arrives(message: Message) -> bool:
        new = isinstance(message, AppendEntries) and any(entry.term == 4 for entry in message.entries)
        return not (new and cluster.terms(message.target) == [1, 2])

    cluster.on_message = before_the_new_term_arrives
    cluster.elect("s1")
    assert [cluster.terms(name) for name in NAMES[:4]] == [[1, 2, 4], [1, 2], [1, 2], [1, 2]]
    assert cluster["s1"].commit_index == 0
    cluster.heal()
    cluster.on_message = lambda message: True
    cluster.crash("s1")
    cluster.forget_leader()
    cluster.expire("s5")
    cluster.settle()
    assert cluster["s5"].term == 4
    cluster.elect("s5")
    cluster.restart("s1")
    cluster.pass_time(2)
    assert [cluster.terms(name) for name in NAMES[:5]] == [[1, 3, 5]] * 5


@scenario(69)
@pytest.mark.parametrize(
    ("matches", "terms", "committed"),
    [
        ([1], [1], 2),
        ([2], [1, 1], 3),
        ([1, 1], [1], 0),
        ([2, 2], [1], 2),
        ([2, 1], [1], 2),
        ([1, 1], [1, 1], 0),
        ([2, 2], [1, 1], 0),
        ([3, 0], [1, 1], 3),
        ([3, 3], [1, 1], 3),
        ([2, 2, 0], [1], 2),
        ([2, 0, 0], [1], 0),
        ([2, 2, 2], [1], 2),
        ([3, 3, 1], [1, 1], 3),
        ([3, 2, 1], [1, 1], 0),
    ],
)
def test_commit_is_what_a_majority_matches_in_the_own_term(matches: list[int], terms: list[int], committed: int) -> None:
    """The leader has `terms` and then its own entry; `matches` are its followers' (one voter alone has none)."""
    voters = NAMES[: 1 + len(matches)] if len(matches) > 1 else NAMES[:1]
    core = as_leader(raft(voters=voters, terms=terms, term=1))
    for peer, match in zip(voters[1:], matches, strict=False):
        if match:
            acked(core, peer, match)
    assert core.commit_index == committed


@scenario(64, 163)
def test_a_learner_receives_but_does_not_count() -> None:
    cluster = Cluster(("s1", "s2"), ["s3"])
    cluster.elect("s1")
    cluster.isolate("s2")
    index, _ = cluster.propose("s1", b"x")
    assert cluster["s3"].last_index == index
    assert cluster["s1"].commit_index < index
    cluster.heal()
    cluster.pass_time(0.5)
    cluster.assert_equal()
    assert cluster.applied("s3") == [b"x"]


@scenario(63)
def test_only_a_leader_beats_and_tells_each_no_more_than_it_has() -> None:
    core = as_leader(raft(voters=NAMES[:5], terms=[1, 1, 1]))
    for peer, match in (("s2", 4), ("s3", 4), ("s4", 2)):
        acked(core, peer, match)
    assert core.commit_index == 4
    core.tick(core._leader._heartbeat_due if core._leader else 0)
    assert {beat.target: beat.commit for beat in carry_out(core).of(Heartbeat)} == {"s2": 4, "s3": 4, "s4": 2, "s5": 0}
    for start in (as_follower, as_candidate):
        other = start(raft())
        other.tick(0.1)
        assert carry_out(other).of(Heartbeat) == []


@scenario(66)
@pytest.mark.parametrize(
    ("reply", "match", "following"),
    [
        (AppendReply("s2", "s1", 2, True, 0), 0, 1),
        (AppendReply("s2", "s1", 2, True, 2), 2, 3),
        (AppendReply("s2", "s1", 2, True, 4), 4, 5),
        (AppendReply("s2", "s1", 2, False, 3, 2, 1), 0, 3),
        (AppendReply("s2", "s1", 2, False, 3, 0, 0), 0, 1),
        (AppendReply("s2", "s1", 2, False, 2, 1, 1), 0, 4),
        (AppendReply("s2", "s1", 1, True, 4), 0, 4),
    ],
)
def test_what_an_answer_tells_of_a_follower(reply: AppendReply, match: int, following: int) -> None:
    """The leader has 1@1 2@1 3@1 4@2 and probes with 3@1. A success that proves less than was probed tells where to go on;
    a refusal of what was not probed is old, and so is an answer of an earlier term."""
    core = as_leader(raft(terms=[1, 1, 1]))
    core.step(reply, 0.0)
    progress = core.progress["s2"]
    assert (progress.match, progress.next) == (match, following)


@scenario(66)
def test_an_answer_beyond_the_log_is_malformed() -> None:
    core = as_leader(raft(terms=[1]))
    with pytest.raises(MalformedMessage, match="answered for 9"):
        core.step(AppendReply("s2", "s1", core.term, True, 9), 0.0)
    with pytest.raises(MalformedMessage, match="answered round 99"):
        core.step(HeartbeatReply("s2", "s1", core.term, 99), 0.0)


@scenario(66, 76)
def test_an_answer_that_comes_twice_changes_nothing_more() -> None:
    core = as_leader(raft(terms=[1, 1]))
    acked(core, "s2", 3)
    acked(core, "s3", 3)
    before = repr(core.progress["s2"]), core.commit_index
    acked(core, "s2", 3)
    acked(core, "s2", 2)
    assert (repr(core.progress["s2"]), core.commit_index) == before


@scenario(73)
def test_answers_of_strangers_are_ignored() -> None:
    core = as_leader(raft(terms=[1]))
    acked(core, "s9", 2)
    step(core, HeartbeatReply("s9", "s1", core.term, 1), AppendReply("s9", "s1", core.term, False, 1))
    assert core.commit_index == 0
    assert "s9" not in core.progress


@scenario(73)
@pytest.mark.parametrize(
    "entries",
    [
        (command(3, 1),),
        (command(2, 1), command(4, 1)),
        (command(2, 10),),
        (command(2, 2), command(3, 1)),
        (Entry(2, 2, EntryKind.CONFIGURATION, b"no configuration"),),
    ],
)
def test_an_append_that_no_correct_leader_sends_is_malformed(entries: tuple[Entry, ...]) -> None:
    core = raft(terms=[1])
    with pytest.raises(MalformedMessage):
        core.step(append((1, 1), entries), 0.0)
    assert terms_of(core) == [1]


@scenario(71)
def test_who_does_not_lead_names_the_leader_it_knows() -> None:
    follower = as_follower(raft(), "s2")
    for ask in (
        lambda: follower.propose(b"x"),
        lambda: follower.read_index(0.0),
        lambda: follower.transfer_leadership(None, 0.0),
    ):
        with pytest.raises(NotLeader) as refusal:
            ask()
        assert refusal.value.leader_id == "s2"
    with pytest.raises(NotLeader, match="unknown"):
        as_candidate(raft()).propose(b"x")


@scenario(54)
def test_a_lone_proposal_leaves_at_once() -> None:
    """Nothing waits for a batch to fill."""
    core = as_leader(raft())
    acked(core, "s2", 1)
    acked(core, "s3", 1)
    core.propose(b"x")
    ready = core.ready(write=False)
    assert ready is not None
    assert [message.target for message in ready.messages] == ["s2", "s3"]


def test_news_of_a_commit_waits_for_an_append_to_travel_with() -> None:
    core = as_leader(raft(commit_notice_delay=0.005))
    for peer in ("s2", "s3"):
        acked(core, peer, 1)
    index, _ = core.propose(b"x")
    carry_out(core)
    core.step(AppendReply("s2", "s1", 1, True, index), 0.001)
    assert core.commit_index == index
    assert carry_out(core).of(AppendEntries) == []
    core.propose(b"y")
    assert [message.commit for message in carry_out(core).of(AppendEntries)] == [index, index]


def test_news_of_a_commit_does_not_wait_long() -> None:
    core = as_leader(raft(commit_notice_delay=0.005))
    for peer in ("s2", "s3"):
        acked(core, peer, 1)
    index, _ = core.propose(b"x")
    carry_out(core)
    core.step(AppendReply("s2", "s1", 1, True, index), 0.001)
    carry_out(core)
    assert core.deadline() <= 0.006
    core.tick(core.deadline())
    assert [(message.commit, message.entries) for message in carry_out(core).of(AppendEntries)] == [(index, ()), (index, ())]
    assert core.deadline() > 0.006


def test_news_of_a_commit_that_travelled_is_not_told_again() -> None:
    """One client that writes again and again: each append brings the news of the commit before."""
    core = as_leader(raft(commit_notice_delay=0.005))
    for peer in ("s2", "s3"):
        acked(core, peer, 1)
    for turn in range(20):
        now = turn * 0.002
        core.tick(now)
        index, _ = core.propose(b"x")
        appends = carry_out(core).of(AppendEntries)
        assert [(message.commit, len(message.entries)) for message in appends] == [(index - 1, 1)] * 2
        for peer in ("s2", "s3"):
            core.step(AppendReply(peer, "s1", 1, True, index), now + 0.001)
        assert carry_out(core).of(AppendEntries) == []
    core.tick(now + 0.006)
    assert [message.commit for message in carry_out(core).of(AppendEntries)] == [index, index]


# followers


@scenario(58)
@pytest.mark.parametrize(
    ("prev", "success", "hint"),
    [((0, 0), True, None), ((1, 1), True, None), ((2, 2), True, None), ((2, 1), False, (1, 1)), ((3, 3), False, (2, 2))],
)
def test_an_append_is_taken_where_it_follows(prev: tuple[int, int], success: bool, hint: tuple[int, int] | None) -> None:
    """The log is 1@1 2@2."""
    core = raft(terms=[1, 2])
    reply = step(core, append(prev)).one(AppendReply)
    assert reply.success is success
    if hint:
        assert (reply.index, reply.hint_index, reply.hint_term) == (prev[0], *hint)
    else:
        assert reply.index == prev[0]


@scenario(59)
@pytest.mark.parametrize(
    ("prev", "terms", "log", "written"),
    [
        ((2, 2), [3], [1, 2, 3], [3]),
        ((1, 1), [3, 4], [1, 3, 4], [2, 3]),
        ((0, 0), [1], [1, 2], []),
        ((0, 0), [3], [3], [1]),
        ((0, 0), [1, 2, 4], [1, 2, 4], [3]),
    ],
)
def test_only_what_conflicts_is_replaced(prev: tuple[int, int], terms: list[int], log: list[int], written: list[int]) -> None:
    """The log is 1@1 2@2; `written` are the indexes that go to the disk."""
    core = raft(terms=[1, 2])
    outcome = step(core, append(prev, log_of(terms, prev[0] + 1)))
    assert terms_of(core) == log
    assert [entry.index for entry in outcome.entries] == written
    assert outcome.one(AppendReply).index == prev[0] + len(terms)


@scenario(59)
def test_a_short_append_does_not_truncate() -> None:
    core = raft(terms=[1, 1, 1, 1])
    reply = step(core, append((1, 1), log_of([1], 2))).one(AppendReply)
    assert terms_of(core) == [1, 1, 1, 1]
    assert reply.index == 2


@scenario(57)
@pytest.mark.parametrize("commit", [0, 1, 2, 3])
def test_what_is_committed_is_applied_in_order(commit: int) -> None:
    core = raft()
    outcome = step(core, append((0, 0), log_of([1, 1, 2]), commit=commit))
    assert [entry.index for entry in outcome.committed] == list(range(1, commit + 1))
    assert core.applied_index == commit


@scenario(61)
@pytest.mark.parametrize(
    ("prev", "terms", "commit", "committed"),
    [
        ((0, 0), [], 3, 0),
        ((0, 0), [1], 0, 0),
        ((0, 0), [1], 1, 1),
        ((0, 0), [1], 3, 1),
        ((1, 1), [], 1, 1),
        ((1, 1), [], 3, 1),
        ((1, 1), [2], 1, 1),
        ((1, 1), [2], 2, 2),
        ((1, 1), [2], 4, 2),
        ((2, 1), [2], 4, 3),
        ((2, 1), [], 4, 2),
    ],
)
def test_a_follower_commits_no_more_than_the_message_proves(
    prev: tuple[int, int], terms: list[int], commit: int, committed: int
) -> None:
    """The log is 1@1 2@1 3@1: its tail may be another history."""
    core = raft(terms=[1, 1, 1])
    step(core, append(prev, log_of(terms, prev[0] + 1), commit=commit))
    assert core.commit_index == committed


@scenario(62)
@pytest.mark.parametrize(("commit", "committed"), [(1, 2), (2, 2), (3, 3)])
def test_a_heartbeat_moves_the_commit_forward_only(commit: int, committed: int) -> None:
    core = raft(terms=[1, 1, 1], committed=2)
    step(core, Heartbeat("s2", "s1", 1, commit, 1))
    assert core.commit_index == committed


@scenario(62)
def test_a_heartbeat_that_commits_beyond_the_log_tells_of_a_damaged_disk() -> None:
    core = raft(terms=[1, 1, 1])
    with pytest.raises(InvariantViolated, match="damaged, truncated or lost"):
        core.step(Heartbeat("s2", "s1", 1, 4, 1), 0.0)


@pytest.mark.parametrize(
    ("prev", "terms", "index"), [((1, 1), [], 3), ((0, 0), [1], 3), ((1, 1), [1, 1, 1], 4), ((2, 7), [7], 3)]
)
def test_below_the_commit_nothing_is_looked_at(prev: tuple[int, int], terms: list[int], index: int) -> None:
    """A leader holds everything committed, so up to there the logs are equal; the answer says how far."""
    core = raft(terms=[1, 1, 1], committed=3)
    reply = step(core, append(prev, log_of(terms, prev[0] + 1))).one(AppendReply)
    assert (reply.success, reply.index) == (True, index)
    assert terms_of(core)[:3] == [1, 1, 1]


def test_an_append_that_ends_before_the_log_begins_succeeds() -> None:
    core = raft(base=(5, 2), terms=[2], committed=6)
    reply = step(core, append((1, 1), log_of([1, 2], 2))).one(AppendReply)
    assert (reply.success, reply.index) == (True, 6)


@scenario(70)
def test_an_append_of_an_older_leader_is_not_taken() -> None:
    core = raft(terms=[1], term=5)
    step(core, append((1, 1), log_of([2], 2), term=4))
    assert terms_of(core) == [1]


@scenario(75)
def test_appends_in_reverse_order_both_end_in_the_log() -> None:
    core = raft(terms=[1])
    late, early = append((2, 2), log_of([2], 3)), append((1, 1), log_of([2], 2))
    assert step(core, late).one(AppendReply).success is False
    step(core, early, late, early)
    assert terms_of(core) == [1, 2, 2]


# conflicts


@scenario(74)
@pytest.mark.parametrize(
    ("leader", "follower", "hint", "following"),
    [
        ([1, 2, 2, 4, 4, 4, 4], [1, 2, 2, 3], (4, 3), 4),
        ([1, 2, 2, 4, 4, 4, 4], [1, 2, 2, 3, 3, 3, 3, 3], (7, 3), 4),
        ([1, 1, 1, 1, 1, 1, 1], [1, 1, 1], (3, 1), 4),
        ([1, 1, 1, 5, 5, 5, 5], [1, 1, 1, 4], (4, 4), 4),
        ([1, 1, 1, 4], [1, 1, 1, 5, 5, 5, 5], (3, 1), 4),
        ([1, 1, 1, 4, 5, 5], [1, 1, 1, 4, 4], (5, 4), 5),
        ([2, 5, 5, 5, 5, 5], [2, 4, 4, 4, 4, 4], (6, 4), 2),
        ([2, 2, 2, 2, 2, 5], [2, 4, 4, 4, 4, 4], (6, 4), 6),
        ([1, 3, 3, 3, 3], [], (0, 0), 1),
    ],
)
def test_a_refusal_skips_a_whole_term(leader: list[int], follower: list[int], hint: tuple[int, int], following: int) -> None:
    """The leader probes at its end; the follower hints at its last entry that can agree, the leader finds its own."""
    reply = step(raft(terms=follower, term=9), append((len(leader), leader[-1]), term=10)).one(AppendReply)
    assert (reply.success, reply.index, reply.hint_index, reply.hint_term) == (False, len(leader), *hint)
    ahead = as_leader(raft(terms=leader, term=9))
    ahead.step(AppendReply("s2", "s1", 10, False, reply.index, reply.hint_index, reply.hint_term), 0.0)
    assert ahead.progress["s2"].next == following


@scenario(74)
def test_a_compacted_leader_answers_a_hint_before_its_log_with_a_snapshot() -> None:
    core = as_leader(raft(base=(5, 2), terms=[2, 3], committed=5))
    outcome = step(core, AppendReply("s2", "s1", 4, False, 7, 2, 1))
    assert [header.target for header in outcome.snapshots] == ["s2"]


def refusals_until_equal(leader: Sequence[int], follower: Sequence[int]) -> int:
    """How often s2 refuses until it holds the leader's log."""
    cluster = Cluster(3, terms={"s1": leader, "s2": follower, "s3": leader}, term=dict.fromkeys(NAMES[:3], 20))
    refusals = 0

    def count(message: Message) -> bool:
        nonlocal refusals
        refusals += isinstance(message, AppendReply) and message.sender == "s2" and not message.success
        return True

    cluster.on_message = count
    cluster.elect("s1")
    assert cluster.terms("s2") == [*leader, 21]
    cluster.assert_equal()
    return refusals


FIGURE_7_LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FIGURE_7_FOLLOWERS = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@scenario(60, 77)
@pytest.mark.parametrize("follower", FIGURE_7_FOLLOWERS)
def test_every_follower_of_figure_7_is_brought_in_line(follower: str) -> None:
    terms = FIGURE_7_FOLLOWERS[follower]
    assert refusals_until_equal(FIGURE_7_LEADER, terms) <= len(set(terms))


@scenario(60)
def test_the_seven_servers_of_figure_7_become_equal() -> None:
    logs = dict(zip(NAMES, [FIGURE_7_LEADER, *FIGURE_7_FOLLOWERS.values()], strict=True))
    cluster = Cluster(7, terms=logs, term=dict.fromkeys(NAMES, 7))
    cluster.isolate("s5")
    cluster.elect("s1")
    cluster.heal()
    cluster.pass_time(1)
    cluster.assert_equal()
    assert cluster.terms("s7") == [*FIGURE_7_LEADER, 8]


@scenario(78)
@pytest.mark.parametrize(
    ("leader", "follower"),
    [
        ([1] * 10 + [5] * 1000, [1] * 10 + [2] * 500 + [3] * 500),
        ([1] * 10, [1] * 10 + [2] * 1000),
        ([1] * 10 + [2] * 1000 + [4] * 1000, [1] * 10 + [3] * 3),
        ([3] * 500, [1] * 200 + [2] * 200),
    ],
)
def test_long_diverging_tails_cost_no_more_rounds_than_terms(leader: list[int], follower: list[int]) -> None:
    terms = len(set(leader) | set(follower))
    assert refusals_until_equal(leader, follower) <= terms


@scenario(78)
@settings(max_examples=60, deadline=None)
@given(
    leader=st.lists(st.integers(1, 6), min_size=1, max_size=30).map(sorted),
    follower=st.lists(st.integers(1, 6), max_size=30).map(sorted),
)
def test_any_two_logs_become_equal_within_as_many_rounds_as_terms(leader: list[int], follower: list[int]) -> None:
    """The common history is what both would have by log matching: a shared prefix."""
    shared = next((place for place, pair in enumerate(zip(leader, follower, strict=False)) if pair[0] != pair[1]), None)
    if shared is not None:
        follower = follower[:shared] + [term for term in follower[shared:] if term not in leader[shared:]]
    assert refusals_until_equal(leader, follower) <= len({*leader, *follower}) + 1


# whole clusters


@scenario(79, 76)
def test_repeated_and_reordered_messages_change_nothing() -> None:
    chance = random.Random(3)
    cluster = Cluster(3)
    cluster.elect("s1")
    for number in range(50):
        cluster["s1"].propose(b"%d" % number)
        cluster.carry_out()
        cluster.queue += [chance.choice(cluster.queue) for _ in range(min(3, len(cluster.queue)))]
        chance.shuffle(cluster.queue)
        cluster.deliver()
    cluster.pass_time(1)
    cluster.assert_equal()
    assert cluster.applied("s2") == [b"%d" % number for number in range(50)]


@scenario(67)
@pytest.mark.parametrize("size", [3, 5])
def test_lost_messages_are_made_good(size: int) -> None:
    chance = random.Random(size)
    cluster = Cluster(size)
    cluster.elect("s1")
    cluster.on_message = lambda message: chance.random() < 0.7 or isinstance(message, TimeoutNow)
    for number in range(40):
        if cluster["s1"].role is Role.LEADER:
            cluster.propose("s1", b"%d" % number)
        cluster.pass_time(0.1)
    cluster.on_message = lambda message: True
    cluster.pass_time(8)
    cluster.assert_equal()


@scenario(80, 176)
def test_a_server_that_was_cut_off_catches_up() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.isolate("s2")
    for number in range(200):
        cluster.propose("s1", b"%d" % number)
    assert cluster.applied("s2") == []
    cluster.heal()
    cluster.pass_time(1)
    cluster.assert_equal()


@scenario(81, 67)
def test_a_commit_becomes_known_though_every_append_after_it_is_lost() -> None:
    """By the next heartbeat at the latest."""
    cluster = Cluster(3)
    cluster.elect("s1")
    lost: list[Message] = []

    def passes(message: Message) -> bool:
        news = isinstance(message, AppendEntries) and not message.entries
        lost.extend([message] if news else [])
        return not news

    cluster.on_message = passes
    index, _ = cluster.propose("s1")
    assert lost
    assert cluster["s2"].commit_index < index
    cluster.pass_time(0.15)
    assert cluster["s2"].commit_index == index


@scenario(81)
def test_a_lost_answer_costs_at_most_a_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.on_message = lambda message: not isinstance(message, AppendReply)
    index, _ = cluster.propose("s1")
    assert cluster["s1"].commit_index < index
    cluster.on_message = lambda message: True
    cluster.pass_time(0.15)
    assert {cluster[name].commit_index for name in NAMES[:3]} == {index}

"""Terms and roles (paper, 5.1 and figure 2, rules for all servers)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from discovery.raft.core import Options, Raft, Role
from discovery.raft.election_timer import ElectionTimer
from discovery.raft.errors import InvariantViolated
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotMeta,
    SnapshotProgress,
    TimeoutNow,
    VoteReply,
)

from .rig import (
    NAMES,
    as_candidate,
    as_follower,
    as_leader,
    as_pre_candidate,
    carry_out,
    founding,
    members,
    raft,
    scenario,
    step,
    terms_of,
)

ROLES: dict[str, Callable[[Raft], Raft]] = {
    "follower": as_follower,
    "pre-candidate": as_pre_candidate,
    "candidate": as_candidate,
    "leader": as_leader,
}


def messages_of(term: int) -> list[Message]:
    """One of each kind, from s2 to s1."""
    return [
        AppendEntries("s2", "s1", term, 0, 0, 0),
        AppendReply("s2", "s1", term, True, 1),
        Heartbeat("s2", "s1", term, 0, 1),
        HeartbeatReply("s2", "s1", term, 1),
        RequestVote("s2", "s1", term, 9, 9),
        RequestVote("s2", "s1", term, 9, 9, transfer=True),
        RequestVote("s2", "s1", term, 9, 9, pre_vote=True),
        VoteReply("s2", "s1", term, granted=True),
        VoteReply("s2", "s1", term, granted=False),
        VoteReply("s2", "s1", term, granted=False, pre_vote=True),
        InstallSnapshot("s2", "s1", term, SnapshotMeta(9, 2, members(NAMES[:3]), 1)),
        SnapshotProgress("s2", "s1", term),
        TimeoutNow("s2", "s1", term),
    ]


@scenario(1, 9, 13)
@pytest.mark.parametrize("role", ROLES)
def test_an_append_of_a_higher_term_makes_a_follower_of_anybody(role: str) -> None:
    core = ROLES[role](raft(terms=[1, 1], term=3))
    before = terms_of(core)
    term = core.term + 1
    step(core, AppendEntries("s3", "s1", term, 0, 0, 0))
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, term, "s3")
    assert terms_of(core) == before


@scenario(13)
@pytest.mark.parametrize("role", ROLES)
def test_a_vote_request_of_a_higher_term_makes_a_follower_without_a_leader(role: str) -> None:
    core = ROLES[role](raft(terms=[1, 1], term=3))
    before, term = terms_of(core), core.term + 5
    core._leader = None if core.role is not Role.LEADER else core._leader
    core._timer.last_contact = -100
    step(core, RequestVote("s3", "s1", term, 0, 0, transfer=True))
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, term, None)
    assert terms_of(core) == before


@scenario(2)
@pytest.mark.parametrize("role", ROLES)
def test_a_message_of_a_lower_term_changes_nothing(role: str) -> None:
    for message in messages_of(2):
        core = ROLES[role](raft(terms=[1, 1], term=5))
        state = (core.role, core.term, core.vote, core.leader_id, core.commit_index, terms_of(core), core._timer.deadline)
        outcome = step(core, message)
        after = (core.role, core.term, core.vote, core.leader_id, core.commit_index, terms_of(core), core._timer.deadline)
        assert after == state, message
        assert not outcome.entries
        assert not outcome.committed


@scenario(2, 45)
@pytest.mark.parametrize("role", ROLES)
def test_a_leader_of_a_lower_term_is_told_the_term_and_so_is_who_asks_before_a_vote(role: str) -> None:
    """Nobody else is: neither old candidates nor old answers."""
    for message in messages_of(2):
        core = ROLES[role](raft(term=5))
        acts_as_leader = isinstance(message, AppendEntries | Heartbeat | InstallSnapshot | SnapshotProgress)
        asks = isinstance(message, RequestVote) and message.pre_vote
        answers = step(core, message).messages
        if acts_as_leader:
            assert answers == [HeartbeatReply("s1", "s2", core.term, 0)], message
        elif asks:
            assert answers == [VoteReply("s1", "s2", core.term, granted=False, pre_vote=True)]
        else:
            assert answers == [], message


@scenario(3)
def test_a_server_starts_as_a_follower_of_nobody() -> None:
    core = raft()
    assert (core.role, core.term, core.vote, core.leader_id) == (Role.FOLLOWER, 0, "", None)


@scenario(19)
@pytest.mark.parametrize(("term", "vote"), [(0, ""), (4, ""), (4, "s1"), (7, "s3")])
def test_a_restart_keeps_term_and_vote(term: int, vote: str) -> None:
    core = raft(terms=[1, 1], term=term, vote=vote)
    assert (core.role, core.term, core.vote) == (Role.FOLLOWER, term, vote)


@scenario(4)
def test_without_a_leader_patience_ends_in_a_campaign() -> None:
    """First it asks whether an election could be won, then it votes for itself in the next term and asks all others."""
    core = as_follower(raft(terms=[2], voters=NAMES[:5]), term=3)
    core.tick(core.deadline() - 0.001)
    assert (core.role, core.leader_id) == (Role.FOLLOWER, "s2")
    core.tick(core.deadline())
    asked = carry_out(core).of(RequestVote)
    assert asked == [RequestVote("s1", peer, 4, 1, 2, pre_vote=True) for peer in NAMES[1:5]]
    assert (core.role, core.term, core.vote, core.leader_id) == (Role.PRE_CANDIDATE, 3, "", None)

    votes = step(core, *(VoteReply(peer, "s1", 4, granted=True, pre_vote=True) for peer in NAMES[1:3])).of(RequestVote)
    assert (core.role, core.term, core.vote) == (Role.CANDIDATE, 4, "s1")
    assert votes == [RequestVote("s1", peer, 4, 1, 2) for peer in NAMES[1:5]]


@scenario(5)
def test_an_election_without_result_is_followed_by_another() -> None:
    core = as_candidate(raft(term=3))
    assert core.term == 4
    core.tick(core.deadline())
    assert core.role is Role.PRE_CANDIDATE
    step(core, VoteReply("s2", "s1", 5, granted=True, pre_vote=True))
    assert (core.role, core.term, core.vote) == (Role.CANDIDATE, 5, "s1")


@scenario(6)
def test_a_leader_beats() -> None:
    core = as_leader(raft())
    core.tick(core.deadline())
    beats = carry_out(core).of(Heartbeat)
    assert [beat.target for beat in beats] == ["s2", "s3"]
    assert {beat.term for beat in beats} == {core.term}


@scenario(7)
@pytest.mark.parametrize(
    ("size", "votes", "role"),
    [
        (1, {}, Role.LEADER),
        (3, {"s2": True, "s3": True}, Role.LEADER),
        (3, {"s2": True}, Role.LEADER),
        (3, {}, Role.CANDIDATE),
        (3, {"s2": False}, Role.CANDIDATE),
        (3, {"s2": False, "s3": False}, Role.FOLLOWER),
        (3, {"s2": False, "s3": True}, Role.LEADER),
        (5, {"s2": True, "s3": True, "s4": True, "s5": True}, Role.LEADER),
        (5, {"s2": True, "s3": True}, Role.LEADER),
        (5, {"s2": True}, Role.CANDIDATE),
        (5, {"s2": True, "s3": False, "s4": False}, Role.CANDIDATE),
        (5, {"s2": False, "s3": False, "s4": False}, Role.FOLLOWER),
        (5, {"s2": False, "s3": False, "s4": False, "s5": True}, Role.FOLLOWER),
    ],
)
def test_votes_are_counted(size: int, votes: dict[str, bool], role: Role) -> None:
    core = as_candidate(raft(voters=NAMES[:size]))
    for voter, granted in votes.items():
        if core.role is Role.CANDIDATE:
            step(core, VoteReply(voter, "s1", core.term, granted=granted))
    assert core.role is role
    assert core.term == 1


def test_who_voted_twice_is_counted_once() -> None:
    core = as_candidate(raft(voters=NAMES[:5]))
    step(core, *(VoteReply("s2", "s1", 1, granted=True) for _ in range(4)))
    assert core.role is Role.CANDIDATE


@scenario(8)
@pytest.mark.parametrize(("again", "granted"), [("s2", True), ("s3", False)])
def test_one_vote_a_term_though_it_may_be_said_twice(again: str, granted: bool) -> None:
    core = raft(term=1)
    step(core, RequestVote("s2", "s1", 2, 0, 0))
    answer = step(core, RequestVote(again, "s1", 2, 0, 0)).one(VoteReply)
    assert answer == VoteReply("s1", again, 2, granted)
    assert core.vote == "s2"


@scenario(9, 14)
@pytest.mark.parametrize("start", [as_candidate, as_pre_candidate])
@pytest.mark.parametrize("message", [Heartbeat("s2", "s1", 4, 0, 1), AppendEntries("s2", "s1", 4, 0, 0, 0)])
def test_who_campaigns_and_hears_the_leader_of_its_term_follows(start: Callable[[Raft], Raft], message: Message) -> None:
    core = start(raft(term=3 if start is as_candidate else 4))
    step(core, message)
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 4, "s2")


def test_two_leaders_in_a_term_stop_the_server() -> None:
    core = as_follower(raft(term=4), "s2")
    with pytest.raises(InvariantViolated, match="two leaders in term 4"):
        core.step(Heartbeat("s3", "s1", 4, 0, 1), 0.0)


def _draws(campaigning: bool) -> list[float]:
    timer = ElectionTimer(Options().timings(), random.Random(1), now=0.0, last_contact=0.0)
    drawn = []
    for _ in range(2000):
        timer.await_result(0.0) if campaigning else timer.await_leader(0.0, in_a_hurry=False)
        drawn.append(timer.deadline)
    return drawn


@scenario(10)
@pytest.mark.parametrize("campaigning", [False, True])
def test_timeouts_are_drawn_from_the_whole_range(campaigning: bool) -> None:
    drawn = _draws(campaigning)
    assert all(1 <= timeout <= 2 for timeout in drawn)
    assert {int(timeout * 10) for timeout in drawn} >= set(range(10, 20))


@scenario(11)
@pytest.mark.parametrize("campaigning", [False, True])
def test_servers_rarely_time_out_together(campaigning: bool) -> None:
    """Among five servers, a second one within the 20 ms that a round of votes may take."""
    drawn = _draws(campaigning)
    groups = [sorted(drawn[start : start + 5]) for start in range(0, len(drawn), 5)]
    together = sum(group[1] - group[0] < 0.02 for group in groups)
    assert together / len(groups) < 0.3


@scenario(12)
def test_a_leader_never_campaigns() -> None:
    core = as_leader(raft())
    for campaign in (core._campaign_before_vote, lambda: core._campaign(transfer=False)):
        with pytest.raises(InvariantViolated, match="campaigns"):
            campaign()


@scenario(12)
@pytest.mark.parametrize("start", [as_follower, as_pre_candidate])
def test_only_a_candidate_becomes_leader(start: Callable[[Raft], Raft]) -> None:
    core = start(raft())
    with pytest.raises(InvariantViolated, match="becomes leader"):
        core._become_leader()


@scenario(12)
def test_a_new_term_clears_the_vote_and_a_lost_office_forgets_everything() -> None:
    core = as_leader(raft(term=3))
    core.propose(b"x")
    core.read_index(0.0)
    assert core.vote == "s1"
    step(core, HeartbeatReply("s2", "s1", 9, 0))
    assert (core.role, core.term, core.vote, core.leader_id) == (Role.FOLLOWER, 9, "", None)
    assert core.progress == {}
    assert core.transfer_target is None
    assert not core.lease_valid(0.0)


def test_a_follower_that_learns_of_a_term_keeps_its_patience() -> None:
    """Else a candidate unfit to lead could put off the election of a fit one for ever (paper, 5.2)."""
    core = as_follower(raft(terms=[1, 1]))
    core._timer.last_contact = -100.0
    deadline = core.deadline()
    step(core, RequestVote("s3", "s1", 9, 0, 0))
    assert (core.term, core.vote) == (9, "")
    assert core.deadline() == deadline


@scenario(15)
def test_the_own_vote_that_becomes_durable_late_changes_nothing() -> None:
    core = raft(term=3)
    core._campaign(transfer=False)
    ready = core.ready()
    assert ready is not None
    assert ready.write_id is not None
    core.step(Heartbeat("s2", "s1", 4, 0, 1), 0.0)
    core.persisted(ready.write_id)
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 4, "s2")


@scenario(15, 51)
def test_grants_before_a_vote_are_not_votes() -> None:
    core = as_candidate(raft(term=3, voters=NAMES[:3]))
    step(core, VoteReply("s2", "s1", 4, granted=True, pre_vote=True))
    assert core.role is Role.CANDIDATE


@scenario(51)
def test_a_late_grant_for_an_earlier_campaign_is_not_counted() -> None:
    core = as_pre_candidate(raft(term=7))
    step(core, VoteReply("s2", "s1", 7, granted=True, pre_vote=True))
    assert core.role is Role.PRE_CANDIDATE
    step(core, VoteReply("s2", "s1", 9, granted=True, pre_vote=True))
    assert core.role is Role.PRE_CANDIDATE


@scenario(16)
def test_a_write_that_ends_after_the_office_is_lost_acknowledges_nothing() -> None:
    core = as_leader(raft(term=3))
    core.propose(b"x")
    ready = core.ready()
    assert ready is not None
    assert ready.write_id is not None
    core.step(HeartbeatReply("s2", "s1", 9, 0), 0.0)
    core.persisted(ready.write_id)
    assert core.role is Role.FOLLOWER
    assert core.commit_index == 0


@scenario(17)
def test_a_leader_told_to_campaign_does_nothing() -> None:
    core = as_leader(raft(term=3))
    term = core.term
    assert step(core, TimeoutNow("s2", "s1", term)).messages == []
    core.tick(0.05)
    assert (core.role, core.term) == (Role.LEADER, term)


@scenario(18)
def test_the_only_voter_elects_itself_without_a_word_but_not_before_its_vote_is_durable() -> None:
    core = raft(voters=["s1"])
    core.tick(core.deadline())
    ready = core.ready()
    assert ready is not None
    assert (core.role, core.term) == (Role.CANDIDATE, 1)
    assert ready.messages == []
    assert ready.messages_after_persist == []
    assert ready.write_id is not None
    core.persisted(ready.write_id)
    assert core.role is Role.LEADER


def test_the_only_voter_does_not_wait() -> None:
    core = raft(voters=["s1"])
    assert core.deadline() <= 0.0


@pytest.mark.parametrize(
    ("voters", "term", "waits"),
    [(("s1", "s2", "s3"), 4, True), (("s1",), 4, False), ((), 4, True), ((), 0, False), (("s1", "s2", "s3"), 0, False)],
)
def test_after_a_restart_a_leader_may_still_be_supported(voters: tuple[str, ...], term: int, waits: bool) -> None:
    """Who answered a leader just before it stopped must not elect another one at once: the leader counts on it. That holds
    for a new member too that knows no configuration yet; only who has no past or never had others owes nothing."""
    core = Raft(
        server_id="s1",
        options=Options(),
        hard_state=HardState(term, ""),
        snapshot=founding(members(voters)),
        entries=(),
        rng=random.Random(1),
        now=50.0,
    )
    core.step(RequestVote("s2", "s1", term + 1, 9, 9), 50.5)
    assert bool(core.vote) is not waits
    core.step(RequestVote("s2", "s1", term + 1, 9, 9), 51.1)
    assert core.vote == "s2"


def test_a_message_for_somebody_else_or_from_oneself_is_ignored() -> None:
    core = raft(term=1)
    assert step(core, Heartbeat("s2", "s3", 5, 0, 1), Heartbeat("s1", "s1", 5, 0, 1)).messages == []
    assert core.term == 1

"""Linearizable reads: rounds of heartbeats and the lease (paper, 8; dissertation, 6.4)."""

from __future__ import annotations

import pytest

from discovery.raft.core import Raft, Role
from discovery.raft.errors import NotLeader
from discovery.raft.messages import AppendReply, Heartbeat, HeartbeatReply, Message, RequestVote

from .rig import NAMES, Cluster, as_follower, as_leader, carry_out, raft, scenario, step


def settled_leader(size: int = 3, **changed: object) -> Raft:
    """Leads in term 1, whose first entry is committed."""
    core = as_leader(raft(voters=NAMES[:size], **changed))  # type: ignore[arg-type]
    for peer in NAMES[1:size]:
        step(core, AppendReply(peer, "s1", 1, True, 1))
    assert core.has_committed_in_term()
    return core


def answer(core: Raft, heartbeats: list[Heartbeat], *peers: str) -> list[tuple[int, int]]:
    """The reads that are released when these followers answer."""
    replies = [HeartbeatReply(beat.target, "s1", core.term, beat.sequence) for beat in heartbeats if beat.target in peers]
    return step(core, *replies).reads


@scenario(117)
def test_a_read_waits_for_a_majority_and_sees_what_was_committed_when_asked() -> None:
    core = settled_leader(5)
    core.propose(b"x")
    core.propose(b"x")
    carry_out(core)
    step(core, AppendReply("s2", "s1", 1, True, 3), AppendReply("s3", "s1", 1, True, 3))
    token = core.read_index(0.0)
    beats = carry_out(core).of(Heartbeat)
    core.propose(b"y")
    step(core, AppendReply("s2", "s1", 1, True, 4), AppendReply("s3", "s1", 1, True, 4))
    assert core.commit_index == 4
    assert answer(core, beats, "s2") == []
    assert answer(core, beats, "s3") == [(token, 3)]


@scenario(117)
def test_reads_and_writes_in_turn_each_see_the_writes_before() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("s1")
    seen = []
    for number in range(3):
        index, _ = cluster.propose("s1", b"%d" % number)
        token = leader.read_index(cluster.now)
        cluster.settle()
        seen.append((dict(cluster.servers["s1"].reads)[token], index))
    assert all(read >= write for read, write in seen)


def test_many_reads_share_a_round() -> None:
    core = settled_leader()
    tokens = [core.read_index(0.0) for _ in range(1000)]
    beats = carry_out(core).of(Heartbeat)
    assert len(beats) == 2
    assert answer(core, beats, "s3") == [(token, 1) for token in tokens]


def test_a_read_that_comes_later_is_not_confirmed_by_an_earlier_round() -> None:
    core = settled_leader()
    first = core.read_index(0.0)
    early = carry_out(core).of(Heartbeat)
    second = core.read_index(0.0)
    late = carry_out(core).of(Heartbeat)
    assert answer(core, early, "s2") == [(first, 1)]
    assert answer(core, late, "s2") == [(second, 1)]


def test_a_later_round_confirms_all_earlier_reads() -> None:
    """The answer to the first round may be lost."""
    core = settled_leader()
    tokens = []
    for _ in range(3):
        tokens.append(core.read_index(0.0))
        beats = carry_out(core).of(Heartbeat)
    assert answer(core, beats, "s2") == [(token, 1) for token in tokens]


@scenario(118)
def test_learners_confirm_nothing() -> None:
    core = settled_leader(3, learners=["s4", "s5"])
    token = core.read_index(0.0)
    beats = carry_out(core).of(Heartbeat)
    assert answer(core, beats, "s4", "s5") == []
    assert answer(core, beats, "s2") == [(token, 1)]


@scenario(119)
def test_before_anything_of_the_own_term_is_committed_reads_are_held() -> None:
    """What earlier leaders committed may not be known yet."""
    core = as_leader(raft(terms=[1, 1]))
    token = core.read_index(0.0)
    beats = carry_out(core).of(Heartbeat)
    assert answer(core, beats, "s2", "s3") == []
    outcome = step(core, AppendReply("s2", "s1", 2, True, 3))
    assert outcome.reads == []
    assert answer(core, outcome.of(Heartbeat), "s2") == [(token, 3)]


@scenario(121)
def test_every_read_has_a_token_of_its_own() -> None:
    core = settled_leader()
    tokens = [core.read_index(0.0) for _ in range(3)]
    carry_out(core)
    tokens += [core.read_index(0.0) for _ in range(3)]
    assert len(set(tokens)) == 6


@scenario(122)
def test_nothing_is_kept_of_reads_that_were_answered() -> None:
    core = settled_leader()
    for _ in range(50):
        core.read_index(0.0)
        answer(core, carry_out(core).of(Heartbeat), "s2")
    assert core._leader is not None
    rounds = core._leader._rounds
    assert not rounds.has_waiting_reads()
    assert (list(rounds._reads), list(rounds._sent)) == ([], [])


def test_the_only_voter_keeps_nothing_of_its_rounds() -> None:
    core = settled_leader(1)
    for _ in range(100):
        core.tick(core.deadline())
        carry_out(core)
    assert core._leader is not None
    assert list(core._leader._rounds._sent) == []


@scenario(123, 122)
def test_a_lost_office_fails_the_reads_that_wait() -> None:
    core = settled_leader()
    asked = [core.read_index(0.0), core.read_index(0.0)]
    beats = carry_out(core).of(Heartbeat)
    asked.append(core.read_index(0.0))
    outcome = step(core, HeartbeatReply("s3", "s1", 7, 0))
    assert sorted(outcome.reads_failed) == asked
    assert step(core, *(HeartbeatReply(beat.target, "s1", 1, beat.sequence) for beat in beats)).reads == []


def test_a_read_that_was_confirmed_in_the_same_turn_as_the_office_was_lost_stands() -> None:
    core = settled_leader()
    token = core.read_index(0.0)
    (beat, _) = carry_out(core).of(Heartbeat)
    core.step(HeartbeatReply("s2", "s1", 1, beat.sequence), 0.0)
    core.step(HeartbeatReply("s3", "s1", 7, 0), 0.0)
    outcome = carry_out(core)
    assert (outcome.reads, outcome.reads_failed) == ([(token, 1)], [])


@scenario(123)
def test_who_does_not_lead_answers_no_reads() -> None:
    with pytest.raises(NotLeader):
        as_follower(raft(), "s2").read_index(0.0)


@scenario(124)
def test_a_cut_off_leader_answers_no_read_and_fails_it_within_the_lease() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("s1")
    cluster.isolate("s1")
    token = leader.read_index(cluster.now)
    cluster.pass_time(0.75)
    assert cluster.servers["s1"].reads == []
    assert cluster.servers["s1"].reads_failed == [token]


@scenario(124)
@pytest.mark.parametrize(("size", "down"), [(1, 0), (3, 1), (5, 2)])
def test_a_majority_is_enough_for_a_read(size: int, down: int) -> None:
    cluster = Cluster(size)
    leader = cluster.elect("s1")
    cluster.crash(*NAMES[size - down : size])
    leader.read_index(cluster.now)
    cluster.settle()
    assert len(cluster.servers["s1"].reads) == 1


@scenario(125)
def test_a_read_after_a_proposal_of_the_same_leader_is_not_yet_bound_to_it() -> None:
    """What must be seen is what was committed; who wants his own write waits for its end first."""
    core = settled_leader()
    core.propose(b"x")
    token = core.read_index(0.0)
    beats = carry_out(core).of(Heartbeat)
    assert answer(core, beats, "s2") == [(token, 1)]


# the lease


def confirm(core: Raft, now: float, *peers: str) -> None:
    """A heartbeat round that begins at `now` and is answered."""
    assert core._leader is not None
    core._leader._heartbeat_due = now
    core.tick(now)
    answer(core, carry_out(core).of(Heartbeat), *peers)


@scenario(120)
def test_the_lease_runs_from_the_sending_of_a_round_that_a_majority_answered() -> None:
    core = settled_leader()
    confirm(core, 0.3, "s2")
    assert core.lease_valid(0.799)
    assert not core.lease_valid(0.801)


@scenario(120)
def test_a_late_answer_extends_no_more_than_its_round() -> None:
    core = settled_leader()
    core.step(HeartbeatReply("s2", "s1", 1, 1), 0.45)
    assert core.lease_valid(0.49)
    assert not core.lease_valid(0.51)


@scenario(120)
def test_without_a_majority_there_is_no_lease() -> None:
    core = settled_leader(5)
    confirm(core, 0.1, "s2")
    assert not core.lease_valid(0.1)
    confirm(core, 0.2, "s3", "s4")
    assert core.lease_valid(0.3)


@scenario(120)
def test_the_only_voter_needs_no_answers() -> None:
    core = settled_leader(1)
    assert core.lease_valid(1000.0)


def test_before_the_own_term_is_applied_there_is_no_lease() -> None:
    core = as_leader(raft(terms=[1]))
    confirm(core, 0.1, "s2", "s3")
    assert not core.lease_valid(0.2)
    step(core, AppendReply("s2", "s1", 2, True, 2))
    assert core.lease_valid(0.2)


def test_a_follower_has_no_lease() -> None:
    assert not as_follower(raft(), "s2").lease_valid(0.0)


def test_the_lease_ends_when_leadership_is_offered() -> None:
    """Who is sent by the leader need not wait for anybody's patience."""
    core = settled_leader()
    confirm(core, 0.3, "s2", "s3")
    assert core.lease_valid(0.3)
    core.transfer_leadership("s2", 0.3)
    carry_out(core)
    assert not core.lease_valid(0.3)
    for tenth in range(4, 14):
        confirm(core, tenth / 10, "s2", "s3")
    assert core.transfer_target is None
    assert not core.lease_valid(1.3)


def test_while_a_lease_is_valid_nobody_else_can_be_elected() -> None:
    """With clocks that agree: the lease ends before the earliest vote for another."""
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.pass_time(1)
    cluster.isolate("s1")
    seen: list[Message] = []

    def passes(message: Message) -> bool:
        seen.append(message)
        return True

    cluster.on_message = passes
    ends = 0.0
    while not any(cluster[name].role is Role.LEADER for name in ("s2", "s3")):
        cluster.pass_time(0.05)
        if cluster["s1"].lease_valid(cluster.now):
            ends = cluster.now
    assert any(isinstance(message, RequestVote) for message in seen)
    assert 0 < ends < cluster.now

"""What keeps a good leader in office, and a bad one out of it (dissertation, 4.2.3, 6.2 and 9.6)."""

from __future__ import annotations

import random

import pytest

from discovery.raft.core import Options, Raft, Role
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotMeta,
    SnapshotProgress,
    VoteReply,
)

from .rig import NAMES, Cluster, as_follower, as_leader, as_pre_candidate, carry_out, members, raft, scenario, step


def beat_until(core: Raft, end: float, *answering: str) -> None:
    """The leader ticks and these followers answer every heartbeat."""
    now = core._now
    while now < end and core.role is Role.LEADER:
        now += 0.05
        core.tick(now)
        for heartbeat in carry_out(core).of(Heartbeat):
            if heartbeat.target in answering:
                core.step(HeartbeatReply(heartbeat.target, "s1", heartbeat.term, heartbeat.sequence), now)


@scenario(42)
@pytest.mark.parametrize(
    ("size", "answering", "stays"),
    [(1, 0, True), (3, 1, True), (3, 0, False), (4, 2, True), (4, 1, False), (5, 2, True), (5, 1, False)],
)
def test_a_leader_that_hears_no_majority_steps_down(size: int, answering: int, stays: bool) -> None:
    core = as_leader(raft(voters=NAMES[:size], term=3))
    beat_until(core, 3.0, *NAMES[1 : 1 + answering])
    assert (core.role is Role.LEADER) is stays
    assert core.term == 4


def test_it_steps_down_after_the_lease_timeout_and_not_before() -> None:
    core = as_leader(raft())
    beat_until(core, 0.45)
    assert (core.role, core.leader_id) == (Role.LEADER, "s1")
    beat_until(core, 0.65)
    assert (core.role, core.leader_id) == (Role.FOLLOWER, None)


def test_reads_do_not_keep_a_deposed_leader_in_office() -> None:
    """Rounds of heartbeats that reads begin must not put off the check whether anybody answers."""
    core = as_leader(raft())
    now = 0.0
    while now < 1.0 and core.role is Role.LEADER:
        now += 0.01
        core.read_index(now)
        core.tick(now)
        carry_out(core)
    assert core.role is Role.FOLLOWER
    assert now < 0.7


def test_a_refusal_is_a_sign_of_life_too() -> None:
    core = as_leader(raft(terms=[1, 1]))
    now = 0.0
    for _ in range(40):
        now += 0.05
        core.step(AppendReply("s2", "s1", core.term, False, 2, 0, 0), now)
        core.tick(now)
        carry_out(core)
    assert core.role is Role.LEADER


def test_learners_do_not_keep_a_leader_in_office() -> None:
    core = as_leader(raft(learners=["s4", "s5"]))
    beat_until(core, 2.0, "s4", "s5")
    assert core.role is Role.FOLLOWER


@pytest.mark.parametrize("sleep", [0.3, 5.0])
def test_a_leader_that_slept_gives_its_followers_a_moment(sleep: float) -> None:
    """Their answers may lie unread; silence while it slept is its own fault. But the moment does not come twice."""
    core = as_leader(raft())
    beat_until(core, 1.0, "s2", "s3")
    core.tick(core._now + sleep)
    assert core.leader_id == "s1"
    for _ in range(4):
        core.tick(core._now + 0.25)
    assert core.leader_id is None


def test_a_leader_whose_disk_is_stuck_steps_down() -> None:
    """Its heartbeats would keep it in office for ever while nothing it proposes can be answered."""
    core = as_leader(raft())
    core.propose(b"x")
    assert core.ready() is not None
    now, answered = 0.0, 0
    while core.role is Role.LEADER and now < 5:
        now += 0.05
        core.tick(now)
        while (ready := core.ready(write=False)) is not None:
            for message in ready.messages:
                if isinstance(message, Heartbeat):
                    core.step(HeartbeatReply(message.target, "s1", 1, message.sequence), now)
                    answered += 1
    assert 1.9 < now < 2.3
    assert answered > 30


def test_a_slow_disk_that_does_finish_writes_is_no_reason_to_step_down() -> None:
    core = as_leader(raft())
    now = 0.0
    for _ in range(10):
        core.propose(b"x")
        ready = core.ready()
        assert ready is not None
        assert ready.write_id is not None
        for _ in range(30):
            now += 0.05
            core.tick(now)
            for peer in ("s2", "s3"):
                core.step(HeartbeatReply(peer, "s1", 1, 1), now)
            while core.ready(write=False) is not None:
                pass
        core.persisted(ready.write_id)
    assert core.role is Role.LEADER


@scenario(43)
@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_live_leader_is_not_voted_out(pre_vote: bool) -> None:
    core = as_follower(raft(terms=[1]), "s2")
    request = RequestVote("s3", "s1", 5, 9, 9, pre_vote=pre_vote)
    core.step(request, 0.99)
    assert carry_out(core).messages == []
    assert (core.term, core.leader_id) == (1, "s2")
    core.step(request, 1.01)
    assert carry_out(core).one(VoteReply).granted


@scenario(43)
@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_leader_does_not_vote_for_others(pre_vote: bool) -> None:
    core = as_leader(raft())
    assert step(core, RequestVote("s3", "s1", 5, 9, 9, pre_vote=pre_vote)).messages == []
    assert (core.role, core.term) == (Role.LEADER, 1)


@scenario(171)
def test_who_the_leader_itself_sends_may_be_voted_for() -> None:
    core = as_follower(raft(terms=[1]), "s2")
    core.step(RequestVote("s3", "s1", 2, 9, 1, transfer=True), 0.1)
    assert carry_out(core).one(VoteReply).granted


@pytest.mark.parametrize(
    "sign", [Heartbeat("s2", "s1", 3, 0, 1), AppendEntries("s2", "s1", 3, 0, 0, 0), SnapshotProgress("s2", "s1", 3)]
)
def test_every_message_of_a_leader_is_a_sign_of_life(sign: Message) -> None:
    core = as_follower(raft(term=3), "s2")
    due = core.deadline()
    core.step(sign, 0.9)
    assert core.leader_contact == 0.9
    assert core.deadline() == pytest.approx(due + 0.9)
    core.step(RequestVote("s3", "s1", 9, 9, 9), 1.8)
    assert core.term == 3


@scenario(44)
def test_after_the_timeouts_an_election_goes_through() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.crash("s1")
    cluster.pass_time(6)
    assert cluster.leaders in (["s2"], ["s3"])


@scenario(46)
def test_who_is_no_voter_by_its_own_configuration_follows() -> None:
    cluster = Cluster(("s1", "s2"), spares=["s3"])
    cluster.elect("s1")
    cluster.pass_time(10)
    assert cluster["s3"].role is Role.FOLLOWER
    cluster.queue.append(Heartbeat("s1", "s3", 1, 0, 1))
    cluster.settle()
    assert cluster["s3"].leader_id == "s1"


@scenario(47, 50)
def test_a_server_that_was_cut_off_returns_without_raising_the_term() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.isolate("s3")
    cluster.pass_time(10)
    assert (cluster["s3"].role, cluster["s3"].term) == (Role.PRE_CANDIDATE, 1)
    cluster.heal()
    cluster.pass_time(5)
    assert cluster.leaders == ["s1"]
    assert cluster["s1"].term == 1
    assert cluster["s3"].leader_id == "s1"


@scenario(47)
def test_a_leader_that_learns_of_a_higher_term_from_an_answer_steps_down() -> None:
    core = as_leader(raft())
    step(core, HeartbeatReply("s3", "s1", 5, 0))
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 5, None)


@scenario(48)
def test_a_healed_server_of_a_newer_term_does_not_prevent_the_next_election() -> None:
    cluster = Cluster(3, terms={name: [1] for name in NAMES[:3]}, term={"s1": 1, "s2": 1, "s3": 5})
    cluster.isolate("s3")
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.settle()
    assert cluster.leaders == ["s1"]
    cluster.heal()
    cluster.crash("s1")
    cluster.pass_time(8)
    assert len(cluster.leaders) == 1
    assert cluster[cluster.leaders[0]].term > 5


@scenario(49)
def test_a_higher_term_with_an_older_log_is_freed_by_the_leader_of_a_lower() -> None:
    """Without the answer to a leader of an older term these two would ignore each other for ever."""
    logs = {"s1": [1, 1], "s2": [1, 1], "s3": [1]}
    cluster = Cluster(3, terms=logs, term={"s1": 1, "s2": 1, "s3": 7})
    cluster.crash("s2")
    cluster.cut("s3", "s1")
    cluster.forget_leader()
    cluster.expire("s3")
    cluster.settle()
    assert cluster["s3"].role is Role.PRE_CANDIDATE
    cluster.heal()
    cluster.pass_time(10)
    assert cluster.leaders == ["s1"]
    assert cluster["s3"].leader_id == "s1"
    cluster.assert_equal("s1", "s3")


@scenario(52)
def test_a_former_leader_is_asked_like_anybody() -> None:
    """It is refused while another leader is known, and not merely for having led."""
    core = as_follower(raft(term=3), "s1x", 4)
    core.leader_id = None
    core._timer.last_contact = -100.0
    assert step(core, RequestVote("s2", "s1", 5, 9, 9, pre_vote=True)).one(VoteReply).granted
    former = as_leader(raft(term=3))
    step(former, HeartbeatReply("s2", "s1", 9, 0))
    former._timer.deadline = former._now
    former.tick(former._now)
    assert [request.term for request in carry_out(former).of(RequestVote)] == [10, 10]


def test_a_pre_candidate_hears_its_leader_and_follows() -> None:
    core = as_pre_candidate(as_follower(raft(term=3), "s2"))
    step(core, Heartbeat("s2", "s1", 3, 0, 4))
    assert (core.role, core.term, core.leader_id) == (Role.FOLLOWER, 3, "s2")


def test_a_snapshot_on_its_way_keeps_patience_up() -> None:
    core = as_follower(raft(term=3), "s2")
    for tenth in range(1, 50):
        core.step(SnapshotProgress("s2", "s1", 3), tenth / 2)
        core.tick(tenth / 2)
    assert core.role is Role.FOLLOWER
    step(core, InstallSnapshot("s2", "s1", 3, SnapshotMeta(9, 3, members(NAMES[:3]), 1)))
    assert core.last_index == 9


def test_a_leader_known_to_be_gone_is_replaced_once_its_lease_is_over_and_one_after_the_other() -> None:
    """The first to campaign wins, before the second would."""
    cluster = Cluster(5)
    cluster.elect("s1")
    gone = cluster["s1"]._now
    cluster.crash("s1")
    for name in NAMES[1:5]:
        cluster[name].report_gone("s1", gone)
    deadlines = [cluster[name].deadline() - cluster[name].leader_contact for name in NAMES[1:5]]
    assert deadlines == pytest.approx([0.675, 0.875, 1.075, 1.275])
    cluster.pass_time(0.8)
    assert (cluster.leaders, cluster["s2"].term) == (["s2"], 2)


def test_nobody_is_elected_while_a_leader_said_to_be_gone_may_hold_a_lease() -> None:
    core = as_follower(raft(term=3))
    request = RequestVote("s3", "s1", 4, 9, 3, pre_vote=True)
    core.report_gone("s2", 0.1)
    core.step(request, 0.6)
    assert not carry_out(core).messages
    core.step(request, 0.65)
    assert carry_out(core).one(VoteReply).granted


def test_a_leader_that_is_heard_again_was_never_gone() -> None:
    core = as_follower(raft(term=3))
    core.report_gone("s2", 0.1)
    core.step(Heartbeat("s2", "s1", 3, 0, 1), 0.2)
    carry_out(core)
    assert core.deadline() >= 1.2
    core.step(RequestVote("s3", "s1", 4, 9, 3, pre_vote=True), 1.1)
    assert not carry_out(core).messages


def test_that_another_than_the_leader_is_gone_changes_nothing() -> None:
    core = as_follower(raft(term=3))
    before = core.deadline()
    core.report_gone("s3", 0.1)
    assert core.deadline() == before
    candidate = as_pre_candidate(raft())
    before = candidate.deadline()
    candidate.report_gone("s2", 0.1)
    assert candidate.deadline() == before


@scenario(160)
def test_under_flapping_links_leaders_are_few_and_terms_bounded() -> None:
    cluster = Cluster(5)
    cluster.elect("s1")
    chance = random.Random(7)
    for _ in range(30):
        cluster.cut(*chance.sample(NAMES[:5], 2))
        cluster.pass_time(chance.uniform(0.2, 1.5))
        if chance.random() < 0.6:
            cluster.heal()
    cluster.heal()
    cluster.pass_time(5)
    assert len(cluster.leaders) == 1
    assert cluster[cluster.leaders[0]].term < 20


@pytest.mark.parametrize(
    "timeouts",
    [
        {"lease_timeout": 0.004},
        {"lease_timeout": 1.5},
        {"heartbeat_timeout": 2.0},
        {"raft_multiplier": 0},
        {"raft_multiplier": 11},
    ],
)
def test_timeouts_that_make_no_sense_are_refused(timeouts: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Options(**timeouts)  # type: ignore[arg-type]


def test_the_multiplier_stretches_every_timeout_but_the_notice_of_a_commit() -> None:
    timings = Options(raft_multiplier=5).timings()
    assert (timings.heartbeat, timings.heartbeat_interval, timings.election, timings.lease) == (5.0, 0.5, 5.0, 2.5)
    assert (timings.write, timings.commit_notice) == (10.0, 0.005)

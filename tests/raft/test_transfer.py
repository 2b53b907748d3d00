"""Handing leadership over (dissertation, 3.10)."""

from __future__ import annotations

import random

import pytest

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Role
from discovery.raft.errors import NotLeader, ProposalRefused, TransferRefused
from discovery.raft.messages import AppendEntries, AppendReply, InstallSnapshot, RequestVote, TimeoutNow, VoteReply

from .rig import NAMES, Cluster, as_candidate, as_follower, as_leader, carry_out, raft, scenario, step


@scenario(165, 171)
def test_leadership_goes_to_who_is_asked_for_and_back() -> None:
    """In spite of stickiness, and without asking before the vote."""
    cluster = Cluster(3)
    cluster.elect("s1")
    for source, target in (("s1", "s2"), ("s2", "s3"), ("s3", "s1")):
        cluster[source].transfer_leadership(target, cluster.now)
        cluster.settle()
        assert cluster.leaders == [target]
        cluster.propose(target, target.encode())
    cluster.assert_equal()


@scenario(165)
def test_without_a_name_the_most_advanced_voter_takes_over() -> None:
    cluster = Cluster(3, ["s4"])
    cluster.elect("s1")
    cluster.isolate("s2")
    cluster.propose("s1", b"x")
    cluster["s1"].transfer_leadership(None, cluster.now)
    cluster.settle()
    assert cluster.leaders == ["s3"]


def test_among_equals_it_goes_to_who_was_heard_of_last() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.crash("s2")
    cluster.pass_time(0.3)
    cluster["s1"].transfer_leadership(None, cluster.now)
    assert cluster["s1"].transfer_target == "s3"


@scenario(166)
def test_the_target_is_brought_up_to_date_first() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.isolate("s2")
    cluster.propose("s1", b"x")
    cluster["s1"].transfer_leadership("s2", cluster.now)
    cluster.settle()
    assert cluster.leaders == ["s1"]
    cluster.heal()
    cluster.pass_time(0.2)
    assert cluster.leaders == ["s2"]
    cluster.assert_equal()


@scenario(166)
def test_so_it_is_by_a_snapshot() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.isolate("s2")
    for number in range(5):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s1"].take_snapshot()
    cluster["s1"].progress["s2"].become_probe(2)
    cluster.heal()
    cluster["s1"].transfer_leadership("s2", cluster.now)
    cluster.pass_time(0.3)
    assert cluster.leaders == ["s2"]
    cluster.assert_equal()


@scenario(167)
@pytest.mark.parametrize("target", ["s1", "s4", "s9"])
def test_leadership_goes_only_to_another_voter(target: str) -> None:
    cluster = Cluster(3, ["s4"])
    cluster.elect("s1")
    with pytest.raises(TransferRefused, match=f"{target} is not another voter"):
        cluster["s1"].transfer_leadership(target, cluster.now)
    cluster.propose("s1", b"x")
    assert cluster.leaders == ["s1"]


@scenario(167)
def test_who_is_alone_has_nobody_to_hand_over_to() -> None:
    core = as_leader(raft(voters=["s1"]))
    with pytest.raises(TransferRefused, match="nobody"):
        core.transfer_leadership(None, 0.0)


@scenario(167)
def test_who_does_not_lead_hands_nothing_over() -> None:
    for core in (as_follower(raft(), "s2"), as_candidate(raft())):
        with pytest.raises(NotLeader):
            core.transfer_leadership("s2", 0.0)


@scenario(167)
def test_a_target_on_its_way_out_is_refused() -> None:
    core = as_leader(raft())
    step(core, AppendReply("s2", "s1", 1, True, 1))
    core.propose_configuration(ConfigurationChange(ChangeKind.DEMOTE_VOTER, "s3"))
    with pytest.raises(TransferRefused):
        core.transfer_leadership("s3", 0.0)


@scenario(168)
def test_during_a_transfer_proposals_are_refused_and_afterwards_taken_again() -> None:
    core = as_leader(raft())
    step(core, AppendReply("s2", "s1", 1, True, 1))
    core.transfer_leadership("s3", 0.0)
    with pytest.raises(ProposalRefused, match="being transferred to s3"):
        core.propose(b"x")
    with pytest.raises(ProposalRefused, match="being transferred to s3"):
        core.propose_configuration(ConfigurationChange(ChangeKind.REMOVE_SERVER, "s3"))
    now = 0.0
    while core.transfer_target is not None:
        now += 0.05
        step(core, AppendReply("s2", "s1", 1, True, 1))
        core.tick(now)
        carry_out(core)
    assert now == pytest.approx(1.0)
    core.propose(b"x")


@scenario(169)
def test_a_lost_office_forgets_the_transfer() -> None:
    core = as_leader(raft())
    core.transfer_leadership("s3", 0.0)
    step(core, RequestVote("s2", "s1", 9, 9, 9, transfer=True))
    assert (core.transfer_target, core.role) == (None, Role.FOLLOWER)
    assert as_leader(core).transfer_target is None


@scenario(170)
def test_another_target_replaces_the_first_and_the_same_one_wins_no_time() -> None:
    core = as_leader(raft())
    core.transfer_leadership("s2", 0.0)
    core.transfer_leadership("s2", 0.05)
    assert core._leader is not None
    assert core._leader._transfer_deadline == 1.0
    core.transfer_leadership("s3", 0.08)
    assert (core.transfer_target, core._leader._transfer_deadline) == ("s3", 1.08)
    assert step(core, AppendReply("s2", "s1", 1, True, 1)).of(TimeoutNow) == []
    assert [message.target for message in step(core, AppendReply("s3", "s1", 1, True, 1)).of(TimeoutNow)] == ["s3"]


@scenario(171)
def test_only_this_one_candidacy_is_marked_as_sent() -> None:
    core = as_follower(raft(terms=[1]), "s2")
    assert all(request.transfer for request in step(core, TimeoutNow("s2", "s1", 1)).of(RequestVote))
    core.tick(core.deadline())
    core.step(VoteReply("s2", "s1", 3, granted=True, pre_vote=True), core._now)
    later = carry_out(core).of(RequestVote)
    assert later
    assert not any(request.transfer for request in later)


@scenario(167)
@pytest.mark.parametrize("why", ["not the leader", "a learner", "installing a snapshot"])
def test_a_call_to_campaign_is_ignored_by_who_should_not(why: str) -> None:
    core = as_follower(raft(voters=("s2", "s3"), learners=["s1"]) if why == "a learner" else raft(), "s2", 1)
    if why == "installing a snapshot":
        meta = as_leader(raft("s2", terms=[1, 1], committed=2)).describe_snapshot(2)
        core.step(InstallSnapshot("s2", "s1", 1, meta), 0.0)
    assert step(core, TimeoutNow("s3" if why == "not the leader" else "s2", "s1", 1)).of(RequestVote) == []
    assert core.role is Role.FOLLOWER


@scenario(172)
def test_with_seven_servers_under_writes() -> None:
    cluster = Cluster(7)
    cluster.elect("s1")
    done: list[bytes] = []
    for number in range(20):
        (name,) = cluster.leaders
        data = b"%d" % number
        cluster.propose(name, data)
        done.append(data)
        cluster[name].transfer_leadership(NAMES[number % 7] if NAMES[number % 7] != name else None, cluster.now)
        cluster.settle()
    cluster.pass_time(1)
    cluster.assert_equal()
    assert cluster.applied("s1") == done


@scenario(172)
def test_a_transfer_that_cannot_be_ends_within_its_time() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.on_message = lambda message: message.target != "s2" or not isinstance(message, AppendEntries | TimeoutNow)
    cluster["s1"].transfer_leadership("s2", cluster.now)
    cluster.pass_time(1.1)
    assert cluster.leaders == ["s1"]
    assert cluster["s1"].transfer_target is None
    cluster.propose("s1", b"x")
    assert cluster.applied("s1") == [b"x"]


@scenario(172)
def test_the_leader_may_die_right_after_handing_over() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.propose("s1", b"x")
    cluster["s1"].transfer_leadership("s2", cluster.now)
    cluster.carry_out()
    cluster.crash("s1")
    cluster.settle()
    assert cluster.leaders == ["s2"]
    assert cluster.applied("s2") == [b"x"]


@scenario(173)
def test_many_random_transfers_over_lossy_links() -> None:
    chance = random.Random(11)
    cluster = Cluster(5)
    cluster.elect("s1")
    cluster.on_message = lambda message: chance.random() > 0.05
    for number in range(60):
        if len(cluster.leaders) == 1:
            leader = cluster[cluster.leaders[0]]
            try:
                leader.propose(b"%d" % number)
            except ProposalRefused:
                pass
            leader.transfer_leadership(None, cluster.now)
        cluster.pass_time(chance.uniform(0.1, 1.5))
    cluster.on_message = lambda message: True
    cluster.pass_time(8)
    assert len(cluster.leaders) == 1
    cluster.assert_equal()

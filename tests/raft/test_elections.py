"""Elections among several servers (paper, 5.2 and 5.4.1; dissertation, 4.2.2 and 9.6)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.configuration import ChangeKind
from discovery.raft.core import Role
from discovery.raft.messages import (
    AppendEntries,
    Configuration,
    Entry,
    EntryKind,
    Heartbeat,
    InstallSnapshot,
    Message,
    RequestVote,
    Server,
    SnapshotMeta,
    VoteReply,
    encode_configuration,
)

from .rig import NAMES, Cluster, as_candidate, as_follower, as_leader, carry_out, members, raft, scenario, step


@scenario(21)
@pytest.mark.parametrize(
    ("size", "down", "wins"),
    [(3, 0, True), (3, 1, True), (3, 2, False), (4, 1, True), (4, 2, False), (5, 2, True), (5, 3, False)],
)
def test_a_majority_must_run(size: int, down: int, wins: bool) -> None:
    """Without one nobody gets further than asking before a vote, so no term is used up."""
    cluster = Cluster(size)
    cluster.crash(*NAMES[size - down : size])
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.settle()
    assert (cluster["s1"].role, cluster["s1"].term) == ((Role.LEADER, 1) if wins else (Role.PRE_CANDIDATE, 0))


@scenario(22)
@pytest.mark.parametrize(
    ("logs", "wins"),
    [
        ({"s1": [], "s2": [1], "s3": [1]}, False),
        ({"s1": [1], "s2": [1], "s3": [1]}, True),
        ({"s1": [2], "s2": [1, 1, 1], "s3": [1, 1]}, True),
        ({"s1": [1, 1, 1], "s2": [1, 2], "s3": [1, 2]}, False),
        ({"s1": [1, 1], "s2": [1, 1, 1], "s3": [1]}, True),
        ({"s1": [1, 1], "s2": [1, 1, 1], "s3": [1, 1, 1]}, False),
        ({"s1": [1, 1], "s2": [1, 1, 1], "s3": [1, 1, 1], "s4": [1], "s5": []}, True),
    ],
)
def test_the_better_log_wins(logs: dict[str, list[int]], wins: bool) -> None:
    """A loser has not raised anybody's term: it only asked before a vote."""
    cluster = Cluster(len(logs), terms=logs, term=dict.fromkeys(logs, 3))
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.settle()
    assert cluster.leaders == (["s1"] if wins else [])
    assert {cluster[name].term for name in logs} == {4 if wins else 3}


@scenario(22)
def test_a_real_candidate_that_loses_still_spreads_its_term() -> None:
    core = raft(terms=[1, 2], term=3)
    answer = step(core, RequestVote("s2", "s1", 8, 5, 1)).one(VoteReply)
    assert (core.term, core.vote) == (8, "")
    assert answer == VoteReply("s1", "s2", 8, granted=False)


@scenario(23)
def test_each_can_be_elected_in_turn() -> None:
    cluster = Cluster(3)
    for term, name in enumerate(NAMES[:3], 1):
        cluster.elect(name)
        assert cluster.leaders == [name]
        assert {cluster[other].term for other in NAMES[:3]} == {term}
    cluster.assert_equal()


@scenario(24)
def test_what_a_rival_could_not_commit_is_overwritten() -> None:
    """s1 and s5 led once and left entries that no majority has; s3 is elected by the others."""
    logs = {"s1": [1, 2, 2], "s2": [1], "s3": [1, 3], "s4": [1], "s5": [1, 2]}
    cluster = Cluster(5, terms=logs, term=dict.fromkeys(logs, 3))
    cluster.elect("s3")
    assert [cluster.terms(name) for name in NAMES[:5]] == [[1, 3, 4]] * 5
    cluster.assert_equal()


@scenario(25)
def test_a_candidate_of_a_higher_term_with_a_good_log_gets_the_vote_of_anybody() -> None:
    for start in (raft, lambda **k: as_candidate(raft(**k)), lambda **k: as_leader(raft(**k))):
        core = start(terms=[1])
        term = core.term + 1
        answer = step(core, RequestVote("s2", "s1", term, 9, term - 1, transfer=True)).one(VoteReply)
        assert answer == VoteReply("s1", "s2", term, granted=True)
        assert (core.role, core.term, core.vote) == (Role.FOLLOWER, term, "s2")


@scenario(25)
def test_being_asked_before_a_vote_changes_nothing() -> None:
    for start in (raft, lambda **k: as_candidate(raft(**k))):
        core = start(terms=[1])
        state = (core.role, core.term, core.vote, core._timer.deadline)
        answer = step(core, RequestVote("s2", "s1", core.term + 1, 9, 9, pre_vote=True)).one(VoteReply)
        assert answer == VoteReply("s1", "s2", core.term + 1, granted=True, pre_vote=True)
        assert (core.role, core.term, core.vote, core._timer.deadline) == state


LOGS = st.lists(st.integers(1, 4), max_size=5).map(sorted)


@scenario(26)
@settings(deadline=None)
@given(ours=LOGS, last_index=st.integers(0, 6), last_term=st.integers(0, 5), vote=st.sampled_from(["", "s2", "s3"]))
def test_a_vote_is_granted_exactly_if_it_is_free_and_the_log_good_enough(
    ours: list[int], last_index: int, last_term: int, vote: str
) -> None:
    core = raft(terms=ours, term=5, vote=vote)
    reply = step(core, RequestVote("s2", "s1", 5, last_index, last_term)).one(VoteReply)
    good = last_term > (ours[-1] if ours else 0) or (last_term == (ours[-1] if ours else 0) and last_index >= len(ours))
    assert reply.granted is (vote != "s3" and good)
    assert core.vote == ("s2" if reply.granted else vote)


@scenario(114)
@settings(deadline=None)
@given(ours=LOGS, theirs=LOGS)
def test_up_to_date_is_the_order_of_term_then_index(ours: list[int], theirs: list[int]) -> None:
    core = raft(terms=ours, term=5)
    reply = step(core, RequestVote("s2", "s1", 6, len(theirs), theirs[-1] if theirs else 0)).one(VoteReply)
    assert reply.granted is ((theirs[-1:], len(theirs)) >= (ours[-1:], len(ours)))


@scenario(27)
def test_two_candidates_cut_off_from_each_other() -> None:
    """Both have a majority in reach until they meet: the one with the better log wins, the other's term was never used."""
    logs = {"s1": [1, 1], "s2": [1], "s3": [1]}
    cluster = Cluster(3, terms=logs, term=dict.fromkeys(logs, 1))
    cluster.cut("s1", "s3")
    cluster.cut("s3", "s1")
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.expire("s3")
    cluster.settle()
    assert cluster.leaders == ["s1"]
    cluster.heal()
    cluster.pass_time(3)
    assert cluster.leaders == ["s1"]
    assert cluster["s3"].term == 2
    cluster.assert_equal()


@scenario(28, 45)
def test_a_stuck_candidate_of_a_higher_term_frees_itself_and_follows() -> None:
    """Its answer to the leader's heartbeat makes the leader step down; the next election goes beyond its term."""
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.isolate("s3")
    cluster.propose("s1", b"a")
    cluster["s3"]._campaign(transfer=False)
    cluster.settle()
    assert cluster["s3"].term > cluster["s1"].term
    cluster.heal()
    cluster.pass_time(6)
    assert len(cluster.leaders) == 1
    assert cluster.leaders != ["s3"]
    cluster.assert_equal()
    assert cluster.applied("s3") == [b"a"]


@scenario(29)
def test_after_a_split_vote_somebody_wins() -> None:
    cluster = Cluster(3)
    cluster.forget_leader()
    for name in NAMES[:3]:
        cluster[name]._campaign(transfer=False)
    cluster.settle()
    assert cluster.leaders == []
    cluster.pass_time(10)
    assert len(cluster.leaders) == 1


@scenario(30)
def test_a_better_log_of_a_lower_term_can_still_be_elected() -> None:
    logs = {"s1": [1], "s2": [1], "s3": [1, 1, 1]}
    cluster = Cluster(3, terms=logs, term={"s1": 4, "s2": 4, "s3": 2})
    cluster.crash("s2")
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.pass_time(8)
    assert cluster.leaders == ["s3"]
    assert cluster["s3"].term > 4


@scenario(31)
def test_a_campaign_begins_exactly_when_patience_ends() -> None:
    for seed in range(50):
        core = as_follower(raft(seed=seed))
        due = core.deadline()
        core.tick(due - 1e-9)
        assert (core.role, core.deadline()) == (Role.FOLLOWER, due)
        core.tick(due)
        assert (core.role, core.leader_id) == (Role.PRE_CANDIDATE, None)


def test_a_server_that_slept_listens_once_more_before_it_campaigns() -> None:
    """The leader's messages may lie unread; but it does not sleep on for ever."""
    core = as_follower(raft())
    core.tick(core.deadline() + 30)
    assert (core.role, core.deadline()) == (Role.FOLLOWER, core._now + 0.1)
    core.tick(core.deadline() + 30)
    assert (core.role, core.leader_id) == (Role.PRE_CANDIDATE, None)


@scenario(32)
def test_a_learner_never_campaigns() -> None:
    core = as_follower(raft("s4", learners=["s4"]), "s1")
    assert core.deadline() == float("inf")
    core.tick(1000.0)
    assert core.role is Role.FOLLOWER
    core.leader_id = "s1"
    assert carry_out(core).messages == []


@scenario(33)
def test_a_learner_votes_when_asked() -> None:
    """Who asks may know already that it was promoted."""
    core = raft("s4", learners=["s4"], terms=[1], term=1)
    assert step(core, RequestVote("s1", "s4", 2, 2, 1)).one(VoteReply).granted


@scenario(34)
@pytest.mark.parametrize(("last_index", "last_term", "granted"), [(1, 1, False), (2, 2, False), (3, 2, True), (1, 3, True)])
def test_a_stranger_gets_no_vote_unless_its_log_goes_further(last_index: int, last_term: int, granted: bool) -> None:
    """A log that goes further may hold the configuration that makes it known."""
    core = raft(terms=[1, 2], term=2)
    assert step(core, RequestVote("s9", "s1", 3, last_index, last_term)).one(VoteReply).granted is granted


@scenario(34)
def test_who_knows_no_configuration_votes_for_strangers() -> None:
    core = raft(voters=())
    assert step(core, RequestVote("s9", "s1", 3, 0, 0)).one(VoteReply).granted


@scenario(35)
def test_a_learner_of_a_huge_term_costs_one_election() -> None:
    cluster = Cluster(3, ["s4"], term={"s4": 900})
    cluster.forget_leader()
    cluster.expire("s1")
    cluster.pass_time(8)
    assert len(cluster.leaders) == 1
    assert cluster[cluster.leaders[0]].term in range(901, 910)
    leaders, term = cluster.leaders, cluster["s4"].term
    cluster.pass_time(10)
    assert (cluster.leaders, cluster["s4"].term) == (leaders, term)


@scenario(36, 160)
@pytest.mark.parametrize("hears_of_it", [False, True])
def test_a_removed_server_disturbs_nobody(hears_of_it: bool) -> None:
    cluster = Cluster(4)
    cluster.elect("s1")
    if not hears_of_it:
        cluster.isolate("s4")
    cluster.change("s1", ChangeKind.REMOVE_SERVER, "s4")
    cluster.heal()
    term = cluster["s1"].term
    cluster.pass_time(15)
    assert cluster.leaders == ["s1"]
    assert cluster["s1"].term == term
    assert cluster["s4"].role is (Role.FOLLOWER if hears_of_it else Role.PRE_CANDIDATE)


@scenario(37)
def test_one_server_with_slow_votes_does_not_stop_progress() -> None:
    cluster = Cluster(5)
    held: list[Message] = []

    def passes(message: Message) -> bool:
        slow = isinstance(message, RequestVote | VoteReply) and "s5" in (message.sender, message.target)
        held.extend([message] if slow else [])
        return not slow

    cluster.on_message = passes
    cluster.elect("s1")
    for number in range(20):
        cluster.propose("s1", b"%d" % number)
        cluster.pass_time(0.5)
        cluster.queue += held[:2]
        del held[:2]
    assert cluster.leaders == ["s1"]
    assert cluster.applied("s4") == [b"%d" % number for number in range(20)]


@scenario(38)
@pytest.mark.parametrize(
    ("voters", "installing", "campaigns"),
    [(NAMES[:3], False, True), (NAMES[:3], True, False), (("s2", "s3"), False, False), (("s2", "s3"), True, False)],
)
def test_who_may_campaign(voters: Sequence[str], installing: bool, campaigns: bool) -> None:
    core = as_follower(raft(voters=voters))
    if installing:
        meta = SnapshotMeta(9, 1, members(voters), 1)
        core.step(InstallSnapshot("s2", "s1", 1, meta), 0.0)
        assert core.ready() is not None
    core.tick(core._timer.deadline)
    assert (core.role is Role.PRE_CANDIDATE) is campaigns


def test_a_server_whose_removal_may_not_be_committed_can_still_lead() -> None:
    """Its log may be the one that is needed (dissertation, 4.2.2)."""
    core = as_follower(raft(terms=[1]))
    removal = Entry(2, 1, EntryKind.CONFIGURATION, encode_configuration(members(("s2", "s3"))))
    step(core, AppendEntries("s2", "s1", 1, 1, 1, 0, (removal,)))
    assert core._may_campaign()
    step(core, Heartbeat("s2", "s1", 1, 2, 1))
    assert not core._may_campaign()


@scenario(39)
def test_a_flapping_server_moves_the_leader_not_at_all() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    chance = random.Random(1)
    for _ in range(40):
        cluster.isolate("s3")
        cluster.pass_time(chance.uniform(0.1, 3))
        cluster.heal()
        cluster.pass_time(chance.uniform(0.1, 3))
    assert cluster.leaders == ["s1"]
    assert cluster["s1"].term == 1


@scenario(40)
def test_a_patient_server_follows_whom_the_others_elect() -> None:
    cluster = Cluster(3)
    cluster.crash("s3")
    cluster.restart("s3")
    cluster["s3"]._timer.deadline = 1000.0
    cluster.pass_time(5)
    assert len(cluster.leaders) == 1
    assert cluster["s3"].leader_id == cluster.leaders[0]


def test_a_change_of_role_forgets_the_votes_of_the_former() -> None:
    core = as_candidate(raft(voters=NAMES[:5], term=3))
    step(core, VoteReply("s2", "s1", 4, granted=True))
    core.tick(core.deadline())
    step(core, VoteReply("s3", "s1", 5, granted=True, pre_vote=True))
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 4)


def test_a_candidate_gives_a_pair_of_index_and_term_that_exists() -> None:
    core = raft(terms=[1, 1, 4], term=6)
    core._campaign_before_vote()
    core.step(VoteReply("s2", "s1", 7, granted=True, pre_vote=True), 0.0)
    requests = carry_out(core).of(RequestVote)
    assert {(request.last_index, request.last_term) for request in requests} == {(3, 4)}


def test_an_address_is_no_part_of_who_somebody_is() -> None:
    """A candidate is known by its id, wherever it sits now."""
    moved = Configuration((Server("s1", "new:1"), Server("s2", "s2:1"), Server("s3", "s3:1")))
    assert moved.voters() == members(NAMES[:3]).voters()

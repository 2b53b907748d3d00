"""Changes of the members, one at a time (dissertation, 4.1 to 4.2)."""

from __future__ import annotations

import random

import pytest

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Role
from discovery.raft.errors import AlreadyBootstrapped, ConfigurationRefused, NotLeader, ProposalRefused
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    Configuration,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    RequestVote,
    Server,
    TimeoutNow,
    encode_configuration,
)
from discovery.raft.progress import ProgressState

from .rig import NAMES, Cluster, as_follower, as_leader, carry_out, members, raft, scenario, step, terms_of

ADD, LEARN, DEMOTE, REMOVE = ChangeKind.ADD_VOTER, ChangeKind.ADD_NONVOTER, ChangeKind.DEMOTE_VOTER, ChangeKind.REMOVE_SERVER


def change(kind: ChangeKind, server: str) -> ConfigurationChange:
    return ConfigurationChange(kind, server, f"{server}:1")


def settled_leader(voters: int = 3, learners: tuple[str, ...] = ()) -> Cluster:
    cluster = Cluster(voters, learners)
    cluster.elect("s1")
    return cluster


# growing


@scenario(146, 162)
def test_a_cluster_grows_from_one_server() -> None:
    cluster = Cluster(1, spares=NAMES[1:5])
    cluster.elect("s1")
    for number, name in enumerate(NAMES[1:5]):
        cluster.propose("s1", b"%d" % number)
        cluster.change("s1", ADD, name)
    cluster.assert_equal()
    assert {cluster[name].configuration.voters() for name in NAMES[:5]} == {frozenset(NAMES[:5])}
    for name in NAMES[4:0:-1]:
        cluster.elect(name)
    cluster.assert_equal()


@scenario(146)
def test_a_new_member_is_probed_at_once() -> None:
    core = as_leader(raft())
    step(core, AppendReply("s2", "s1", 1, True, 1))
    core.propose_configuration(change(LEARN, "s4"))
    (probe,) = carry_out(core).of(AppendEntries, "s4")
    assert (probe.prev_index, probe.entries) == (2, ())


@scenario(158)
def test_a_new_member_is_not_held_to_be_silent_from_the_start() -> None:
    core = as_leader(raft(voters=["s1"]))
    core.tick(10.0)
    core.propose_configuration(change(ADD, "s2"))
    now = 10.0
    while core.leader_id is not None:
        now += 0.05
        core.tick(now)
        carry_out(core)
    assert now == pytest.approx(10.5)


@scenario(162)
def test_a_learner_catches_up_and_is_then_promoted() -> None:
    cluster = Cluster(("s1", "s2"), spares=["s3"])
    cluster.elect("s1")
    for number in range(20):
        cluster.propose("s1", b"%d" % number)
    cluster.change("s1", LEARN, "s3")
    cluster.assert_equal()
    assert not cluster["s3"]._may_campaign()
    cluster.change("s1", ADD, "s3")
    assert cluster["s3"]._may_campaign()
    cluster.crash("s1")
    cluster.elect("s3")


@scenario(163)
def test_a_promotion_counts_from_the_moment_it_is_appended() -> None:
    cluster = settled_leader(2, ("s3",))
    cluster.isolate("s2", "s3")
    index, _ = cluster.change("s1", ADD, "s3")
    assert cluster["s1"].configuration.voters() == set(NAMES[:3])
    cluster.heal()
    cluster.isolate("s2")
    cluster.pass_time(0.3)
    assert cluster["s1"].commit_index == index


# one at a time


@scenario(147)
def test_only_a_leader_changes_the_members() -> None:
    with pytest.raises(NotLeader):
        as_follower(raft(), "s2").propose_configuration(change(ADD, "s4"))


@scenario(153)
def test_a_second_change_waits_for_the_first() -> None:
    cluster = settled_leader()
    cluster.isolate("s1")
    cluster.change("s1", ADD, "s4")
    with pytest.raises(ProposalRefused, match="is not committed yet"):
        cluster["s1"].propose_configuration(change(ADD, "s5"))
    cluster.heal()
    cluster.pass_time(0.3)
    cluster["s1"].propose_configuration(change(ADD, "s5"))


@scenario(154)
def test_a_new_leader_settles_what_it_inherits_first() -> None:
    core = as_leader(raft(terms=[1, 1]))
    with pytest.raises(ProposalRefused, match="nothing is committed in this term"):
        core.propose_configuration(change(ADD, "s4"))
    step(core, AppendReply("s2", "s1", 2, True, 2))
    with pytest.raises(ProposalRefused, match="nothing is committed in this term"):
        core.propose_configuration(change(ADD, "s4"))
    step(core, AppendReply("s2", "s1", 2, True, 3))
    core.propose_configuration(change(ADD, "s4"))


@scenario(154)
def test_the_bug_of_2015_cannot_happen() -> None:
    """s1 adds s5 and is cut off with it; s2, elected by s2, s3 and s4, may not remove s1 before it committed in its own term.
    When it has, s1 cannot be elected by s1, s4 and s5 any longer, as s4 knows more (correction of 2015)."""
    cluster = Cluster(4, spares=["s5"])
    cluster.elect("s1")
    cluster.split(("s1", "s5"), ("s2", "s3", "s4"))
    cluster.change("s1", ADD, "s5")
    cluster.on_message = lambda message: not isinstance(message, AppendEntries)
    cluster.elect("s2")
    with pytest.raises(ProposalRefused):
        cluster["s2"].propose_configuration(change(REMOVE, "s1"))
    cluster.on_message = lambda message: True
    cluster.pass_time(0.3)
    cluster.change("s2", REMOVE, "s1")
    assert cluster["s2"].configuration.voters() == {"s2", "s3", "s4"}
    cluster.heal()
    cluster.isolate("s2", "s3")
    cluster.pass_time(8)
    assert "s1" not in cluster.leaders
    cluster.heal()
    cluster.pass_time(8)
    cluster.assert_equal("s2", "s3", "s4")


@scenario(155)
def test_a_change_may_insist_on_what_it_was_made_from() -> None:
    cluster = settled_leader()
    core = cluster["s1"]
    with pytest.raises(ConfigurationRefused, match="has moved from 7 to 0"):
        core.propose_configuration(change(ADD, "s4"), prev_index=7)
    index, _ = core.propose_configuration(change(ADD, "s4"), prev_index=0)
    assert core.configuration_index == index


@scenario(152)
@pytest.mark.parametrize("wanted", [change(ADD, "s2"), change(LEARN, "s2"), change(REMOVE, "s9"), change(DEMOTE, "s9")])
def test_a_change_that_changes_nothing_succeeds_at_once(wanted: ConfigurationChange) -> None:
    cluster = settled_leader()
    last = cluster["s1"].last_index
    assert cluster["s1"].propose_configuration(wanted) == (0, 0)
    assert cluster["s1"].last_index == last


@scenario(155)
def test_a_change_that_makes_no_sense_leaves_no_trace() -> None:
    core = as_leader(raft(voters=["s1"]))
    last = core.last_index
    for wanted in (change(REMOVE, "s1"), change(DEMOTE, "s1"), ConfigurationChange(ADD, "s4", "s1:1")):
        with pytest.raises(ConfigurationRefused):
            core.propose_configuration(wanted)
    assert (core.last_index, core.configuration) == (last, members(["s1"]))


def test_a_known_server_may_move() -> None:
    cluster = settled_leader()
    index, _ = cluster["s1"].propose_configuration(ConfigurationChange(ADD, "s2", "elsewhere:9"))
    cluster.settle()
    assert cluster["s3"].configuration.get("s2") == Server("s2", "elsewhere:9")
    assert cluster["s1"].progress["s2"].match == index
    assert cluster["s1"].progress["s2"].state is ProgressState.REPLICATE


@scenario(156)
def test_a_change_that_is_overwritten_is_undone() -> None:
    cluster = settled_leader()
    cluster.isolate("s1")
    cluster.change("s1", REMOVE, "s3")
    assert cluster["s1"].configuration.voters() == {"s1", "s2"}
    cluster.elect("s2")
    cluster.heal()
    cluster.pass_time(1)
    assert {cluster[name].configuration.voters() for name in NAMES[:3]} == {frozenset(NAMES[:3])}
    cluster.assert_equal()


@scenario(151)
def test_a_removal_that_cannot_be_committed_has_no_effect_after_the_heal() -> None:
    cluster = settled_leader(5)
    cluster.split(("s1", "s2"), ("s3", "s4", "s5"))
    cluster.change("s1", REMOVE, "s5")
    cluster.elect("s3")
    cluster.propose("s3", b"x")
    cluster.heal()
    cluster.pass_time(2)
    assert cluster["s1"].configuration.voters() == set(NAMES[:5])
    cluster.assert_equal()


# shrinking


@scenario(148)
def test_a_removed_server_hears_of_it_and_is_not_listened_to() -> None:
    cluster = settled_leader()
    cluster.change("s1", REMOVE, "s3")
    assert cluster["s3"].configuration.voters() == {"s1", "s2"}
    assert cluster["s3"].applied_index == cluster["s1"].last_index
    assert set(cluster["s1"].progress) == {"s2"}
    index, _ = cluster.propose("s1", b"x")
    assert cluster["s1"].commit_index == index
    assert cluster["s3"].last_index == index - 1
    step(cluster["s1"], AppendReply("s3", "s1", 1, True, index), HeartbeatReply("s3", "s1", 1, 1))
    cluster.pass_time(5)
    assert cluster.leaders == ["s1"]


@scenario(148)
def test_a_server_that_is_removed_and_added_again_is_probed_anew() -> None:
    cluster = settled_leader()
    cluster.propose("s1", b"a")
    cluster.change("s1", REMOVE, "s3")
    cluster.propose("s1", b"b")
    cluster["s1"].propose_configuration(change(ADD, "s3"))
    follower = cluster["s1"].progress["s3"]
    assert (follower.match, follower.state) == (0, ProgressState.PROBE)
    cluster.settle()
    cluster.assert_equal()


@scenario(157)
def test_a_smaller_quorum_commits_at_once_what_waits() -> None:
    cluster = settled_leader(4)
    cluster.isolate("s3", "s4")
    index, _ = cluster.propose("s1", b"x")
    assert cluster["s1"].commit_index < index
    cluster["s1"].propose_configuration(change(REMOVE, "s4"))
    assert cluster["s1"].commit_index == index


@scenario(149)
def test_a_leader_that_removes_itself_leads_until_that_is_committed() -> None:
    """It does not count itself for it, then hands over to who has most."""
    cluster = settled_leader()
    cluster.isolate("s1")
    index, _ = cluster.change("s1", REMOVE, "s1")
    assert cluster["s1"].role is Role.LEADER
    assert cluster["s1"].commit_index < index
    seen: list[Message] = []
    cluster.heal()
    cluster.cut("s1", "s3")
    cluster.pass_time(0.15)
    assert (cluster["s2"].last_index, cluster["s1"].commit_index) == (index, index - 1)
    cluster.heal()

    def passes(message: Message) -> bool:
        seen.append(message)
        return True

    cluster.on_message = passes
    cluster.pass_time(0.2)
    assert any(isinstance(message, TimeoutNow) for message in seen)
    assert cluster.leaders in (["s2"], ["s3"])
    cluster.pass_time(10)
    assert (cluster["s1"].progress, len(cluster.leaders)) == ({}, 1)
    assert "s1" not in cluster.leaders


@scenario(150)
def test_what_follows_the_removal_of_the_leader_needs_a_majority_of_the_others() -> None:
    cluster = settled_leader()
    cluster.isolate("s1")
    cluster.change("s1", REMOVE, "s1")
    index, _ = cluster.propose("s1", b"x")
    core = cluster["s1"]
    step(core, AppendReply("s2", "s1", 1, True, index))
    assert core.commit_index < index - 1
    core.step(AppendReply("s3", "s1", 1, True, index), 0.0)
    assert (core.commit_index, core.leader_id) == (index, None)
    step(core, AppendReply("s2", "s1", 1, True, index))


@scenario(149)
def test_a_leader_that_gives_up_its_vote_is_done_likewise() -> None:
    cluster = settled_leader()
    cluster.change("s1", DEMOTE, "s1")
    assert cluster["s1"].role is Role.FOLLOWER
    assert cluster.leaders in (["s2"], ["s3"])
    cluster.pass_time(1)
    cluster.assert_equal()


def test_a_demoted_server_follows_and_does_not_count() -> None:
    cluster = settled_leader()
    cluster.change("s1", DEMOTE, "s3")
    cluster.isolate("s2")
    index, _ = cluster.propose("s1", b"x")
    assert cluster["s3"].last_index == index
    assert cluster["s1"].commit_index < index


# a stranger's place


@scenario(73)
def test_messages_from_and_to_strangers_harm_nobody() -> None:
    cluster = settled_leader()
    before = repr(cluster["s1"])
    for message in (
        AppendReply("s9", "s1", 1, True, 1),
        HeartbeatReply("s9", "s1", 1, 1),
        RequestVote("s9", "s1", 99, 99, 99),
        Heartbeat("s9", "s1", 0, 1, 1),
    ):
        step(cluster["s1"], message)
    assert repr(cluster["s1"]) == before


# the beginning


@scenario(159)
def test_a_virgin_server_is_given_its_first_members_once() -> None:
    core = raft(voters=())
    assert core.configuration == Configuration()
    core.bootstrap(members(("s2", "s1")))
    (entry,) = carry_out(core).entries
    assert entry == Entry(1, 1, EntryKind.CONFIGURATION, encode_configuration(members(("s1", "s2"))))
    assert core.term == 1
    assert core.configuration.voters() == {"s1", "s2"}
    with pytest.raises(AlreadyBootstrapped):
        core.bootstrap(members(("s1",)))


@scenario(159)
@pytest.mark.parametrize("past", [{"term": 1}, {"terms": [1]}, {"base": (4, 1)}])
def test_a_server_with_a_past_is_not(past: dict[str, object]) -> None:
    with pytest.raises(AlreadyBootstrapped):
        raft(voters=(), **past).bootstrap(members(("s1",)))  # type: ignore[arg-type]


@scenario(159)
def test_the_first_members_must_make_sense() -> None:
    core = raft(voters=())
    with pytest.raises(ConfigurationRefused):
        core.bootstrap(members((), ("s1",)))
    assert (core.term, core.last_index) == (0, 0)


@scenario(159)
def test_servers_given_the_same_members_in_any_order_form_one_cluster() -> None:
    cluster = Cluster((), spares=NAMES[:3])
    chance = random.Random(1)
    for name in NAMES[:3]:
        order = list(members(NAMES[:3]).servers)
        chance.shuffle(order)
        cluster[name].bootstrap(Configuration(tuple(order)))
    cluster.settle()
    cluster.elect("s2")
    cluster.propose("s2", b"x")
    cluster.assert_equal()
    assert {tuple(terms_of(cluster[name])) for name in NAMES[:3]} == {(1, 2, 2)}


@scenario(159, 18)
def test_who_is_alone_from_the_beginning_leads_at_once() -> None:
    core = raft(voters=())
    core.bootstrap(members(("s1",)))
    carry_out(core)
    core.tick(core.deadline())
    carry_out(core)
    assert (core.role, core.commit_index) == (Role.LEADER, 2)


@scenario(160)
def test_who_was_removed_while_cut_off_and_under_load_disturbs_nobody() -> None:
    cluster = settled_leader(5)
    cluster.isolate("s5")
    cluster.change("s1", REMOVE, "s5")
    chance = random.Random(5)
    for number in range(30):
        cluster.propose("s1", b"%d" % number)
        cluster.pass_time(chance.uniform(0.1, 0.6))
        cluster.heal() if number == 10 else None
    assert cluster.leaders == ["s1"]
    assert cluster["s1"].term == 1
    cluster.assert_equal(*NAMES[:4])

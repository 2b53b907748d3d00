"""Snapshots, compaction, and followers that the log can no longer help (paper, 7)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from discovery.raft.configuration import ChangeKind
from discovery.raft.core import Raft
from discovery.raft.errors import InvariantViolated
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    Configuration,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    SnapshotMeta,
)
from discovery.raft.progress import ProgressState

from .rig import NAMES, Cluster, as_follower, as_leader, carry_out, log_of, members, raft, scenario, step, terms_of


def meta(index: int, term: int, voters: Sequence[str] = NAMES[:3], learners: Sequence[str] = ()) -> SnapshotMeta:
    return SnapshotMeta(index, term, members(voters, learners), 1, 100, "ab")


def header(index: int, term: int, *, leader_term: int = 9) -> InstallSnapshot:
    return InstallSnapshot("s2", "s1", leader_term, meta(index, term))


def behind_a_snapshot(**changed: object) -> Cluster:
    """s1 leads and has compacted its log up to its end, s3 was cut off from the beginning and has nothing."""
    cluster = Cluster(3, **changed)  # type: ignore[arg-type]
    cluster.isolate("s3")
    cluster.elect("s1")
    for number in range(5):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s1"].take_snapshot()
    cluster.heal()
    return cluster


# leaders


@scenario(126, 84)
def test_who_needs_what_is_compacted_gets_the_snapshot() -> None:
    cluster = behind_a_snapshot()
    cluster.streaming = False
    cluster.pass_time(0.3)
    (sent,) = cluster.streams
    follower = cluster["s1"].progress["s3"]
    assert (sent.target, sent.meta.index) == ("s3", 6)
    assert (follower.state, follower.pending_snapshot) == (ProgressState.SNAPSHOT, 6)


@scenario(127)
def test_no_snapshot_is_sent_to_who_is_silent() -> None:
    """It would be work for nothing; a sign of life comes first."""
    cluster = Cluster(3)
    cluster.isolate("s3")
    cluster.elect("s1")
    cluster.pass_time(3)
    cluster.propose("s1")
    cluster.servers["s1"].take_snapshot()
    cluster["s1"].progress["s3"].become_probe(1)
    cluster.streaming = False
    cluster.pass_time(3)
    assert cluster.streams == []
    cluster.heal()
    cluster.pass_time(0.3)
    assert [stream.target for stream in cluster.streams] == ["s3"]


@scenario(128)
@pytest.mark.parametrize(("ok", "following"), [(True, 5), (False, 1)])
def test_the_end_of_a_stream_leads_to_probing(ok: bool, following: int) -> None:
    core = as_leader(raft(base=(4, 1), terms=[1]))
    core.progress["s2"].become_snapshot(4)
    core.report_snapshot("s2", ok)
    progress = core.progress["s2"]
    assert (progress.state, progress.next) == (ProgressState.PROBE, following)
    assert carry_out(core).of(AppendEntries, "s2") == []


@scenario(128)
def test_what_ends_without_having_begun_changes_nothing() -> None:
    core = as_leader(raft(terms=[1]))
    before = repr(core.progress["s2"])
    core.report_snapshot("s2", True)
    core.report_snapshot("s9", False)
    assert repr(core.progress["s2"]) == before


@scenario(128)
def test_a_stream_that_fails_is_begun_again() -> None:
    cluster = behind_a_snapshot()
    cluster.streaming = False
    cluster.pass_time(0.3)
    cluster.stream(cluster.streams.pop(), ok=False)
    cluster.pass_time(0.3)
    assert [stream.target for stream in cluster.streams] == ["s3"]
    cluster.streaming = True
    cluster.pass_time(0.3)
    cluster.assert_equal()


@scenario(134)
@pytest.mark.parametrize("index", [6, 7])
def test_any_success_that_reaches_the_log_ends_the_snapshot(index: int) -> None:
    """The follower may have got another one than the one noted."""
    core = as_leader(raft(base=(5, 1), terms=[1, 1]))
    core.progress["s2"].become_snapshot(7)
    step(core, AppendReply("s2", "s1", 2, True, index))
    assert (core.progress["s2"].state, core.progress["s2"].match) == (ProgressState.REPLICATE, index)


@scenario(134)
def test_a_success_that_does_not_reach_the_log_leaves_the_snapshot_on_its_way() -> None:
    core = as_leader(raft(base=(5, 1), terms=[1]))
    core.progress["s2"].become_snapshot(5)
    step(core, AppendReply("s2", "s1", 2, True, 3))
    assert core.progress["s2"].state is ProgressState.SNAPSHOT


@scenario(133, 145)
def test_a_snapshot_and_then_the_log() -> None:
    """Writes go on meanwhile, and the others do not wait."""
    cluster = behind_a_snapshot()
    cluster.streaming = False
    cluster.pass_time(0.3)
    for number in range(5, 10):
        cluster.propose("s1", b"%d" % number)
    assert cluster.applied("s2") == [b"%d" % number for number in range(10)]
    assert cluster["s3"].last_index == 0
    cluster.streaming = True
    cluster.pass_time(0.3)
    cluster.assert_equal()


@scenario(145)
def test_a_snapshot_alone() -> None:
    cluster = behind_a_snapshot()
    cluster.pass_time(0.3)
    cluster.assert_equal()
    assert cluster["s3"].first_index == 7


@scenario(126)
def test_replication_resumes_though_the_acknowledgement_of_the_snapshot_is_lost() -> None:
    cluster = behind_a_snapshot()
    lost: list[Message] = []

    def passes(message: Message) -> bool:
        acknowledges = isinstance(message, AppendReply) and message.sender == "s3"
        lost.extend([message] if acknowledges else [])
        return not acknowledges or len(lost) > 2

    cluster.on_message = passes
    cluster.pass_time(0.6)
    assert len(lost) > 2
    cluster.propose("s1", b"x")
    cluster.assert_equal()


@scenario(135)
def test_compaction_while_the_window_is_full_and_lost() -> None:
    cluster = Cluster(3, max_inflight_messages=2, max_message_bytes=1)
    cluster.elect("s1")
    cluster.isolate("s3")
    for number in range(10):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s1"].take_snapshot()
    cluster.pass_time(0.3)
    cluster.heal()
    cluster.pass_time(0.5)
    cluster.assert_equal()
    assert cluster["s3"].first_index > 1


def test_a_lagging_follower_within_the_trailing_entries_needs_no_snapshot() -> None:
    cluster = Cluster(3)
    cluster.elect("s1")
    cluster.propose("s1", b"a")
    cluster.isolate("s3")
    for number in range(5):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s1"].take_snapshot(trailing=6)
    cluster.heal()
    cluster.streaming = False
    cluster.pass_time(0.3)
    assert cluster.streams == []
    cluster.assert_equal()


def test_a_leader_without_a_snapshot_for_its_base_is_a_fault() -> None:
    core = as_leader(raft(base=(5, 1), terms=[1]))
    assert core._leader is not None
    core._leader.snapshot = None
    with pytest.raises(InvariantViolated, match="no snapshot stands"):
        step(core, AppendReply("s2", "s1", 2, False, 6, 0, 0))


# followers


@scenario(129)
def test_a_newer_snapshot_replaces_everything() -> None:
    core = as_follower(raft(terms=[1, 1, 1], committed=1), "s2", 9)
    outcome = step(core, header(7, 4))
    assert [installed.index for installed in outcome.installed] == [7]
    marks = core.first_index, core.last_index, core.last_term, core.commit_index, core.applied_index, core.persisted_index
    assert marks == (8, 7, 4, 7, 7, 7)
    assert outcome.of(AppendReply) == [AppendReply("s1", "s2", 9, True, 7)]
    assert core.snapshot == meta(7, 4)


@scenario(129)
@pytest.mark.parametrize("index", [1, 2])
def test_a_snapshot_of_what_is_committed_is_answered_with_the_commit(index: int) -> None:
    core = as_follower(raft(terms=[1, 1, 1], committed=2), "s2", 9)
    outcome = step(core, header(index, 1))
    assert (outcome.installed, outcome.of(AppendReply)) == ([], [AppendReply("s1", "s2", 9, True, 2)])
    assert terms_of(core) == [1, 1, 1]


@scenario(129)
def test_a_snapshot_that_the_log_contains_tells_what_is_committed() -> None:
    core = as_follower(raft(terms=[1, 1, 1]), "s2", 9)
    outcome = step(core, header(2, 1))
    assert (outcome.installed, outcome.of(AppendReply)) == ([], [AppendReply("s1", "s2", 9, True, 2)])
    assert (terms_of(core), core.commit_index) == ([1, 1, 1], 2)
    assert core.snapshot == meta(2, 1)


@scenario(129)
def test_a_snapshot_that_conflicts_with_the_log_replaces_it() -> None:
    core = as_follower(raft(terms=[1, 1, 1]), "s2", 9)
    step(core, header(2, 3))
    assert (terms_of(core), core.last_index, core.last_term) == ([], 2, 3)


@scenario(136)
def test_nothing_is_applied_or_taken_while_a_snapshot_is_installed() -> None:
    core = as_follower(raft(terms=[1, 1, 1]), "s2", 9)
    core.step(header(7, 4), 0.0)
    outcome = carry_out(core, install=False)
    assert len(outcome.installed) == 1
    core.step(Heartbeat("s2", "s1", 9, 3, 5), 0.0)
    core.step(AppendEntries("s2", "s1", 9, 7, 4, 8, tuple(log_of([9], 8))), 0.0)
    core.step(header(8, 9), 0.0)
    outcome = carry_out(core, install=False)
    assert (outcome.committed, outcome.entries, outcome.installed) == ([], [], [])
    assert outcome.messages == [HeartbeatReply("s1", "s2", 9, 5)]
    with pytest.raises(InvariantViolated, match="no snapshot can be taken"):
        core.describe_snapshot(core.applied_index)
    core.snapshot_installed(meta(7, 4))
    assert carry_out(core).of(AppendReply) == [AppendReply("s1", "s2", 9, True, 7)]


@scenario(38)
def test_no_campaign_while_a_snapshot_is_installed() -> None:
    core = as_follower(raft(terms=[1]), "s2", 9)
    core.step(header(7, 4), 0.0)
    carry_out(core, install=False)
    assert core.deadline() == float("inf")
    core.snapshot_installed(meta(7, 4))
    assert core.deadline() < float("inf")


def test_an_install_that_nobody_leads_any_more_is_not_acknowledged() -> None:
    core = as_follower(raft(terms=[1]), "s2", 9)
    core.step(header(7, 4), 0.0)
    carry_out(core, install=False)
    core.step(HeartbeatReply("s3", "s1", 11, 0), 0.0)
    core.snapshot_installed(meta(7, 4))
    assert carry_out(core).of(AppendReply) == []


def test_a_snapshot_of_an_ended_term_is_not_taken() -> None:
    core = as_follower(raft(terms=[1], term=12), "s3", 12)
    outcome = step(core, header(7, 4, leader_term=9))
    assert (outcome.installed, outcome.messages) == ([], [HeartbeatReply("s1", "s2", 12, 0)])


@scenario(130, 131)
@pytest.mark.parametrize(
    ("voters", "learners", "in_the_snapshot", "campaigns"),
    [
        (NAMES[:3], (), (("s1", "s2"), ("s3",)), True),
        (NAMES[:3], (), (("s2", "s3"), ("s1",)), False),
        (("s2", "s3"), ("s1",), (NAMES[:3], ()), True),
        (("s2", "s3"), ("s1",), (("s2", "s3"), ("s1",)), False),
        ((), (), (NAMES[:3], ()), True),
    ],
)
def test_the_members_of_a_snapshot_are_in_force(
    voters: Sequence[str], learners: Sequence[str], in_the_snapshot: tuple[Sequence[str], Sequence[str]], campaigns: bool
) -> None:
    core = as_follower(raft(voters=voters, learners=learners), "s2", 9)
    step(core, InstallSnapshot("s2", "s1", 9, meta(7, 4, *in_the_snapshot)))
    assert core.configuration == members(*in_the_snapshot)
    assert (core.deadline() < float("inf")) is campaigns


@scenario(132)
def test_a_snapshot_for_somebody_who_is_no_member_of_it() -> None:
    core = as_follower(raft(voters=()), "s2", 9)
    step(core, InstallSnapshot("s2", "s1", 9, meta(7, 4, ("s2", "s3"))))
    assert core.last_index == 7
    core.tick(1000.0)
    assert carry_out(core).messages == []


@scenario(131)
def test_a_learner_that_gets_a_snapshot_stays_one() -> None:
    cluster = Cluster(("s1", "s2"), ["s3"])
    cluster.isolate("s3")
    cluster.elect("s1")
    for number in range(5):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s1"].take_snapshot()
    cluster.heal()
    cluster.pass_time(0.5)
    cluster.assert_equal()
    assert cluster["s3"].configuration.voters() == {"s1", "s2"}


# taking and compacting


@scenario(137)
def test_a_snapshot_shortens_the_log_but_for_the_trailing_entries() -> None:
    core = raft(terms=[1] * 10, committed=8)
    assert core.compact(core.describe_snapshot(8), trailing=3) == 5
    assert (core.first_index, core.last_index) == (6, 10)


@scenario(137)
def test_fewer_entries_than_the_trailing_ones_are_all_kept() -> None:
    core = raft(terms=[1] * 4, committed=4)
    assert core.compact(core.describe_snapshot(4), trailing=100) == 0
    assert core.first_index == 1


def test_an_older_snapshot_changes_nothing_any_more() -> None:
    core = raft(terms=[1] * 6, committed=6)
    older, newer = core.describe_snapshot(3), core.describe_snapshot(6)
    assert core.compact(newer, trailing=0) == 6
    assert core.compact(older, trailing=0) == 6
    assert core.snapshot == newer


@scenario(141)
def test_a_snapshot_names_the_members_of_its_place_not_of_later() -> None:
    cluster = Cluster(3, spares=["s4"])
    cluster.elect("s1")
    index, _ = cluster.propose("s1", b"a")
    cluster.change("s1", ChangeKind.ADD_VOTER, "s4")
    core = cluster["s1"]
    before, after = core.describe_snapshot(index), core.describe_snapshot(core.applied_index)
    assert (before.configuration, before.configuration_index) == (members(NAMES[:3]), 0)
    assert (after.configuration, after.configuration_index) == (members(NAMES[:4]), index + 1)


@scenario(141)
@pytest.mark.parametrize("snapshot_after", [False, True])
def test_after_a_restart_the_members_are_right(snapshot_after: bool) -> None:
    cluster = Cluster(3, spares=["s4"])
    cluster.elect("s1")
    if not snapshot_after:
        cluster.servers["s2"].take_snapshot()
    cluster.change("s1", ChangeKind.ADD_VOTER, "s4")
    if snapshot_after:
        cluster.servers["s2"].take_snapshot()
    cluster.crash("s2")
    cluster.restart("s2")
    assert cluster["s2"].configuration.voters() == set(NAMES[:4])
    assert cluster["s2"].configuration_index == 2


def test_a_snapshot_is_only_described_of_what_was_applied_and_is_not_forgotten() -> None:
    core = raft(terms=[1] * 6, committed=4)
    core.compact(core.describe_snapshot(3), trailing=0)
    for index in (2, 5, 9):
        with pytest.raises(InvariantViolated, match="no snapshot can be taken"):
            core.describe_snapshot(index)
    assert core.describe_snapshot(4).index == 4


@scenario(135)
def test_a_full_window_compaction_and_a_lost_follower_end_in_a_snapshot() -> None:
    core = as_leader(raft(terms=[1] * 3, max_inflight_messages=1))
    step(core, AppendReply("s2", "s1", 2, True, 4), AppendReply("s3", "s1", 2, True, 4))
    for _ in range(3):
        core.propose(b"x")
    carry_out(core)
    step(core, AppendReply("s3", "s1", 2, True, 5))
    step(core, AppendReply("s3", "s1", 2, True, 7))
    core.compact(core.describe_snapshot(7), trailing=0)
    core.report_unreachable("s2")
    outcome = carry_out(core)
    assert [(sent.target, sent.meta.index) for sent in outcome.snapshots] == [("s2", 7)]


def test_an_empty_configuration_in_a_snapshot_belongs_to_nobody() -> None:
    core = as_follower(raft(voters=()), "s2", 9)
    step(core, InstallSnapshot("s2", "s1", 9, SnapshotMeta(3, 2, Configuration(), 0)))
    assert core.configuration == Configuration()


def test_the_newest_snapshot_known_is_the_one_that_is_sent() -> None:
    """A received one too, though the log contained all of it: older files may be deleted by then."""
    core: Raft = as_follower(raft(base=(2, 1), terms=[1, 1, 1]), "s2", 9)
    step(core, header(4, 1))
    leading = as_leader(core)
    assert leading._leader is not None
    assert leading._leader.snapshot == meta(4, 1)

"""What must be durable before what is said (paper, figure 2: persistent state; dissertation, 10.2.1)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.core import Options, Raft, Ready, Role
from discovery.raft.errors import InvariantViolated
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    RequestVote,
    SnapshotMeta,
    VoteReply,
)

from .rig import (
    NAMES,
    Cluster,
    as_follower,
    as_leader,
    carry_out,
    command,
    founding,
    log_of,
    members,
    raft,
    scenario,
    step,
    terms_of,
)


def taken(core: Raft, *, write: bool = True) -> Ready:
    ready = core.ready(write=write)
    assert ready is not None
    return ready


def finish(core: Raft, ready: Ready) -> None:
    assert ready.write_id is not None
    core.persisted(ready.write_id)


def append(index: int, term: int, *terms: int, commit: int = 0, leader_term: int = 0) -> AppendEntries:
    return AppendEntries("s2", "s1", leader_term or max(term, *terms), index, term, commit, tuple(log_of(terms, index + 1)))


@scenario(98)
def test_term_vote_and_entries_each_need_the_disk_and_a_commit_alone_does_not() -> None:
    core = as_follower(raft(terms=[1]), "s2")
    core.step(Heartbeat("s2", "s1", 5, 0, 1), 0.0)
    ready = taken(core)
    assert (ready.must_sync, ready.hard_state, ready.entries) == (True, HardState(5, ""), ())
    finish(core, ready)

    core.leader_id, core._timer.last_contact = None, -100.0
    core.step(RequestVote("s3", "s1", 5, 9, 9), 0.0)
    ready = taken(core)
    assert (ready.must_sync, ready.hard_state, ready.entries) == (True, HardState(5, "s3"), ())
    finish(core, ready)

    core.step(append(1, 1, 5), 0.0)
    ready = taken(core)
    assert (ready.must_sync, ready.hard_state, ready.entries) == (True, None, tuple(log_of([5], 2)))
    finish(core, ready)

    core.step(Heartbeat("s2", "s1", 5, 2, 2), 0.0)
    ready = taken(core)
    assert (ready.must_sync, ready.write_id) == (False, None)
    assert [entry.index for entry in ready.committed] == [1, 2]


@scenario(99)
@pytest.mark.parametrize("granted", [True, False])
def test_a_vote_is_told_when_it_is_durable(granted: bool) -> None:
    core = raft(terms=[2], term=2)
    core.step(RequestVote("s2", "s1", 3, 9, 2 if granted else 1), 0.0)
    ready = taken(core)
    answer = VoteReply("s1", "s2", 3, granted)
    assert ready.messages == []
    assert ready.messages_after_persist == [answer]
    assert ready.hard_state == HardState(3, "s2" if granted else "")


@scenario(99)
def test_a_candidate_asks_when_its_term_its_vote_and_its_log_are_durable() -> None:
    core = as_follower(raft(terms=[1], term=1), "s2")
    core.step(append(1, 1, 1), 0.0)
    core._campaign(transfer=True)
    ready = taken(core)
    assert [entry.index for entry in ready.entries] == [2]
    assert ready.hard_state == HardState(2, "s1")
    assert ready.messages == []
    assert {
        (request.last_index, request.term) for request in ready.messages_after_persist if isinstance(request, RequestVote)
    } == {(2, 2)}


@scenario(100)
def test_an_append_is_acknowledged_when_it_is_durable() -> None:
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1), 0.0)
    ready = taken(core)
    assert ready.messages == []
    assert ready.messages_after_persist == [AppendReply("s1", "s2", 1, True, 1)]


@scenario(100)
def test_so_is_a_repetition_while_the_first_is_still_being_written() -> None:
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1), 0.0)
    first = taken(core)
    core.step(append(0, 0, 1), 0.0)
    second = taken(core)
    assert (second.must_sync, second.messages) == (False, [])
    assert second.messages_after_persist == [AppendReply("s1", "s2", 1, True, 1)]
    finish(core, first)
    finish(core, second)
    core.step(append(0, 0, 1), 0.0)
    assert taken(core).messages == [AppendReply("s1", "s2", 1, True, 1)]


@scenario(100)
def test_a_refusal_that_reveals_a_new_term_waits_for_the_disk() -> None:
    core = raft(terms=[1])
    core.step(append(5, 4, 4), 0.0)
    ready = taken(core)
    assert (ready.hard_state, ready.messages) == (HardState(4, ""), [])
    assert ready.messages_after_persist == [AppendReply("s1", "s2", 4, False, 5, 1, 1)]


@scenario(100)
def test_so_does_the_answer_to_a_heartbeat_but_only_then() -> None:
    core = raft(terms=[1])
    core.step(Heartbeat("s2", "s1", 4, 0, 7), 0.0)
    ready = taken(core)
    assert (ready.messages, ready.messages_after_persist) == ([], [HeartbeatReply("s1", "s2", 4, 7)])
    finish(core, ready)
    core.step(append(1, 1, 4), 0.0)
    taken(core)
    core.step(Heartbeat("s2", "s1", 4, 0, 8), 0.0)
    assert taken(core, write=False).messages == [HeartbeatReply("s1", "s2", 4, 8)]


@scenario(101)
def test_a_leader_sends_while_it_writes_and_counts_itself_afterwards() -> None:
    core = as_leader(raft(voters=NAMES[:2]))
    step(core, AppendReply("s2", "s1", 1, True, 1))
    core.propose(b"x")
    ready = taken(core)
    assert [type(message) for message in ready.messages] == [AppendEntries]
    assert ready.write_id is not None
    core.step(AppendReply("s2", "s1", 1, True, 2), 0.0)
    assert core.commit_index == 1
    finish(core, ready)
    assert core.commit_index == 2


@scenario(101)
def test_a_majority_of_followers_commits_without_the_leaders_disk_but_the_leader_does_not_apply() -> None:
    core = as_leader(raft())
    core.propose(b"x")
    ready = taken(core)
    for peer in ("s2", "s3"):
        core.step(AppendReply(peer, "s1", 1, True, 2), 0.0)
    assert core.commit_index == 2
    assert [entry.index for entry in taken(core, write=False).committed] == [1]
    finish(core, ready)
    assert [entry.index for entry in taken(core).committed] == [2]


@scenario(102)
def test_the_only_voter_commits_when_its_disk_is_done() -> None:
    cluster = Cluster(1)
    cluster.elect("s1")
    cluster.hold("s1")
    index, _ = cluster.propose("s1", b"x")
    assert cluster["s1"].commit_index == index - 1
    cluster.crash("s1")
    cluster.restart("s1")
    cluster.servers["s1"].held = False
    cluster.elect("s1")
    assert cluster.applied("s1") == []


@scenario(103)
def test_writes_overlap_and_end_in_their_order() -> None:
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1), 0.0)
    first = taken(core)
    core.step(append(1, 1, 1, commit=2), 0.0)
    second = taken(core)
    assert [[entry.index for entry in ready.entries] for ready in (first, second)] == [[1], [2]]
    with pytest.raises(InvariantViolated, match="under way are"):
        finish(core, second)
    finish(core, first)
    assert [entry.index for entry in taken(core).committed] == [1]
    finish(core, second)
    assert [entry.index for entry in taken(core).committed] == [2]


def test_what_comes_during_a_write_waits_for_the_next_one_together() -> None:
    """A shell that holds back writes while one is under way commits in groups."""
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1), 0.0)
    first = taken(core)
    for index in range(1, 4):
        core.step(append(index, 1, 1), 0.0)
        assert core.ready(write=False) is None
    finish(core, first)
    second = taken(core)
    assert [entry.index for entry in second.entries] == [2, 3, 4]
    assert [reply.index for reply in second.messages_after_persist if isinstance(reply, AppendReply)] == [2, 3, 4]


@scenario(104)
def test_a_late_completion_proves_nothing_of_what_replaced_its_entry() -> None:
    """5@1 is being written when 5@2 replaces it, and then 5@3."""
    core = as_follower(raft(terms=[1, 1, 1, 1]), "s2", 1)
    writes = []
    for term in (1, 2, 3):
        core.step(append(4, 1, term, leader_term=term), 0.0)
        writes.append(taken(core))
    for write, persisted in zip(writes, (4, 4, 5), strict=True):
        finish(core, write)
        assert core.persisted_index == persisted
    assert terms_of(core) == [1, 1, 1, 1, 3]


def test_promises_of_an_ended_term_or_candidacy_never_leave() -> None:
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1), 0.0)
    assert core.ready(write=False) is None
    core.step(Heartbeat("s3", "s1", 2, 0, 1), 0.0)
    assert taken(core).messages_after_persist == [HeartbeatReply("s1", "s3", 2, 1)]

    candidate = raft()
    candidate._campaign(transfer=False)
    candidate.step(Heartbeat("s3", "s1", 1, 0, 1), 0.0)
    assert taken(candidate).messages_after_persist == [HeartbeatReply("s1", "s3", 1, 1)]


@scenario(105)
def test_a_restart_goes_on_from_what_is_durable() -> None:
    """The commit index is not stored: it is learnt again, and committed entries are applied once."""
    cluster = Cluster(3)
    cluster.elect("s1")
    for number in range(5):
        cluster.propose("s1", b"%d" % number)
    before = cluster["s2"].term, cluster.terms("s2")
    cluster.crash("s2")
    cluster.restart("s2")
    core = cluster["s2"]
    assert ((core.term, cluster.terms("s2")), core.commit_index, core.applied_index) == (before, 0, 0)
    cluster.pass_time(0.2)
    assert cluster.applied("s2") == [b"%d" % number for number in range(5)]


@scenario(106)
def test_a_restart_from_a_snapshot_applies_only_what_follows() -> None:
    core = raft(base=(5, 2), terms=[2, 3])
    assert (core.first_index, core.last_index, core.applied_index, core.commit_index) == (6, 7, 5, 5)
    outcome = step(core, Heartbeat("s2", "s1", 3, 7, 1))
    assert [entry.index for entry in outcome.committed] == [6, 7]


@scenario(106)
@pytest.mark.parametrize(
    ("snapshot", "first", "terms", "base", "log"),
    [
        ((5, 2), 6, [2, 3], (5, 2), [2, 3]),
        ((5, 2), 1, [1, 1, 2, 2, 2, 3], (0, 0), [1, 1, 2, 2, 2, 3]),
        ((5, 2), 4, [2, 2, 3], (4, 2), [2, 3]),
        ((5, 2), 5, [2], (5, 2), []),
        ((5, 2), 6, [], (5, 2), []),
    ],
)
def test_what_is_stored_beside_a_snapshot(
    snapshot: tuple[int, int], first: int, terms: list[int], base: tuple[int, int], log: list[int]
) -> None:
    """Entries before the snapshot serve followers that lag a little; the oldest gives the term before the others."""
    core = Raft(
        server_id="s1",
        options=Options(),
        hard_state=HardState(3, ""),
        snapshot=SnapshotMeta(*snapshot, members(NAMES[:3]), 1),
        entries=log_of(terms, first),
        rng=random.Random(1),
        now=0.0,
    )
    assert (core.first_index - 1, core.term_at(core.first_index - 1)) == base
    assert terms_of(core) == log
    assert (core.applied_index, core.commit_index) == (5, 5)


@scenario(106)
@pytest.mark.parametrize(("first", "terms"), [(7, [3]), (1, [1, 1]), (1, [1, 1, 1, 1, 1])])
def test_a_log_that_does_not_continue_its_snapshot_is_refused(first: int, terms: list[int]) -> None:
    with pytest.raises(InvariantViolated, match="does not join"):
        Raft(
            server_id="s1",
            options=Options(),
            hard_state=HardState(3, ""),
            snapshot=SnapshotMeta(5, 2, members(NAMES[:3]), 1),
            entries=log_of(terms, first),
            rng=random.Random(1),
            now=0.0,
        )


def test_a_log_without_a_snapshot_begins_at_one() -> None:
    with pytest.raises(InvariantViolated, match="does not join"):
        Raft(
            server_id="s1",
            options=Options(),
            hard_state=HardState(3, ""),
            snapshot=None,
            entries=log_of([1], 2),
            rng=random.Random(1),
            now=0.0,
        )


@scenario(107)
@pytest.mark.parametrize("page", [1, 100, 1 << 20])
def test_pages_of_committed_entries_skip_and_repeat_nothing(page: int) -> None:
    core = raft(terms=[1] * 10, max_apply_bytes=page)
    core.step(Heartbeat("s2", "s1", 1, 10, 1), 0.0)
    pages = []
    while (ready := core.ready()) is not None:
        pages.append([entry.index for entry in ready.committed])
    assert [index for indexes in pages for index in indexes] == list(range(1, 11))
    assert len(pages) == {1: 10, 100: 5, 1 << 20: 1}[page]


@scenario(107)
def test_a_restart_between_two_pages_repeats_from_the_snapshot() -> None:
    """What a life has applied is the state machine's, and the snapshot says how far that goes."""
    cluster = Cluster(3, max_apply_bytes=1)
    cluster.elect("s1")
    for number in range(4):
        cluster.propose("s1", b"%d" % number)
    cluster.servers["s2"].take_snapshot()
    for number in range(4, 8):
        cluster.propose("s1", b"%d" % number)
    cluster.crash("s2")
    cluster.restart("s2")
    assert cluster.applied("s2") == [b"0", b"1", b"2", b"3"]
    cluster.pass_time(0.2)
    assert cluster.applied("s2") == [b"%d" % number for number in range(8)]


@scenario(108, 109)
def test_nothing_is_asked_for_twice() -> None:
    for core in (raft(), as_follower(raft(), "s2"), as_leader(raft())):
        assert core.ready() is None
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1, commit=1), 0.0)
    ready = taken(core)
    assert core.ready() is None
    finish(core, ready)
    assert [entry.index for entry in taken(core).committed] == [1]
    assert core.ready() is None


@scenario(110)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_crash_after_any_write_loses_nothing_that_was_acknowledged(seed: int) -> None:
    """Servers crash with writes under way, of which some have ended; what was applied anywhere stays applied."""
    chance = random.Random(seed)
    cluster = Cluster(3)
    cluster.elect("s1")
    applied: list[bytes] = []
    for number in range(12):
        leaders = cluster.leaders
        if leaders:
            cluster[leaders[0]].propose(b"%d" % number)
        victim = chance.choice(NAMES[:3])
        cluster.hold(victim)
        cluster.settle()
        for _ in range(chance.randint(0, 2)):
            if cluster.servers[victim].writes:
                cluster.queue += cluster.servers[victim].sync()
        cluster.crash(victim)
        cluster.restart(victim)
        cluster.servers[victim].held = False
        cluster.pass_time(chance.choice((0.1, 4.0)))
        for name in NAMES[:3]:
            common = min(len(applied), len(cluster.applied(name)))
            assert cluster.applied(name)[:common] == applied[:common]
        applied = max(applied, *(list(cluster.applied(name)) for name in NAMES[:3]), key=len)
    cluster.pass_time(6)
    cluster.assert_equal()
    assert cluster.applied("s1")[: len(applied)] == applied


def test_nothing_is_applied_before_it_is_durable_here() -> None:
    core = as_follower(raft(), "s2", 1)
    core.step(append(0, 0, 1, 1, commit=2), 0.0)
    ready = taken(core)
    assert (core.commit_index, ready.committed) == (2, ())
    finish(core, ready)
    assert len(taken(core).committed) == 2


def test_entries_that_a_snapshot_overtakes_are_written_no_more() -> None:
    """They could reach the disk after the log was restarted behind the snapshot; and what they would have been acknowledged
    with must not leave."""
    core = as_follower(raft(terms=[1]), "s2", 1)
    core.step(append(1, 1, 1), 0.0)
    assert core.ready(write=False) is None
    core.step(InstallSnapshot("s2", "s1", 2, SnapshotMeta(9, 2, members(NAMES[:3]), 1)), 0.0)
    ready = taken(core)
    assert (ready.entries, ready.hard_state) == ((), HardState(2, ""))
    assert ready.install_snapshot is not None
    assert not [message for message in ready.messages_after_persist if isinstance(message, AppendReply)]
    finish(core, ready)
    core.snapshot_installed(ready.install_snapshot)
    assert taken(core).messages == [AppendReply("s1", "s2", 2, True, 9)]


def test_a_write_that_began_before_a_snapshot_ends_harmlessly_after_it() -> None:
    core = as_follower(raft(terms=[1]), "s2", 1)
    core.step(append(1, 1, 1), 0.0)
    write = taken(core)
    core.step(InstallSnapshot("s2", "s1", 1, SnapshotMeta(9, 1, members(NAMES[:3]), 1)), 0.0)
    install = taken(core).install_snapshot
    assert install is not None
    core.snapshot_installed(install)
    finish(core, write)
    assert (core.persisted_index, core.last_index) == (9, 9)


@pytest.mark.parametrize(
    "act",
    [lambda core: core.persisted(1), lambda core: core.applied(1), lambda core: core.snapshot_installed(founding(members("s1")))],
)
def test_a_shell_that_reports_what_was_not_asked_for_is_stopped(act: Callable[[Raft], None]) -> None:
    with pytest.raises(InvariantViolated):
        act(raft())


def test_a_leader_that_restarts_begins_as_a_follower_of_its_term() -> None:
    core = as_leader(raft(term=3))
    again = Raft(
        server_id="s1",
        options=Options(),
        hard_state=HardState(core.term, core.vote),
        snapshot=founding(members(NAMES[:3])),
        entries=(command(1, 4),),
        rng=random.Random(1),
        now=0.0,
    )
    assert (again.role, again.term, again.vote) == (Role.FOLLOWER, 4, "s1")
    assert step(again, VoteReply("s2", "s1", 4, granted=True)).messages == []
    assert carry_out(again).messages == []

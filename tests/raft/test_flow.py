"""How much a leader may send to whom: probe, replicate, snapshot, and the window of appends on their way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.core import Raft
from discovery.raft.errors import InvariantViolated, ProposalRefused
from discovery.raft.log import ENTRY_OVERHEAD
from discovery.raft.messages import AppendEntries, AppendReply, Heartbeat, HeartbeatReply
from discovery.raft.progress import Progress, ProgressState, Window

from .rig import NAMES, Cluster, Outcome, as_leader, carry_out, raft, scenario, step


def leader(peer_state: ProgressState, **changed: object) -> Raft:
    """Leads s2 and s3 in term 1 with its first entry; s2 is in the given state, s3 silent."""
    core = as_leader(raft(**changed))  # type: ignore[arg-type]
    if peer_state is ProgressState.REPLICATE:
        step(core, AppendReply("s2", "s1", core.term, True, core.last_index))
    elif peer_state is ProgressState.SNAPSHOT:
        core.progress["s2"].become_snapshot(1)
    assert core.progress["s2"].state is peer_state
    return core


def appends(outcome: Outcome, peer: str = "s2") -> list[list[int]]:
    """The indexes of the entries of each append to `peer`."""
    return [[entry.index for entry in message.entries] for message in outcome.of(AppendEntries, peer)]


def beat(core: Raft, *, answered: int | None = None) -> Outcome:
    """A heartbeat is due and `s2` answers it."""
    assert core._leader is not None
    core.tick(core._leader._heartbeat_due)
    sequence = carry_out(core).of(Heartbeat, "s2")[0].sequence
    return step(core, HeartbeatReply("s2", "s1", core.term, sequence if answered is None else answered))


@scenario(82)
def test_a_probe_is_alone_until_it_is_answered() -> None:
    core = leader(ProgressState.PROBE)
    core.propose(b"x")
    assert appends(carry_out(core)) == []
    core.propose(b"y")
    assert appends(step(core, AppendReply("s2", "s1", 1, True, 1))) == [[2, 3]]


@scenario(82)
def test_a_probe_may_be_repeated_after_a_heartbeat_but_not_twice() -> None:
    core = leader(ProgressState.PROBE)
    assert appends(beat(core)) == [[1]]
    assert appends(step(core, HeartbeatReply("s2", "s1", 1, core._leader._rounds.last if core._leader else 0))) == []
    assert appends(beat(core)) == [[1]]


def test_rounds_that_reads_begin_do_not_repeat_probes() -> None:
    core = leader(ProgressState.REPLICATE)
    core.read_index(0.0)
    step(core, HeartbeatReply("s2", "s1", 1, carry_out(core).of(Heartbeat, "s2")[0].sequence))
    core.propose(b"x")
    carry_out(core)
    for _ in range(5):
        core.read_index(0.0)
        number = carry_out(core).of(Heartbeat, "s2")[0].sequence
        assert appends(step(core, HeartbeatReply("s2", "s1", 1, number))) == []


@scenario(83)
def test_replication_does_not_wait_for_answers() -> None:
    core = leader(ProgressState.REPLICATE)
    for index in range(2, 6):
        core.propose(b"x")
        assert appends(carry_out(core)) == [[index]]
        assert core.progress["s2"].next == index + 1


@scenario(84)
def test_during_a_snapshot_nothing_is_sent_but_heartbeats() -> None:
    core = leader(ProgressState.SNAPSHOT)
    core.propose(b"x")
    assert carry_out(core).of(AppendEntries, "s2") == []
    assert appends(beat(core)) == []


@scenario(85)
def test_a_lost_connection_leads_back_to_probing() -> None:
    core = leader(ProgressState.REPLICATE)
    for _ in range(3):
        core.propose(b"x")
    carry_out(core)
    core.report_unreachable("s2")
    progress = core.progress["s2"]
    assert (progress.state, progress.next, len(progress.window)) == (ProgressState.PROBE, 2, 0)
    assert appends(carry_out(core)) == [[2, 3, 4]]
    core.report_unreachable("s2")
    assert appends(carry_out(core)) == []


def test_unreachable_strangers_and_followers_in_other_states_change_nothing() -> None:
    for state in (ProgressState.PROBE, ProgressState.SNAPSHOT):
        core = leader(state)
        before = repr(core.progress["s2"])
        core.report_unreachable("s2")
        core.report_unreachable("s9")
        assert repr(core.progress["s2"]) == before


@scenario(86)
def test_a_full_window_pauses_and_an_answer_opens_it() -> None:
    core = leader(ProgressState.REPLICATE, max_inflight_messages=3)
    for _ in range(5):
        core.propose(b"x")
        carry_out(core)
    assert core.progress["s2"].next == 5
    assert appends(step(core, AppendReply("s2", "s1", 1, True, 3))) == [[5, 6]]


@scenario(86)
def test_a_window_is_full_by_bytes_too() -> None:
    core = leader(ProgressState.REPLICATE, max_inflight_bytes=2000, max_message_bytes=1)
    for _ in range(5):
        core.propose(b"x" * 1000)
        carry_out(core)
    assert core.progress["s2"].next == 4
    assert core.progress["s2"].window.bytes == 2 * (1000 + ENTRY_OVERHEAD)


@scenario(86, 94)
def test_a_full_window_is_looked_into_by_one_empty_append_a_heartbeat() -> None:
    """If all that fills it was lost, nothing else would ever tell."""
    core = leader(ProgressState.REPLICATE, max_inflight_messages=2)
    for _ in range(4):
        core.propose(b"x")
        carry_out(core)
    (probe,) = beat(core).of(AppendEntries, "s2")
    assert (probe.prev_index, probe.entries) == (3, ())
    outcome = step(core, AppendReply("s2", "s1", 1, False, 3, 1, 1))
    assert appends(outcome) == [[2, 3, 4, 5]]


@scenario(87)
def test_who_has_everything_is_trusted_again_after_a_heartbeat() -> None:
    core = leader(ProgressState.REPLICATE)
    core.report_unreachable("s2")
    carry_out(core)
    assert core.progress["s2"].state.value == "probe"
    beat(core)
    assert core.progress["s2"].state.value == "replicate"


@scenario(88, 102)
def test_a_leader_counts_what_its_own_disk_has() -> None:
    core = raft(voters=["s1"])
    core._campaign(transfer=False)
    vote = core.ready()
    assert vote is not None
    assert vote.write_id is not None
    core.persisted(vote.write_id)
    ready = core.ready()
    assert ready is not None
    assert ready.write_id is not None
    assert core.commit_index == 0
    core.persisted(ready.write_id)
    assert core.commit_index == 1


@scenario(89)
def test_uncommitted_proposals_are_bounded() -> None:
    core = leader(ProgressState.REPLICATE, max_uncommitted_bytes=200)
    core.propose(b"x" * 100)
    with pytest.raises(ProposalRefused, match="132 bytes"):
        core.propose(b"x" * 100)
    core.propose(b"x" * 20)
    carry_out(core)
    step(core, AppendReply("s2", "s1", 1, True, 3))
    core.propose(b"x" * 100)


@scenario(89)
def test_one_proposal_passes_however_large() -> None:
    core = leader(ProgressState.REPLICATE, max_uncommitted_bytes=200)
    core.propose(b"x" * 10_000)
    with pytest.raises(ProposalRefused):
        core.propose(b"")


@scenario(89)
def test_the_count_of_uncommitted_bytes_ends_with_the_office() -> None:
    cluster = Cluster(3, max_uncommitted_bytes=200)
    cluster.elect("s1")
    cluster.isolate("s1")
    cluster.propose("s1", b"x" * 150)
    cluster.pass_time(1)
    cluster.heal()
    for name in ("s2", "s1"):
        cluster.elect(name)
        cluster.propose(name, b"y" * 150)
        cluster.propose(name, b"y" * 150)


@scenario(90)
def test_the_log_of_a_cut_off_leader_does_not_grow_without_bound() -> None:
    core = as_leader(raft(max_uncommitted_bytes=10_000))
    taken = 0
    for _ in range(5000):
        try:
            core.propose(b"x" * 68)
        except ProposalRefused:
            continue
        taken += 1
    assert taken == 100


@scenario(93)
@pytest.mark.parametrize(
    ("size", "pages"), [(1, [[1], [2], [3], [4]]), (2 * ENTRY_OVERHEAD + 10, [[1, 2], [3, 4]]), (1 << 20, [[1, 2, 3, 4]])]
)
def test_appends_are_cut_by_size_but_never_empty(size: int, pages: list[list[int]]) -> None:
    core = as_leader(raft(terms=[1, 1, 1], max_message_bytes=size))
    outcome = step(core, AppendReply("s2", "s1", 2, False, 3, 0, 0), AppendReply("s2", "s1", 2, True, 0))
    assert appends(outcome) == pages


@scenario(94)
def test_lost_appends_to_one_of_three_with_a_small_window_are_made_good() -> None:
    cluster = Cluster(3, max_inflight_messages=2, max_message_bytes=1)
    cluster.elect("s1")
    chance = random.Random(2)
    cluster.on_message = lambda message: message.target != "s2" or chance.random() < 0.3
    for number in range(30):
        cluster.propose("s1", b"%d" % number)
        cluster.pass_time(0.05)
    cluster.on_message = lambda message: True
    cluster.pass_time(1)
    cluster.assert_equal()


@scenario(95)
def test_who_has_answered_is_served_first() -> None:
    core = as_leader(raft(voters=NAMES[:5], max_inflight_messages=1))
    for peer in ("s2", "s3"):
        step(core, AppendReply(peer, "s1", 1, True, 1))
    core.propose(b"x")
    carry_out(core)
    core.propose(b"y")
    carry_out(core)
    outcome = step(core, AppendReply("s2", "s1", 1, True, 2))
    assert {message.target for message in outcome.of(AppendEntries) if message.entries} == {"s2"}


@scenario(96)
def test_heartbeats_flow_past_a_blocked_stream_of_appends() -> None:
    core = leader(ProgressState.REPLICATE, max_inflight_messages=1)
    core.propose(b"x")
    core.propose(b"y")
    carry_out(core)
    for _ in range(3):
        core.tick(core.deadline())
        assert [heartbeat.target for heartbeat in carry_out(core).of(Heartbeat)] == ["s2", "s3"]


# what a leader knows of one follower


def progress(*, following: int = 5, messages: int = 4, size: int = 1000) -> Progress:
    return Progress(next_index=following, now=0.0, window=Window(messages, size))


@scenario(91)
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400), st.integers(-2, 6)), max_size=40))
def test_the_window_counts_exactly_what_is_on_its_way(steps: list[tuple[int, int, int]]) -> None:
    """Against a plain list: each step sends an append and frees up to some index."""
    window, plain, last = Window(4, 1000), [], 0
    for count, size, freed in steps:
        last += count
        window.add(last, size)
        plain.append((last, size))
        window.free_to(last - freed)
        plain = [(index, bytes_) for index, bytes_ in plain if index > last - freed]
        assert (len(window), window.bytes) == (len(plain), sum(bytes_ for _, bytes_ in plain))
        assert window.full() is (len(plain) >= 4 or window.bytes >= 1000)
    window.clear()
    assert (len(window), window.bytes, window.full()) == (0, 0, False)


@scenario(92)
def test_a_match_only_grows() -> None:
    follower = progress(following=9)
    assert follower.succeeded(5)
    assert not follower.succeeded(3)
    assert not follower.succeeded(5)
    assert (follower.match, follower.next) == (5, 9)
    assert follower.succeeded(12)
    assert (follower.match, follower.next) == (12, 13)


@scenario(92)
@pytest.mark.parametrize(
    ("prev_index", "probe_next", "following"),
    [(8, 6, 6), (8, 20, 8), (8, 1, 4), (7, 5, 9), (9, 5, 9), (3, 2, 9), (2, 1, 9)],
)
def test_a_refusal_lowers_the_probe_within_what_is_proven(prev_index: int, probe_next: int, following: int) -> None:
    """Match is 3 and next is 9; only a refusal of 8 speaks of the probe on its way."""
    follower = progress(following=9)
    follower.succeeded(3)
    follower.refused(prev_index, probe_next)
    assert (follower.state, follower.next) == (ProgressState.PROBE, following)


def test_a_refusal_while_replicating_goes_back_to_what_is_proven() -> None:
    follower = progress(following=9)
    follower.succeeded(3)
    follower.become_replicate()
    follower.sent(6, 10, 0)
    follower.refused(6, 2)
    assert (follower.state, follower.next, len(follower.window)) == (ProgressState.PROBE, 4, 0)


def test_next_never_falls_to_match() -> None:
    follower = progress(following=9)
    follower.succeeded(8)
    with pytest.raises(InvariantViolated, match="not above match"):
        follower.become_probe(8)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["success", "refusal", "sent", "lost", "resume"]), st.integers(0, 12), st.integers(1, 12)),
        max_size=60,
    )
)
def test_match_stays_below_next_whatever_comes(events: list[tuple[str, int, int]]) -> None:
    follower, last = progress(following=6), 12
    for event, index, other in events:
        match event:
            case "success":
                follower.succeeded(index)
                if follower.state is ProgressState.PROBE and index == follower.match:
                    follower.become_replicate()
            case "refusal":
                follower.refused(index, other)
            case "sent" if not follower.paused() and follower.next <= last:
                follower.sent(follower.next, 10, 0)
            case "lost" if follower.state is ProgressState.REPLICATE:
                follower.become_probe(follower.match + 1)
            case "resume":
                follower.resume(last)
            case _:
                pass
        assert 0 <= follower.match < follower.next <= last + 1

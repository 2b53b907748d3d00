"""The simulated disk keeps what was synced, and of the rest no more than a whole prefix of writes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.messages import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from tests.simulation.disk import FramedDisk


def entry(index: int, term: int, data: bytes = b"data that fills some sectors of a disk") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def disk() -> FramedDisk:
    return FramedDisk("d", Counter())


def synced(target: FramedDisk) -> None:
    while target.has_work:
        target.finish_one()()


def done() -> None:
    return


def test_what_is_not_synced_is_not_there() -> None:
    target = disk()
    target.append([entry(1, 1)], HardState(1, "a"), done)
    assert target.load().entries == []
    synced(target)
    assert target.load().entries == [entry(1, 1)]
    assert target.load().hard_state == HardState(1, "a")


def test_an_append_replaces_what_follows() -> None:
    target = disk()
    target.append([entry(1, 1), entry(2, 1), entry(3, 1)], HardState(1, ""), done)
    target.append([entry(2, 2)], HardState(2, ""), done)
    synced(target)
    assert target.load().entries == [entry(1, 1), entry(2, 2)]


def test_compaction_and_restart_replace_the_file() -> None:
    target = disk()
    target.append([entry(1, 1), entry(2, 1), entry(3, 1)], HardState(1, "b"), done)
    target.compact(2)
    synced(target)
    assert (target.load().base_index, target.load().entries) == (2, [entry(3, 1)])
    target.restart_after(SnapshotMeta(9, 2, Configuration(), 1), done)
    synced(target)
    assert (target.load().base_index, target.load().entries, target.load().hard_state) == (9, [], HardState(1, "b"))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(), before=st.integers(0, 3), waiting=st.integers(0, 3))
def test_a_crash_keeps_all_that_was_synced_and_a_prefix_of_the_rest(seed: int, before: int, waiting: int) -> None:
    target = disk()
    for index in range(1, before + 1):
        target.append([entry(index, 1)], HardState(index, ""), done)
    synced(target)
    for index in range(before + 1, before + waiting + 1):
        target.append([entry(index, 1)], HardState(index, ""), done)
    target.crash(random.Random(seed))
    loaded = target.load()
    kept = len(loaded.entries)
    assert before <= kept <= before + waiting
    assert loaded.entries == [entry(index, 1) for index in range(1, kept + 1)]
    assert loaded.hard_state == (HardState(kept, "") if kept else HardState())


def test_torn_writes_do_occur() -> None:
    counters: Counter[str] = Counter()
    for seed in range(50):
        target = FramedDisk("d", counters)
        target.append([entry(1, 1)], HardState(1, ""), done)
        target.crash(random.Random(seed))
        target.load()
    assert counters["torn writes cut"] > 5


def test_who_believes_torn_writes_reads_nonsense() -> None:
    """The checksum is what protects: without it some crash yields an entry that nobody wrote, or no message at all."""
    nonsense = 0
    for seed in range(200):
        target = FramedDisk("d", Counter(), believes_torn_writes=True)
        target.append([entry(1, 1)], HardState(1, ""), done)
        target.crash(random.Random(seed))
        try:
            nonsense += target.load().entries not in ([], [entry(1, 1)])
        except ValueError:
            nonsense += 1
    assert nonsense


def test_the_newest_two_snapshots_are_kept() -> None:
    target = disk()
    assert target.newest() is None
    for index in (5, 9, 7):
        target.save(SnapshotMeta(index, 1, Configuration(), 1), b"")
    newest = target.newest()
    assert newest is not None
    assert newest.index == 9
    assert sorted(target.snapshots) == [7, 9]


@pytest.mark.parametrize(("index", "term", "held"), [(1, 1, True), (2, 1, True), (4, 2, True), (4, 1, False), (5, 2, False)])
def test_holds(index: int, term: int, held: bool) -> None:
    target = disk()
    target.append([entry(number, 1 if number < 4 else 2) for number in range(1, 5)], None, done)
    synced(target)
    target.save(SnapshotMeta(2, 1, Configuration(), 1), b"")
    target.compact(2)
    synced(target)
    assert target.holds(index, term) is held

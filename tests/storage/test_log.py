"""The log on disk: what goes in comes out again, in order, with term and vote."""

from pathlib import Path

import pytest

from discovery.raft.errors import InvariantViolated
from discovery.raft.messages import Entry, EntryKind, HardState
from discovery.storage.errors import DataDirectoryLocked, DataDirectoryOfAnother
from discovery.storage.log import COMPACTION_STEP
from tests.storage.rig import SERVER, entries, entry, log_of, meta, stored


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    found = stored(tmp_path / "deep" / "down")
    assert found.entries == []
    assert found.base_index == 0
    assert found.hard_state == HardState(0, "")


def test_entries_term_and_vote_survive(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    kinds = [Entry(index, 2, kind, b"\0\xff" * index) for index, kind in enumerate(EntryKind, 1)]
    store.append(kinds, HardState(2, SERVER))
    store.append([entry(4, 5)], None)
    store.append([], HardState(7, ""))
    store.close()
    found = stored(tmp_path)
    assert found.entries == [*kinds, entry(4, 5)]
    assert found.hard_state == HardState(7, "")


def test_a_conflict_replaces_the_tail(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.append(entries(1, 10), HardState(1, ""))
    store.append(entries(6, 7, term=2), HardState(2, ""))
    assert store.last_index == 7
    store.close()
    assert stored(tmp_path).entries == entries(1, 5) + entries(6, 7, term=2)


@pytest.mark.parametrize("first", [12, 3])
def test_a_gap_or_a_rewrite_of_compacted_entries_is_refused(tmp_path: Path, first: int) -> None:
    store = log_of(tmp_path)
    store.append(entries(1, 10), None)
    store.compact(5)
    with pytest.raises(InvariantViolated):
        store.append([entry(first)], None)
    store.append([entry(11)], None)
    store.close()
    assert stored(tmp_path).entries == entries(6, 11)


def test_compaction_forgets_the_front_in_steps(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.append(entries(1, 3 * COMPACTION_STEP), None)
    steps = store.compaction_steps(2 * COMPACTION_STEP + 7)
    assert len(steps) == 3
    for number, step in enumerate(steps):
        step()
        store.append([entry(3 * COMPACTION_STEP + 1 + number)], None)
    store.close()
    found = stored(tmp_path)
    assert found.base_index == 2 * COMPACTION_STEP + 7
    assert found.entries == entries(2 * COMPACTION_STEP + 8, 3 * COMPACTION_STEP + 3)


def test_steps_that_a_reset_overtook_do_nothing(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.append(entries(1, 10), HardState(4, "x"))
    steps = store.compaction_steps(8)
    store.reset(meta(100))
    for step in steps:
        step()
    store.append([entry(101)], None)
    store.close()
    found = stored(tmp_path)
    assert (found.base_index, found.entries) == (100, [entry(101)])
    assert found.hard_state == HardState(4, "x")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    with pytest.raises(DataDirectoryLocked, match=r"in use by process \d+"):
        log_of(tmp_path)
    store.close()
    log_of(tmp_path).close()


def test_the_log_of_another_server_is_refused(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.claim(SERVER)
    store.claim(SERVER)
    store.close()
    store = log_of(tmp_path)
    with pytest.raises(DataDirectoryOfAnother, match=f"belongs to server {SERVER}, not to other"):
        store.claim("other")
    store.close()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.close()
    store.close()


def test_many_large_writes_do_not_let_the_write_ahead_log_grow(tmp_path: Path) -> None:
    """Checkpoints happen while the log is written; without them it would be as large as all that was written."""
    store = log_of(tmp_path)
    data = b"x" * 100_000
    for index in range(1, 401):
        store.append([entry(index, 1, data)], None)
    size = (tmp_path / "raft.db-wal").stat().st_size
    store.close()
    assert size < 30_000_000
    assert len(stored(tmp_path).entries) == 400

"""How log and snapshots are brought to agree at the start."""

from pathlib import Path

import pytest

from discovery.raft.messages import HardState
from discovery.storage.errors import CorruptLog
from discovery.storage.log import LogStore
from discovery.storage.recovery import Recovered, recover
from discovery.storage.snapshots import SnapshotStore
from tests.storage.rig import entries, flip_bit, log_of, meta


@pytest.fixture
def log(tmp_path: Path) -> LogStore:
    return log_of(tmp_path)


@pytest.fixture
def snapshots(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


def test_nothing_at_all(log: LogStore, snapshots: SnapshotStore) -> None:
    assert recover(log, snapshots) == Recovered(HardState(), None, [])


def test_a_log_alone(log: LogStore, snapshots: SnapshotStore) -> None:
    log.append(entries(1, 5), HardState(1, "x"))
    assert recover(log, snapshots) == Recovered(HardState(1, "x"), None, entries(1, 5))


def test_a_log_that_overlaps_its_snapshot(log: LogStore, snapshots: SnapshotStore) -> None:
    log.append(entries(1, 20), HardState(1, ""))
    saved = snapshots.save(meta(12), [b"state"])
    log.compact(8)
    assert recover(log, snapshots) == Recovered(HardState(1, ""), saved, entries(9, 20))


def test_a_log_right_behind_its_snapshot(log: LogStore, snapshots: SnapshotStore) -> None:
    log.append(entries(1, 20), HardState(1, ""))
    saved = snapshots.save(meta(20), [b"state"])
    log.compact(20)
    assert recover(log, snapshots) == Recovered(HardState(1, ""), saved, [])


def test_a_received_snapshot_beyond_the_log_resets_it(log: LogStore, snapshots: SnapshotStore) -> None:
    """The crash came between storing the snapshot and resetting the log."""
    log.append(entries(1, 20), HardState(4, "x"))
    saved = snapshots.save(meta(100, 3), [b"state"])
    assert recover(log, snapshots) == Recovered(HardState(4, "x"), saved, ())
    assert log.last_index == 100
    assert recover(log, snapshots) == Recovered(HardState(4, "x"), saved, [])


def test_a_received_snapshot_of_another_history_resets_the_log(log: LogStore, snapshots: SnapshotStore) -> None:
    log.append(entries(1, 20, term=2), HardState(4, "x"))
    saved = snapshots.save(meta(15, 3), [b"state"])
    assert recover(log, snapshots) == Recovered(HardState(4, "x"), saved, ())


def test_a_gap_between_snapshot_and_log_is_refused(log: LogStore, snapshots: SnapshotStore, tmp_path: Path) -> None:
    log.append(entries(1, 20), HardState(1, ""))
    log.compact(10)
    with pytest.raises(CorruptLog, match="no intact snapshot reaches the log, which begins after 10"):
        recover(log, snapshots)
    snapshots.save(meta(9), [b"state"])
    with pytest.raises(CorruptLog, match=f"{tmp_path / 'raft.db'} is damaged at index 10"):
        recover(log, snapshots)


def test_a_damaged_snapshot_is_replaced_by_an_older_one_that_joins(
    log: LogStore, snapshots: SnapshotStore, tmp_path: Path
) -> None:
    log.append(entries(1, 20), HardState(1, ""))
    older = snapshots.save(meta(10), [b"older"])
    snapshots.save(meta(15), [b"newer"])
    log.compact(8)
    newest = max((tmp_path / "snapshots").iterdir())
    flip_bit(newest, 2)
    assert recover(log, snapshots) == Recovered(HardState(1, ""), older, entries(9, 20))


def test_a_damaged_snapshot_that_nothing_replaces_is_refused(log: LogStore, snapshots: SnapshotStore, tmp_path: Path) -> None:
    log.append(entries(1, 20), HardState(1, ""))
    snapshots.save(meta(15), [b"state"])
    log.compact(12)
    flip_bit(next((tmp_path / "snapshots").iterdir()), 2)
    with pytest.raises(CorruptLog, match="no intact snapshot"):
        recover(log, snapshots)

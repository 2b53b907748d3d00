"""Snapshot files: whole or not at all, and damage is found before anything is served."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.storage.errors import CorruptSnapshot
from discovery.storage.snapshots import CHUNK_SIZE, SnapshotStore
from tests.storage.rig import cut, flip_bit, meta, small_disk

STATE = bytes(range(256)) * 4096


def chunks(state: bytes = STATE, size: int = 100_000) -> Iterator[bytes]:
    return (state[start : start + size] for start in range(0, len(state), size))


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("*.snapshot")
    return path


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = SnapshotStore(tmp_path).save(meta(7, 3), chunks())
    store = SnapshotStore(tmp_path)
    assert store.newest() == saved
    assert (saved.index, saved.term, saved.size) == (7, 3, len(STATE))
    pieces = list(store.read_chunks(saved))
    assert b"".join(pieces) == STATE
    assert max(map(len, pieces)) <= CHUNK_SIZE


def test_an_empty_state(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    saved = store.save(meta(1), [])
    assert store.newest() == saved
    assert list(store.read_chunks(saved)) == []


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for index, term in ((5, 1), (90, 2), (100, 2), (30, 9)):
        store.save(meta(index, term), [b"x"])
    assert [each.index for each in store.list()] == [100, 90]


def test_reading_goes_on_while_the_file_is_retired(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, retain=1)
    saved = store.save(meta(1), chunks())
    reading = store.read_chunks(saved)
    first = next(reading)
    store.save(meta(2), [b"new"])
    assert first + b"".join(reading) == STATE
    with pytest.raises(FileNotFoundError):
        next(store.read_chunks(saved))


def test_what_fails_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    older = store.save(meta(1), [b"old"])

    def failing() -> Iterator[bytes]:
        yield STATE
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.save(meta(2), failing())
    assert store.newest() == older
    assert len(list(tmp_path.iterdir())) == 1


def test_half_a_file_of_a_crash_is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000009-00000000000000000001-0.partial").write_bytes(b"half")
    assert SnapshotStore(tmp_path).list() == []
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_anywhere_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SnapshotStore(tmp_path)
    older = store.save(meta(1), [b"older"])
    newest = store.save(meta(2), chunks(STATE[:5000]))
    path = tmp_path / f"{newest.index:020d}-{newest.term:020d}.snapshot"
    sound = path.read_bytes()
    for position in range(0, len(sound), 61):
        path.write_bytes(sound)
        flip_bit(path, position, position % 8)
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            assert store.newest() == older
        assert str(path) in caplog.text


def test_cut_or_lengthened(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save(meta(2), chunks(STATE[:3000]))
    path = only_file(tmp_path)
    sound = path.read_bytes()
    for size in range(0, len(sound), 37):
        path.write_bytes(sound)
        cut(path, size)
        assert store.newest() is None
    path.write_bytes(sound + b"more")
    assert store.newest() is None


def test_damage_found_while_reading_is_told_at_the_end(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    saved = store.save(meta(2), chunks())
    flip_bit(only_file(tmp_path), 5)
    reading = store.read_chunks(saved)
    with pytest.raises(CorruptSnapshot, match="not what was written"):
        list(reading)


def test_receiving_in_pieces(tmp_path: Path) -> None:
    announced = SnapshotStore(tmp_path / "there").save(meta(8, 2), chunks())
    store = SnapshotStore(tmp_path / "here")
    receiver = store.receive(announced)
    for piece in chunks(size=77_777):
        receiver.write(receiver.offset, piece)
    assert store.newest() is None
    receiver.finish()
    assert store.newest() == announced
    assert b"".join(store.read_chunks(announced)) == STATE


def test_receiving_refuses_gaps_repetitions_and_excess(tmp_path: Path) -> None:
    announced = SnapshotStore(tmp_path / "there").save(meta(8, 2), [b"0123456789"])
    receiver = SnapshotStore(tmp_path / "here").receive(announced)
    receiver.write(0, b"01234")
    for offset, data in ((0, b"01234"), (6, b"6789"), (5, b"567890")):
        with pytest.raises(CorruptSnapshot, match="expected at 5 of 10"):
            receiver.write(offset, data)
    receiver.write(5, b"56789")
    receiver.finish()


@pytest.mark.parametrize("data", [b"012345678", b"0123456780"])
def test_receiving_something_else_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    announced = SnapshotStore(tmp_path / "there").save(meta(8, 2), [b"0123456789"])
    store = SnapshotStore(tmp_path / "here")
    receiver = store.receive(announced)
    receiver.write(0, data)
    with pytest.raises(CorruptSnapshot, match="arrived damaged"):
        receiver.finish()
    assert list((tmp_path / "here").iterdir()) == []


def test_a_full_disk_leaves_the_older_snapshot(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = SnapshotStore(disk / "snapshots")
        older = store.save(meta(1), [STATE[:100_000]])
        with pytest.raises(OSError, match="No space left"):
            store.save(meta(2), chunks(STATE * 2))
        assert store.newest() == older
        assert [path.name for path in (disk / "snapshots").glob("*.partial")] == []

"""A damaged log is found and named; it never comes back shorter than what was acknowledged."""

import random
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from discovery.raft.messages import HardState
from discovery.storage.errors import CorruptLog, StorageError, StorageFailed
from discovery.storage.log import LogStore
from tests.storage.rig import SERVER, crash_image, cut, entries, entry, flip_bit, log_of, small_disk, stored, written

WRITES = 40


def check_whole_or_named(directory: Path) -> str:
    """The promise: everything that was acknowledged is served unchanged, or opening fails and says which file is damaged."""
    try:
        found = stored(directory)
    except CorruptLog as error:
        return "named" if str(directory / "raft.db") in str(error) else "not named"
    assert found.hard_state == HardState(3, SERVER)
    expected = [entry(index, 3, random.Random(index).randbytes(200)) for index in range(1, WRITES + 1)]
    assert found.entries == expected
    return "whole"


def test_a_crash_alone_damages_nothing(tmp_path: Path) -> None:
    assert check_whole_or_named(written(tmp_path / "log", WRITES)) == "whole"


@pytest.mark.parametrize("name", ["raft.db-wal", "raft.db"])
def test_a_flipped_bit_anywhere(tmp_path: Path, name: str) -> None:
    """In the write-ahead log of a crashed server, and in the database of one that was closed."""
    image = written(tmp_path / "log", WRITES, close=name == "raft.db")
    size = (image / name).stat().st_size
    seen = set()
    for position in range(0, size, max(1, size // 150)):
        copy = crash_image(image, tmp_path / "copy")
        flip_bit(copy / name, position, position % 8)
        seen.add(check_whole_or_named(copy))
    assert "named" in seen


@pytest.mark.parametrize("name", ["raft.db-wal", "raft.db"])
def test_cut_off_anywhere(tmp_path: Path, name: str) -> None:
    image = written(tmp_path / "log", WRITES, close=name == "raft.db")
    size = (image / name).stat().st_size
    for kept in range(0, size, max(1, size // 60)):
        copy = crash_image(image, tmp_path / "copy")
        cut(copy / name, kept)
        assert check_whole_or_named(copy) == "named", f"cut to {kept} of {size} bytes"


@pytest.mark.parametrize("name", ["raft.db-wal", "raft.db"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    image = written(tmp_path / "log", WRITES, close=name == "raft.db")
    (image / name).unlink()
    assert check_whole_or_named(image) == "named"


def test_a_missing_mark_is_no_damage(tmp_path: Path) -> None:
    image = written(tmp_path / "log", WRITES)
    (image / "raft.db.mark").unlink()
    assert check_whole_or_named(image) == "whole"


def test_zeroed_pages(tmp_path: Path) -> None:
    image = written(tmp_path / "log", WRITES, close=True)
    size = (image / "raft.db").stat().st_size
    for start in range(0, size, 4096):
        copy = crash_image(image, tmp_path / "copy")
        with (copy / "raft.db").open("r+b") as file:
            file.seek(start)
            file.write(bytes(4096))
        check_whole_or_named(copy)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM entries WHERE idx = 40",
        "DELETE FROM entries WHERE idx = 39",
        "DELETE FROM entries WHERE idx = 1",
        "DELETE FROM entries WHERE idx > 20",
        "DELETE FROM entries",
        "UPDATE entries SET write = write - 1 WHERE idx = 40",
        "UPDATE entries SET write = write + 1 WHERE idx = 40",
        "UPDATE entries SET write = write + 1 WHERE idx = 20",
        "UPDATE entries SET write = 'x' WHERE idx = 40",
        "UPDATE entries SET term = 'x' WHERE idx = 40",
        "UPDATE entries SET data = x'00' WHERE idx = 40",
        "UPDATE entries SET idx = 41 WHERE idx = 40",
        "UPDATE state SET writes = writes + 1",
        "UPDATE state SET last_index = 2",
        "DELETE FROM state",
    ],
)
def test_rows_that_vanished_or_changed(tmp_path: Path, damage: str) -> None:
    """The first write set term and vote; the others only appended."""
    image = written(tmp_path / "log", WRITES, close=True)
    with closing(sqlite3.connect(image / "raft.db")) as database, database:
        assert database.execute("SELECT last_index FROM state").fetchone() == (1,)
        database.execute(damage)
    assert check_whole_or_named(image) == "named"


def test_the_refused_file_is_left_as_it_was(tmp_path: Path) -> None:
    """Opening a damaged write-ahead log the ordinary way would cut it for good."""
    image = written(tmp_path / "log", WRITES)
    wal = image / "raft.db-wal"
    flip_bit(wal, wal.stat().st_size - 100)
    before = wal.read_bytes()
    for _ in range(2):
        with pytest.raises(CorruptLog, match="1 of 40 acknowledged writes are lost"):
            stored(image)
    assert wal.read_bytes() == before


def test_a_torn_write_that_nobody_was_promised_is_dropped(tmp_path: Path) -> None:
    """The crash came before the acknowledgement: whatever is there of the last write, the log ends before it or with it."""
    store = log_of(tmp_path / "log")
    store.append(entries(1, 5), HardState(2, "x"))
    mark = (tmp_path / "log" / "raft.db.mark").read_bytes()
    begin = (tmp_path / "log" / "raft.db-wal").stat().st_size
    store.append([entry(6, 2, b"y" * 20_000)], HardState(9, "y"))
    image = crash_image(tmp_path / "log", tmp_path / "image")
    store.close()
    (image / "raft.db.mark").write_bytes(mark)
    end = (image / "raft.db-wal").stat().st_size
    assert end > begin + 20_000
    for size in range(begin, end, 997):
        copy = crash_image(image, tmp_path / "copy")
        cut(copy / "raft.db-wal", size)
        found = stored(copy)
        assert (found.entries, found.hard_state) == (entries(1, 5), HardState(2, "x"))
    for position in range(begin, end, 1999):
        copy = crash_image(image, tmp_path / "copy")
        flip_bit(copy / "raft.db-wal", position)
        assert stored(copy).entries[:5] == entries(1, 5)


def test_damage_before_later_writes_is_found_without_the_mark_too(tmp_path: Path) -> None:
    """After a loss of power the mark may be old; valid transactions behind a broken one still tell."""
    image = written(tmp_path / "log", WRITES)
    (image / "raft.db.mark").unlink()
    wal = image / "raft.db-wal"
    flip_bit(wal, wal.stat().st_size // 2)
    with pytest.raises(CorruptLog, match="later transactions follow"):
        stored(image)


def test_no_database_at_all(tmp_path: Path) -> None:
    (tmp_path / "raft.db").write_bytes(b"not a database, but long enough to look at it" * 100)
    with pytest.raises(CorruptLog, match="not a database"):
        log_of(tmp_path)


def test_an_unknown_format(tmp_path: Path) -> None:
    store = log_of(tmp_path)
    store.set_meta("format", b"99")
    store.close()
    with pytest.raises(CorruptLog, match="format b'99' is not b'2'"):
        log_of(tmp_path)


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="can't be used"):
        LogStore(tmp_path / "file" / "raft.db")


def test_a_read_only_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        written(disk / "log", 3, close=True)
        _remount(disk, "ro")
        with pytest.raises(StorageError, match="Read-only"):
            log_of(disk / "log")
        _remount(disk, "rw")
        assert len(stored(disk / "log").entries) == 3


def test_a_full_disk_fails_the_write_and_all_that_follow(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "512k") as disk:
        store = log_of(disk / "log")
        acknowledged: list[int] = []
        with pytest.raises(StorageFailed, match="full"):
            append_for_ever(store, acknowledged)
        with pytest.raises(StorageFailed, match="an earlier write failed"):
            store.append([entry(store.last_index + 1)], None)
        image = crash_image(disk / "log", tmp_path / "image")
        store.close()
        assert len(acknowledged) > 10
        assert [each.index for each in stored(image).entries] == acknowledged


def append_for_ever(store: LogStore, acknowledged: list[int]) -> None:
    while True:
        store.append([entry(store.last_index + 1, 1, b"x" * 10_000)], None)
        acknowledged.append(store.last_index)


def _remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

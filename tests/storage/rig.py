"""Logs on real disks, what a crash leaves of them, and ways to damage it."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.raft.messages import Configuration, Entry, EntryKind, HardState, Server, SnapshotMeta
from discovery.storage.log import LogStore, StoredLog

SERVER = "11111111-1111-1111-1111-111111111111"


def entry(index: int, term: int = 1, data: bytes | None = None) -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data if data is not None else f"entry {index} of term {term}".encode())


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [entry(index, term) for index in range(first, last + 1)]


def meta(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, Configuration((Server("a", "127.0.0.1:1"),)), 1)


def log_of(directory: Path) -> LogStore:
    return LogStore(directory / "raft.db")


def stored(directory: Path) -> StoredLog:
    """What opening the log in `directory` finds."""
    store = log_of(directory)
    try:
        return store.load()
    finally:
        store.close()


def written(directory: Path, writes: int, *, size: int = 200, close: bool = False) -> Path:
    """A log of `writes` single entries of term 3; left as a crash leaves it unless `close`."""
    store = log_of(directory)
    for index in range(1, writes + 1):
        data = random.Random(index).randbytes(size)
        store.append([entry(index, 3, data)], HardState(3, SERVER) if index == 1 else None)
    if close:
        store.close()
        return directory
    image = directory.with_name(directory.name + "-crashed")
    crash_image(directory, image)
    store.close()
    return image


def crash_image(directory: Path, image: Path) -> Path:
    """A copy of what is in the files while their writer is still running: what a SIGKILL would leave."""
    shutil.rmtree(image, ignore_errors=True)
    image.mkdir()
    for path in directory.iterdir():
        if path.is_file() and not path.name.endswith("-shm"):
            shutil.copy(path, image / path.name)
    return image


def flip_bit(path: Path, position: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes((byte ^ 1 << bit,)))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A file system of its own of `size` (as in `256k`) at `directory`; skips the test where mounting is not permitted."""
    directory.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def needs_strace() -> str:
    """Where strace is; skips the test if it is missing or not permitted to trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    tried = subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")
    return strace

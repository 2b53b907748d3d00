"""Processes that die while they write: what they acknowledged is there, and was synced before they said so."""

import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

from tests.storage.rig import entry, needs_strace, small_disk, stored

ROOT = Path(__file__).parent.parent.parent


def appender(directory: Path, seed: int, limit: int | None = None) -> list[str]:
    arguments = [] if limit is None else [str(limit)]
    return [sys.executable, "-m", "tests.storage.appender", str(directory), str(seed), *arguments]


def environment() -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


def last_line(output: bytes) -> tuple[int, int]:
    """The last whole acknowledgement: index and term."""
    index, term = output.decode().rsplit("\n", 2)[-2].split()
    return int(index), int(term)


def check(directory: Path, acknowledged: tuple[int, int]) -> None:
    """The acknowledged entry is the last, or one that was only begun comes after it."""
    found = stored(directory)
    index, term = acknowledged
    assert found.hard_state.term >= term
    assert found.hard_state.vote in ("", f"vote of {found.hard_state.term}")
    if found.hard_state.term == term:
        assert found.base_index + len(found.entries) >= index
        assert found.base_index >= index or found.entries[index - found.base_index - 1].term == term
    assert all(each == entry(each.index, each.term) for each in found.entries)


def test_kill_nine_in_a_loop(tmp_path: Path) -> None:
    seed = 20
    rng = random.Random(seed)
    total = 0
    for life in range(12):
        process = subprocess.Popen(appender(tmp_path, life), cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
        assert process.stdout is not None
        output = b"".join(process.stdout.readline() for _ in range(rng.randrange(1, 200)))
        process.send_signal(signal.SIGKILL)
        output += process.stdout.read()
        process.wait()
        total += output.count(b"\n")
        check(tmp_path, last_line(output))
    assert total > 500


def test_every_acknowledgement_follows_a_sync(tmp_path: Path) -> None:
    """Seen from outside, by the system calls: no write to the log's files stands between the last sync and what it promised."""
    strace = needs_strace()
    trace = tmp_path / "trace"
    command = [
        strace,
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        "trace=pwrite64,fsync,fdatasync,write",
        *appender(tmp_path / "log", 1, 30),
    ]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL)
    unsynced = acknowledged = syncs = 0
    for line in trace.read_text().splitlines():
        if re.search(r" pwrite64\(\d+<[^>]*raft\.db-wal>", line):
            unsynced += 1
        elif re.search(r" f(data)?sync\(\d+<[^>]*raft\.db-wal>", line):
            unsynced = 0
            syncs += 1
        elif re.search(r' write\(1<[^>]*>, "\d+ \d+\\n"', line):
            assert unsynced == 0, line
            acknowledged += 1
    assert acknowledged == 30
    assert syncs >= 30


def test_a_failing_sync_is_never_acknowledged(tmp_path: Path) -> None:
    """The 40th sync and all after it fail; the process ends, and what it promised before is there."""
    strace = needs_strace()
    fault = "inject=fsync,fdatasync:error=EIO:when=40+"
    command = [strace, "-f", "-o", "/dev/null", "-e", fault, *appender(tmp_path, 1, 10_000)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=False)
    assert b"failed: " in done.stderr
    assert b"disk I/O error" in done.stderr
    assert 1 <= done.stdout.count(b"\n") < 40
    check(tmp_path, last_line(done.stdout))


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """As a full disk, for those who may not mount one."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        appender(tmp_path, 1), cwd=ROOT, env=environment(), capture_output=True, check=False, preexec_fn=limited
    )
    assert done.returncode == 1
    assert b"failed: " in done.stderr
    check(tmp_path, last_line(done.stdout))


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "300k") as disk:
        done = subprocess.run(appender(disk / "log", 1), cwd=ROOT, env=environment(), capture_output=True, check=False)
        assert done.returncode == 1
        assert b"failed: " in done.stderr
        acknowledged = last_line(done.stdout)
        subprocess.run(["cp", "-a", str(disk / "log"), str(tmp_path / "copy")], check=True)
    check(tmp_path / "copy", acknowledged)

"""Snapshots on real servers: the log is cut, followers that lag behind it catch up, operators save and restore."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.model.errors import DiscoveryError
from discovery.server import applied_entries, replica, snapshotting
from discovery.server.snapshotting import SnapshotPolicy
from discovery.storage.snapshots import SnapshotStore
from tests.server.rig import Node, cluster, until
from tests.server.test_sessions import create, timers

OFTEN = SnapshotPolicy(threshold=50, interval=0.05, trailing=10)


def snapshot_files(node: Node) -> list[str]:
    return sorted(path.name for path in (node.directory / "snapshots").glob("*.snapshot"))


def log_length(node: Node) -> int:
    raft = node.server.replica._raft
    return raft.last_index - raft.first_index + 1


async def fill(node: Node, count: int, prefix: str = "k") -> None:
    """One after the other, so that every command is a log entry of its own."""
    for number in range(count):
        await node.put(f"{prefix}/{number}", str(number).encode())


async def check(node: Node, count: int, prefix: str = "k") -> None:
    for number in range(count):
        assert await node.get(f"{prefix}/{number}", allow_stale=True) == str(number).encode()


async def test_the_log_is_cut_behind_a_snapshot(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, snapshots=OFTEN) as made:
        (only,) = made.nodes
        await fill(only, 300)
        await until(lambda: log_length(only) < 70, "the log to be cut")
        assert 1 <= len(snapshot_files(only)) <= 2
        await until(lambda: not only.server._writer._later, "the stored log to be cut")
        await only.restart()
        await made.leader()
        await check(only, 300)
        assert only.server.store.index >= 300


async def test_trailing_commands_are_kept_for_slow_followers(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        only.server.set_snapshot_policy(SnapshotPolicy(threshold=1, interval=3600, trailing=40))
        await fill(only, 100)
        await only.server._snapshotting.take()
        assert 40 <= log_length(only) <= 45


async def test_trailing_counts_commands_not_blocks(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        only.server.set_snapshot_policy(SnapshotPolicy(threshold=1, interval=3600, trailing=100))
        await fill(only, 20)
        for start in range(0, 500, 100):
            await asyncio.gather(*(only.put(f"block/{number}") for number in range(start, start + 100)))
        await only.server._snapshotting.take()
        assert log_length(only) <= 4


async def test_a_follower_that_lags_behind_the_log_gets_a_snapshot(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, snapshots=OFTEN) as made:
        await fill(made.nodes[0], 20)
        behind = (await made.followers())[0]
        await behind.stop()
        leader = await made.leader()
        await fill(leader, 200, "while-away")
        await until(lambda: log_length(leader) < 100, "the log to be cut")
        writing = asyncio.create_task(fill(leader, 100, "meanwhile"))
        await behind.start()
        await writing
        await made.settled()
        await check(behind, 20)
        await check(behind, 200, "while-away")
        await check(behind, 100, "meanwhile")
        await behind.restart()
        await made.settled()
        await check(behind, 200, "while-away")


async def test_a_new_server_gets_a_snapshot_and_its_membership(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, snapshots=OFTEN) as made:
        (first,) = made.nodes
        await fill(first, 200)
        await until(lambda: log_length(first) < 100, "the log to be cut")
        new = await made.node().start()
        await until(lambda: new.server.replica.configuration.get(new.id) is not None, "the new one to be told")
        await made.settled()
        await check(new, 200)
        assert new.server.replica.configuration == first.server.replica.configuration


async def test_watchers_of_a_follower_wake_when_a_snapshot_replaces_its_state(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, snapshots=OFTEN) as made:
        await fill(made.nodes[0], 20)
        await made.settled()
        behind = (await made.followers())[0]
        leader = await made.leader()
        fired = behind.server.store.watches.watch((("kv", "k/5"),))
        with behind.isolated():
            await fill(leader, 200, "more")
            await leader.put("k/5", b"changed")
            await until(lambda: log_length(leader) < 100, "the log to be cut")
        await made.settled()
        assert fired.fired
        assert await behind.get("k/5", allow_stale=True) == b"changed"


async def test_nothing_is_captured_while_a_snapshot_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is ahead of what Raft counts as applied then: a snapshot of it would carry the wrong index."""
    async with cluster(tmp_path, 3, snapshots=OFTEN) as made:
        await fill(made.nodes[0], 20)
        behind = (await made.followers())[0]
        await behind.stop()
        leader = await made.leader()
        await fill(leader, 200, "more")
        await until(lambda: log_length(leader) < 100, "the log to be cut")
        await behind.start()
        taker = behind.server._snapshotting
        held: list[object] = []
        restart = behind.server.replica.restart_log_after
        with monkeypatch.context() as patched:
            patched.setattr(behind.server.replica, "restart_log_after", lambda *given: held.append(given))
            await until(lambda: held, "the snapshot to be installed but for the log")
        before = snapshot_files(behind)
        await taker.take()
        assert snapshot_files(behind) == before
        with pytest.raises(DiscoveryError, match="being installed"):
            await behind.server.save_snapshot(datacenter="", token="", stale=True)
        restart(*held[0])  # type: ignore[misc]
        await made.settled()
        await check(behind, 200, "more")


async def test_a_damaged_snapshot_is_taken_anew_before_it_is_sent(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, snapshots=OFTEN) as made:
        await fill(made.nodes[0], 20)
        behind = (await made.followers())[0]
        await behind.stop()
        leader = await made.leader()
        await fill(leader, 200, "more")
        await until(lambda: log_length(leader) < 100, "the log to be cut")
        leader.server.set_snapshot_policy(SnapshotPolicy(threshold=1 << 40, interval=3600))
        await asyncio.sleep(0.2)
        for path in (leader.directory / "snapshots").glob("*.snapshot"):
            path.write_bytes(b"\xff" + path.read_bytes()[1:])
        await behind.start()
        await made.settled()
        await check(behind, 200, "more")


async def test_a_snapshot_that_cannot_be_written_leaves_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        await fill(only, 50)
        length = log_length(only)

        def full(*_arguments: object) -> object:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(SnapshotStore, "save", full)
            await only.server._snapshotting.take()
        assert log_length(only) == length
        await only.put("still", b"here")
        await only.server._snapshotting.take()
        assert snapshot_files(only)


# --- archives --------------------------------------------------------------------------------------------------------


async def save(node: Node, *, stale: bool = False) -> bytes:
    archive, _ = await node.server.save_snapshot(datacenter="dc1", token="", stale=stale)
    return archive


async def restore(node: Node, archive: bytes) -> None:
    await node.server.restore_snapshot(archive, datacenter="dc1", token="")


async def test_saved_through_any_server_and_restored_through_any_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        await fill(made.nodes[0], 20)
        await made.settled()
        archives = [await save(node) for node in made.nodes] + [await save(made.nodes[1], stale=True)]
        before = made.nodes[0].server.store.index
        for node, archive in zip([*made.nodes, made.nodes[0]], archives, strict=True):
            await node.put("new", b"to be gone")
            await restore(node, archive)
            await made.settled()
            for each in made.nodes:
                assert await each.get("new", allow_stale=True) is None
                await check(each, 20)
                assert each.server.store.index > before
        assert len({node.server.store.index for node in made.nodes}) == 1


async def test_restored_into_another_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path / "one", 1) as made:
        await fill(made.nodes[0], 30)
        archive = await save(made.nodes[0])
    async with cluster(tmp_path / "other", 3) as made:
        await made.nodes[0].put("own")
        await restore((await made.followers())[0], archive)
        await made.settled()
        for node in made.nodes:
            await check(node, 30)
            assert await node.get("own", allow_stale=True) is None
        await made.nodes[1].restart()
        await made.settled()
        await check(made.nodes[1], 30)


def damaged(archive: bytes) -> Iterator[bytes]:
    yield b""
    yield b"not an archive"
    yield archive[: len(archive) // 2]
    for position in range(20, len(archive), len(archive) // 7):
        yield archive[:position] + bytes((archive[position] ^ 0x40,)) + archive[position + 1 :]


async def test_a_damaged_archive_changes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        await fill(only, 20)
        archive = await save(only)
        await only.put("kept", b"1")
        for bad in damaged(archive):
            before = only.server.replica.last_index
            with pytest.raises(DiscoveryError):
                await restore(only, bad)
            assert only.server.replica.last_index == before
        assert await only.get("kept") == b"1"


async def test_sessions_get_their_time_again_after_a_restore(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        await create(only, ttl="1h")
        archive = await save(only)
        await restore(only, archive)
        await until(lambda: timers(only) == 1, "the timer")


async def test_a_log_of_few_but_large_commands_is_cut_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "LARGE_LOG", 3_000_000)
    monkeypatch.setattr(applied_entries, "MAX_BYTES", 1_000_000)
    rare = SnapshotPolicy(threshold=1 << 40, interval=3600, trailing=10_000)
    async with cluster(tmp_path, 1, snapshots=rare) as made:
        (only,) = made.nodes
        for number in range(8):
            await only.put(f"large/{number}", b"x" * 500_000)
        await until(lambda: snapshot_files(only) and log_length(only) <= 5, "the log to be cut")
        assert only.server.replica._applied.size < 3_000_000


async def test_a_snapshot_that_breaks_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(tmp_path, 3) as made:
        behind = (await made.followers())[0]
        await behind.stop()
        leader = await made.leader()
        for number in range(12):
            await leader.put(f"large/{number}", str(number).encode() * 250_000)
        leader.server.set_snapshot_policy(SnapshotPolicy(threshold=1, interval=3600, trailing=0))
        await leader.server._snapshotting.take()
        write, written = snapshotting._Intake.write, []

        async def write_and_break(self: snapshotting._Intake, data: bytes) -> None:
            await write(self, data)
            written.append(len(data))
            if len(written) == 5:
                for connection in list(behind.server._listener._connections):
                    connection.transport.abort()

        monkeypatch.setattr(snapshotting._Intake, "write", write_and_break)
        with caplog.at_level(logging.INFO):
            await behind.start()
            await made.settled()
        assert "the snapshot goes on where it broke off" in caplog.text
        size = next((leader.directory / "snapshots").glob("*.snapshot")).stat().st_size
        assert sum(written) <= size
        for number in range(12):
            assert await behind.get(f"large/{number}", allow_stale=True) == str(number).encode() * 250_000

"""A disk that fails or fills up: that server stops, the others go on, and nothing acknowledged is lost."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, NoLeader, OutcomeUnknown
from discovery.storage.errors import CorruptLog, DataDirectoryLocked, DataDirectoryOfAnother, StorageFailed
from discovery.storage.log import LogStore
from tests.server.rig import FAILED, Cluster, Node, cluster, until
from tests.storage.rig import flip_bit, small_disk


def break_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write of this server fails from now on."""
    store = node.server._log_store

    def failing(*_arguments: Any) -> None:
        raise StorageFailed(f"{store.path}: disk I/O error")

    monkeypatch.setattr(store, "append", failing)


async def takes_note(made: Cluster, node: Node) -> None:
    """The failure was reported, as the agent is told to end by it; `cluster` would fail the test otherwise."""
    await until(lambda: node.failures, "the failure to be reported")
    assert isinstance(node.failures.pop(), StorageFailed)
    await node.stop(FAILED)


async def test_a_leader_whose_disk_fails_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.quiet()
        await leader.put("before", b"1")
        break_disk(leader, monkeypatch)
        with pytest.raises(OutcomeUnknown, match="disk failed"):
            await leader.put("during")
        for options in ({}, {"allow_stale": True}, {"require_consistent": True}):
            with pytest.raises(NoLeader):
                await leader.get("before", **options)
        with pytest.raises(NoLeader):
            await leader.put("after")
        await takes_note(made, leader)
        new = await made.leader()
        assert await new.get("before") == b"1"
        await new.put("after")


async def test_a_follower_whose_disk_fails_stops_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, 3) as made:
        leader, broken = await made.quiet(), (await made.followers())[0]
        break_disk(broken, monkeypatch)
        acknowledged = leader.server.replica._raft.progress[broken.id].match
        await leader.put("a", b"1")
        await takes_note(made, broken)
        assert leader.server.replica._raft.progress[broken.id].match == acknowledged
        await leader.put("b", b"2")


async def test_a_single_server_acknowledges_nothing_its_disk_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, 1) as made:
        only = await made.quiet()
        await only.put("before", b"1")
        break_disk(only, monkeypatch)
        with pytest.raises(OutcomeUnknown, match="disk failed"):
            await only.put("during", b"2")
        await takes_note(made, only)
        monkeypatch.undo()
        await only.start()
        await made.leader()
        assert await only.get("before") == b"1"


async def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "600k") as disk:
        async with cluster(tmp_path / "large") as made:
            nodes = [made.node(expect=3) for _ in range(3)]
            nodes[2].directory = disk / "raft"
            await asyncio.gather(*(node.start() for node in nodes))
            await made.leader()
            written = 0
            while not nodes[2].failures:
                try:
                    await nodes[0].put(f"k{written}", b"x" * 20_000)
                    written += 1
                except DiscoveryError:
                    # The full disk may have been the leader's.
                    continue
            await takes_note(made, nodes[2])
            await made.leader()
            for number in range(written):
                assert await nodes[0].get(f"k{number}") == b"x" * 20_000


async def test_slow_syncs_cost_no_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run beside the event loop: heartbeats and their answers go on."""
    async with cluster(tmp_path, 3) as made:
        leader, slow = await made.leader(), (await made.followers())[0]
        append = LogStore.append

        def slowly(self: LogStore, *arguments: Any) -> None:
            if self is slow.server._log_store:
                time.sleep(1.0)
            append(self, *arguments)

        monkeypatch.setattr(LogStore, "append", slowly)
        term = leader.server.replica.term
        for number in range(10):
            await leader.put(f"k{number}")
            await asyncio.sleep(0.1)
        await made.settled()
        assert (leader.server.replica.is_leader, leader.server.replica.term) == (True, term)


async def test_the_directory_of_another_server(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        await only.put("a")
        await only.stop()
        other = made.node()
        other.directory = only.directory
        with pytest.raises(DataDirectoryOfAnother, match=f"belongs to server {only.id}, not to {other.id}"):
            await other.start()
        await only.start()
        await made.leader()


async def test_a_directory_in_use(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        other = made.node()
        other.directory = only.directory
        with pytest.raises(DataDirectoryLocked):
            await other.start()
        await only.put("a")


def wipe(node: Node) -> None:
    for path in sorted(node.directory.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
        else:
            path.rmdir()


async def test_a_damaged_log_is_named_and_the_machine_can_be_rebuilt(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        victim = (await made.followers())[0]
        for number in range(50):
            await victim.put(f"k{number}", b"x" * 500)
        await made.settled()
        await victim.stop(FAILED)
        database = victim.directory / "raft.db"
        flip_bit(database, database.read_bytes().rindex(b"x" * 400))
        with pytest.raises(CorruptLog, match=r"raft\.db is damaged at index \d+: checksum mismatch"):
            await victim.start()
        rebuilt = made.node(victim.name)
        rebuilt.host = victim.host
        await rebuilt.start()
        await made.settled()
        assert await rebuilt.get("k49", allow_stale=True) == b"x" * 500


async def test_a_server_that_lost_its_disk_may_not_go_on_under_its_old_id(tmp_path: Path) -> None:
    """It has forgotten what it acknowledged and whom it voted for. Once it was removed it may come back as a new one."""
    async with cluster(tmp_path, 3) as made:
        victim = (await made.followers())[0]
        await victim.put("a", b"1")
        await made.settled()
        await victim.stop(FAILED)
        wipe(victim)
        await victim.start()
        await until(lambda: victim.failures, "it to stop")
        assert "this log was damaged, truncated or lost" in str(victim.failures.pop())
        await victim.stop(FAILED)
        leader = await made.leader()
        await leader.call("Operator.RaftRemovePeerByID", r.RaftRemovePeerRequest(id=victim.id))
        wipe(victim)
        await victim.start()
        await until(lambda: victim.id in leader.server.replica.configuration.ids(), "it to be added")
        await made.settled()
        assert victim.id not in leader.voters()
        assert await victim.get("a", allow_stale=True) == b"1"


async def test_a_restart_after_a_failed_start_finds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken must leave the log closed and unlocked."""
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        await only.put("a", b"1")
        await only.stop()
        blocker = await asyncio.start_server(lambda _r, _w: None, only.host, 8300)
        with pytest.raises(OSError, match="in use"):
            await only.start()
        blocker.close()
        await blocker.wait_closed()
        await only.server.stop()
        await only.start()
        await made.leader()
        assert await only.get("a") == b"1"

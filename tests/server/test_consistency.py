"""Who may answer what: consistency modes, forwarding, loss of leadership."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, NoLeader, NotFound, OutcomeUnknown
from discovery.model.records import DirEntry
from tests.server.rig import Node, cluster, until


async def reply_of(node: Node, **options: Any) -> r.IndexedDirEntries:
    reply: r.IndexedDirEntries = await node.call("KVS.Get", r.KeyRequest(key="a", **options))
    return reply


async def test_how_each_mode_is_told(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        follower = (await made.followers())[0]
        await follower.put("a")
        await made.settled()
        for options, level in (({}, "leader"), ({"allow_stale": True}, "stale"), ({"require_consistent": True}, "consistent")):
            reply = await reply_of(follower, **options)
            assert (reply.consistency_level, reply.known_leader) == (level, True)
        assert (await reply_of(await made.leader())).last_contact == 0


async def test_a_leader_cut_off_answers_only_stale_reads(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, rpc_hold_time=0.3) as made:
        old = await made.leader()
        await old.put("a", b"old")
        with old.isolated():
            new = await made.leader(other_than=old)
            await new.put("a", b"new")
            assert await old.get("a", allow_stale=True) == b"old"
            for options in ({}, {"require_consistent": True}):
                with pytest.raises(NoLeader):
                    await old.get("a", **options)
        await made.settled()
        assert await old.get("a") == b"new"


async def test_a_consistent_read_waits_for_a_quorum(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        with old.isolated():
            reading = asyncio.create_task(old.get("a", require_consistent=True))
            new = await made.leader(other_than=old)
            await new.put("a", b"new")
            assert not reading.done()
        # Office was lost before the read was answered; it went to the next leader by itself.
        assert await reading == b"new"


async def test_a_lease_that_ran_out_during_the_read_is_renewed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had been stopped between looking at the lease and answering."""
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        await leader.put("a")
        replica = leader.server.replica
        valid = iter([True, False])
        barriers = []
        read_barrier = replica.read_barrier
        monkeypatch.setattr(replica, "lease_valid", lambda: next(valid))
        monkeypatch.setattr(replica, "read_barrier", lambda: barriers.append(1) or read_barrier())
        assert await leader.get("a") == b"v"
        assert barriers == [1]


async def test_reads_of_one_turn_share_a_round(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        before = leader.metrics.raft_verify_leader.count
        await asyncio.gather(*(leader.get("a", require_consistent=True) for _ in range(50)))
        assert leader.metrics.raft_verify_leader.count - before == 1


async def test_what_was_not_proposed_goes_to_the_next_leader(tmp_path: Path) -> None:
    """Surely nothing happened, so it is safe to ask again."""
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        raft = old.server.replica._raft
        heir = (await made.followers())[0]
        raft.transfer_leadership(heir.id, time.monotonic())
        writing = [asyncio.create_task(old.put(f"k{number}")) for number in range(20)]
        assert await asyncio.gather(*writing) == [True] * 20
        new = await made.leader()
        assert new is heir
        for number in range(20):
            assert await new.get(f"k{number}") == b"v"


async def test_what_was_in_the_log_when_leadership_was_lost_is_unknown(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        with old.isolated():
            with pytest.raises(OutcomeUnknown, match="leadership lost while committing log"):
                await old.put("lost")
            await made.leader(other_than=old)
        await made.settled()
        assert await old.get("lost") is None


async def test_no_quorum_no_leader_no_write(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, rpc_hold_time=0.3) as made:
        leader = await made.leader()
        for follower in await made.followers():
            await follower.stop()
        await until(lambda: not leader.server.replica.is_leader, "the leader to step down")
        with pytest.raises(NoLeader):
            await leader.put("a")
        with pytest.raises(NoLeader):
            await leader.get("a")
        assert await leader.get("a", allow_stale=True) is None
        assert (await reply_of(leader, allow_stale=True)).known_leader is False


async def test_a_forwarded_write_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the request was sent: it may have been executed, so it is not sent again."""
    async with cluster(tmp_path, 3) as made:
        leader, follower = await made.leader(), (await made.followers())[0]
        seen = []
        dispatch = leader.server.endpoints.ask

        async def ask(method: str, request: Any) -> Any:
            seen.append(method)
            await dispatch(method, request)
            connections = list(leader.server._listener._connections)
            for connection in connections:
                connection.transport.abort()
            await asyncio.sleep(1)

        monkeypatch.setattr(leader.server.endpoints, "ask", ask)
        with pytest.raises(OutcomeUnknown):
            await follower.put("a")
        assert seen == ["KVS.Apply"]


async def test_a_forwarded_read_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster(tmp_path, 3) as made:
        leader, follower = await made.leader(), (await made.followers())[0]
        await leader.put("a", b"1")
        dispatch = leader.server.endpoints.ask
        seen = []

        async def ask(method: str, request: Any) -> Any:
            seen.append(method)
            if len(seen) == 1:
                for connection in list(leader.server._listener._connections):
                    connection.transport.abort()
                await asyncio.sleep(1)
            return await dispatch(method, request)

        monkeypatch.setattr(leader.server.endpoints, "ask", ask)
        assert await follower.get("a") == b"1"
        assert len(seen) == 2


async def test_refusals_come_through_a_follower_as_they_are(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader, follower = await made.leader(), (await made.followers())[0]
        unknown = r.PreparedQueryExecuteRequest(query_id_or_name="nope")
        with pytest.raises(NotFound, match="Query not found"):
            await leader.call("PreparedQuery.Execute", unknown)
        with pytest.raises(NotFound, match="Query not found"):
            await follower.call("PreparedQuery.Execute", unknown)
        bad = r.KVSRequest(op="explode", dir_ent=DirEntry(key="a"))
        with pytest.raises(DiscoveryError, match=r"^Invalid KVS operation 'explode'$"):
            await leader.call("KVS.Apply", bad)
        with pytest.raises(DiscoveryError, match=r"^rpc error making call: Invalid KVS operation 'explode'$"):
            await follower.call("KVS.Apply", bad)


async def test_what_the_log_cannot_hold_fails_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        bad = r.KVSRequest(op="set", dir_ent=DirEntry(key="a\ud800", value=b""))
        results = await asyncio.gather(only.put("before"), only.call("KVS.Apply", bad), only.put("after"), return_exceptions=True)
        assert results[0] is True
        assert results[2] is True
        assert isinstance(results[1], DiscoveryError)
        assert "can't be stored" in str(results[1])


async def test_large_values_travel_in_small_blocks(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        before = leader.server.replica.last_index
        await asyncio.gather(*(leader.put(f"large/{number}", b"x" * 500_000) for number in range(24)))
        assert leader.server.replica.last_index - before >= 12
        await made.settled()
        for node in made.nodes:
            for number in range(24):
                assert await node.get(f"large/{number}", allow_stale=True) == b"x" * 500_000

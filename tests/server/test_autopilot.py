"""Autopilot on real servers: votes, zones, clean-up, what it tells; and the operator's own changes."""

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discovery.model import requests as r
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError
from discovery.model.records import AutopilotConfig, RaftServer
from discovery.server import autopilot
from discovery.server.autopilot import DEFAULTS
from tests.server.rig import ALIVE, FAILED, Cluster, Node, cluster, node_id, until

QUICK: dict[str, Any] = {"autopilot_interval": 0.2, "server_health_interval": 0.1}


def settings(**changes: Any) -> AutopilotConfig:
    quick = {"server_stabilization_time": Duration.from_seconds(0.3), "last_contact_threshold": Duration.from_seconds(2)}
    return msgspec.structs.replace(DEFAULTS, **quick, **changes)


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autopilot, "SILENCE", 0.5)


async def health(node: Node) -> r.OperatorHealthReply:
    reply: r.OperatorHealthReply = await node.call("Operator.ServerHealth", r.DCSpecificRequest())
    return reply


async def state(node: Node) -> r.AutopilotState:
    reply: r.AutopilotState = await node.call("Operator.AutopilotState", r.DCSpecificRequest())
    return reply


async def in_zone(node: Node, zone: str) -> None:
    """What the agent of that server would do for `node_meta { zone = … }`."""
    leader = await node.cluster.leader()
    request = r.RegisterRequest(node=node.name, id=node.id, address=node.host, node_meta={"zone": zone})
    await leader.call("Catalog.Register", request)


async def three_zones(made: Cluster) -> list[Node]:
    """Five servers over the zones a (two), b (two) and c, all told apart by their node metadata."""
    nodes = await made.bootstrap(5)
    for node, zone in zip(nodes, "aabbc", strict=True):
        await in_zone(node, zone)
    return nodes


async def voters_become(made: Cluster, wanted: set[str]) -> None:
    leader = await made.leader()
    await until(lambda: leader.voters() == wanted, f"the votes to be with {sorted(wanted)}")


# --- votes -----------------------------------------------------------------------------------------------------------


async def test_a_new_server_gets_its_vote_when_it_is_stable(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(), **QUICK) as made:
        leader = await made.leader()
        new = await made.node().start()
        await until(lambda: leader.server.replica.configuration.get(new.id) is not None, "the new one to be added")
        assert new.id not in leader.voters()
        loop = asyncio.get_running_loop()
        added = loop.time()
        await until(lambda: new.id in leader.voters(), "its vote")
        assert loop.time() - added >= 0.2


async def test_a_read_replica_gets_none(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, autopilot=settings(), **QUICK) as made:
        leader = await made.leader()
        replica = await made.node(read_replica="1").start()
        other = await made.node().start()
        await until(lambda: other.id in leader.voters(), "the vote of the other")
        assert replica.id not in leader.voters()
        shown = (await state(leader)).servers[replica.id]
        assert (shown.read_replica, shown.node_type, shown.status) == (True, "read-replica", "non-voter")


async def test_one_voter_a_zone_and_a_standby_takes_over(tmp_path: Path) -> None:
    async with cluster(tmp_path, autopilot=settings(redundancy_zone_tag="zone", cleanup_dead_servers=False), **QUICK) as made:
        await three_zones(made)
        leader = await made.leader()
        await until(lambda: len(leader.voters()) == 3, "one voter in each zone")
        shown = (await state(leader)).redundancy_zones
        assert shown is not None
        assert {zone: len(each.servers) for zone, each in shown.items()} == {"a": 2, "b": 2, "c": 1}
        assert {zone: len(each.voters) for zone, each in shown.items()} == {"a": 1, "b": 1, "c": 1}
        zone_of = dict(zip((node.id for node in made.nodes), "aabbc", strict=True))
        victim = next(
            node for node in made.nodes if node.id in leader.voters() and node is not leader and zone_of[node.id] != "c"
        )
        standby = next(node for node in made.nodes if zone_of[node.id] == zone_of[victim.id] and node is not victim)
        await victim.stop(FAILED)
        await until(lambda: standby.id in leader.voters() and victim.id not in leader.voters(), "the standby to take over")
        assert len(leader.voters()) == 3


async def test_five_servers_outlive_a_zone(tmp_path: Path) -> None:
    async with cluster(tmp_path, autopilot=settings(redundancy_zone_tag="zone", cleanup_dead_servers=False), **QUICK) as made:
        nodes = await three_zones(made)
        leader = await made.leader()
        await until(lambda: len(leader.voters()) == 3, "one voter in each zone")
        await leader.put("a", b"1")
        lost = nodes[:2]
        await asyncio.gather(*(node.stop(FAILED) for node in lost))
        survivor = nodes[4]
        assert await survivor.get("a") == b"1"
        await voters_become(made, {node.id for node in nodes[2:]})
        leader = await made.leader()
        another = next(node for node in nodes[2:] if node is not leader)
        await another.stop(FAILED)
        assert await leader.put("b") is True


# --- clean-up --------------------------------------------------------------------------------------------------------


async def test_a_dead_server_is_removed_and_its_member_told_to_have_left(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(), **QUICK) as made:
        leader = await made.leader()
        dead = (await made.followers())[0]
        await dead.stop(FAILED)
        await until(lambda: dead.id not in leader.voters(), "the dead one to be removed")
        await until(lambda: made.pool.forced_out == [dead.name], "gossip to be told")
        assert len(leader.voters()) == 2


async def test_the_dead_stay_if_that_is_wanted(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(cleanup_dead_servers=False), **QUICK) as made:
        leader = await made.leader()
        dead = (await made.followers())[0]
        await dead.stop(FAILED)
        await until(lambda: not _healthy(leader, dead), "the failure to be seen")
        await asyncio.sleep(1)
        assert dead.id in leader.voters()


def _healthy(leader: Node, of: Node) -> bool:
    return next(each.candidate.healthy for each in leader.server.autopilot.observe() if each.server.id == of.id)


async def test_a_server_that_gossip_misses_but_raft_hears_is_not_dead(tmp_path: Path) -> None:
    """Its UDP is filtered, or gossip has only just started on the leader."""
    async with cluster(tmp_path, 3, autopilot=settings(), **QUICK) as made:
        leader = await made.leader()
        odd, missing = await made.followers()
        made.pool.set_status(odd.name, FAILED)
        made.pool.members.pop(missing.name)
        await asyncio.sleep(1.5)
        assert leader.voters() == {node.id for node in made.nodes}


async def test_a_server_that_nobody_knows_any_more_is_removed(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(), **QUICK) as made:
        leader = await made.leader()
        gone = (await made.followers())[0]
        await gone.stop(ALIVE)
        made.pool.members.pop(gone.name)
        await until(lambda: gone.id not in leader.voters(), "the unknown one to be removed")


# --- what it tells ---------------------------------------------------------------------------------------------------


async def test_health_and_state(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(cleanup_dead_servers=False), **QUICK) as made:
        leader = await made.quiet()
        follower, failing = await made.followers()
        told = await health(follower)
        assert (told.healthy, told.failure_tolerance) == (True, 1)
        row = next(each for each in told.servers if each.leader)
        assert (row.id, row.name, row.address) == (leader.id, leader.name, leader.address)
        assert (row.serf_status, row.version, row.last_contact, row.voter) == ("alive", "1.8.7", "0s", True)
        assert row.last_term == leader.server.replica.term
        assert row.last_index == leader.server.replica.last_index
        await failing.stop(FAILED)
        told = await health(follower)
        assert (told.healthy, told.failure_tolerance) == (False, 0)
        row = next(each for each in told.servers if each.id == failing.id)
        assert (row.healthy, row.serf_status, row.last_contact) == (False, "failed", "-1ns")
        shown = await state(follower)
        assert (shown.leader, sorted(shown.voters)) == (leader.id, sorted(node.id for node in made.nodes))
        assert {each.status for each in shown.servers.values()} == {"leader", "voter"}
        assert leader.metrics.autopilot_healthy.value == 0
        document = msgspec.json.decode(msgspec.json.encode(shown))
        assert {"Healthy", "FailureTolerance", "OptimisticFailureTolerance", "Servers", "Leader", "Voters"} <= document.keys()
        assert "RedundancyZones" not in document


async def test_a_follower_that_lags_is_not_healthy(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, autopilot=settings(max_trailing_logs=5), **QUICK) as made:
        leader = await made.leader()
        slow = (await made.followers())[0]
        with slow.isolated():
            for number in range(8):
                await leader.put(f"k{number}")
            assert not _healthy(leader, slow)
        await until(lambda: _healthy(leader, slow), "it to catch up")


async def test_settings_are_stored_once_and_then_belong_to_the_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, autopilot=settings(max_trailing_logs=99)) as made:
        (only,) = made.nodes
        await until(lambda: only.server.store.autopilot_config().value is not None, "the first settings")
        stored: AutopilotConfig = await only.call("Operator.AutopilotGetConfiguration", r.DCSpecificRequest())
        assert stored.max_trailing_logs == 99
        made.options["autopilot"] = settings(max_trailing_logs=1)
        await only.restart()
        await made.leader()
        stored = await only.call("Operator.AutopilotGetConfiguration", r.DCSpecificRequest())
        assert stored.max_trailing_logs == 99
        changed = msgspec.structs.replace(stored, min_quorum=3)
        assert await only.call("Operator.AutopilotSetConfiguration", r.AutopilotSetRequest(config=changed, cas=True)) is True
        assert await only.call("Operator.AutopilotSetConfiguration", r.AutopilotSetRequest(config=changed, cas=True)) is False
        assert only.server.autopilot.settings.min_quorum == 3


# --- the operator ----------------------------------------------------------------------------------------------------


async def test_the_raft_configuration(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader, follower = await made.leader(), (await made.followers())[0]
        for request in (r.DCSpecificRequest(), r.DCSpecificRequest(allow_stale=True)):
            reply: r.RaftConfigurationResponse = await follower.call("Operator.RaftGetConfiguration", request)
            wanted = [
                RaftServer(
                    id=node.id, node=node.name, address=node.address, leader=node is leader, protocol_version="3", voter=True
                )
                for node in made.nodes
            ]
            assert sorted(reply.servers, key=lambda each: each.id) == wanted


@pytest.mark.parametrize("by", ["id", "address"])
async def test_removing_a_peer(tmp_path: Path, by: str) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        victim, asked = await made.followers()
        await made.quiet()
        made.pool.members.pop(victim.name)
        made.pool.listeners.remove(victim.server)
        method = "Operator.RaftRemovePeerByID" if by == "id" else "Operator.RaftRemovePeerByAddress"
        await asked.call(method, r.RaftRemovePeerRequest(**{by: getattr(victim, by)}))
        assert leader.voters() == {leader.id, asked.id}
        made.pool.listeners.append(victim.server)
        with pytest.raises(DiscoveryError, match="was not found in the Raft configuration"):
            await asked.call(method, r.RaftRemovePeerRequest(**{by: getattr(victim, by)}))


async def test_removing_the_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        made.pool.members.pop(old.name)
        made.pool.listeners.remove(old.server)
        await old.call("Operator.RaftRemovePeerByID", r.RaftRemovePeerRequest(id=old.id))
        new = await made.leader(other_than=old)
        await until(lambda: old.id not in new.voters(), "the removal")
        await new.put("a")


async def test_a_leader_that_leaves_tells_what_it_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it steps down before it has applied it, as here, where a pass of apply takes one entry alone."""
    async with cluster(tmp_path, 3) as made:
        old = await made.quiet()
        monkeypatch.setattr("discovery.server.replica.APPLY_BUDGET", 0.0)
        made.pool.members.pop(old.name)
        made.pool.listeners.remove(old.server)
        with contextlib.ExitStack() as cut_off:
            for each in await made.followers():
                cut_off.enter_context(each.isolated())
            write = await _proposed(old, old.put("a"))
            removal = await _proposed(old, old.call("Operator.RaftRemovePeerByID", r.RaftRemovePeerRequest(id=old.id)))
        assert await write is True
        await removal
        assert await (await made.leader(other_than=old)).get("a") == b"v"


async def _proposed(leader: Node, request: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """The request on its way, once it stands in the leader's log."""
    before = leader.server.replica.last_index
    task = asyncio.create_task(request)
    await until(lambda: leader.server.replica.last_index > before, "the entry in the log")
    return task


async def test_transferring_leadership(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old, target = await made.leader(), (await made.followers())[0]
        reply: r.TransferLeaderResponse = await target.call("Operator.TransferLeader", r.TransferLeaderRequest(id=target.id))
        assert reply.success
        assert await made.leader() is target
        await old.call("Operator.TransferLeader", r.TransferLeaderRequest())
        assert await made.leader(other_than=target) is not target


async def test_transfers_that_cannot_be(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        with pytest.raises(DiscoveryError, match='id "nobody" was not found in the Raft configuration'):
            await leader.call("Operator.TransferLeader", r.TransferLeaderRequest(id="nobody"))
        with pytest.raises(DiscoveryError, match="is not another voter"):
            await leader.call("Operator.TransferLeader", r.TransferLeaderRequest(id=leader.id))
        silent = (await made.followers())[0]
        with silent.isolated():
            await leader.put("a")
            with pytest.raises(DiscoveryError, match="leadership transfer timeout"):
                await leader.call("Operator.TransferLeader", r.TransferLeaderRequest(id=silent.id))
        assert leader.server.replica.is_leader
        assert await leader.put("b") is True


async def test_two_changes_of_members_at_once_go_one_after_the_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        replica = only.server.replica
        await asyncio.gather(
            *(replica.add_server(node_id(900 + number), f"127.0.22.251:{number + 1}", voter=False) for number in range(5))
        )
        assert len(replica.configuration.servers) == 6


async def test_who_asks_before_there_are_settings_gets_the_first(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        node = await made.node(expect=1).start()
        assert node.server.store.autopilot_config().value is None
        found = await node.call("Operator.AutopilotGetConfiguration", r.DCSpecificRequest())
        assert found is not None
        assert found == node.server.store.autopilot_config().value

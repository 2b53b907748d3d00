"""`bootstrap_expect`: the cluster begins once, with one configuration, and only when all agree."""

import asyncio
from pathlib import Path

import pytest

from discovery.model import requests as r
from discovery.model.errors import NoLeader
from tests.server.rig import FAILED, LEFT, Cluster, Node, cluster, until


def waiting_for(node: Node) -> str:
    return node.server._bootstrap.waiting_for


async def test_two_of_three_wait_for_the_third(tmp_path: Path) -> None:
    async with cluster(tmp_path, rpc_hold_time=0.2) as made:
        first, second, third = (made.node(expect=3) for _ in range(3))
        await first.start()
        await second.start()
        await until(lambda: "expecting 3 servers, see 2" in waiting_for(first), "the second to be seen")
        with pytest.raises(NoLeader) as refused:
            await first.put("a")
        assert "expecting 3 servers, see 2: server1" in refused.value.reason
        assert first.server.replica.is_virgin
        await third.start()
        leader = await made.leader()
        assert leader.voters() == {first.id, second.id, third.id}
        assert waiting_for(first) == ""


async def test_all_write_the_same_first_entry(tmp_path: Path) -> None:
    async with cluster(tmp_path, 5) as made:
        await made.settled()
        first_entries = {node.server.replica._raft._log.entry(1).data for node in made.nodes}
        assert len(first_entries) == 1


async def test_a_server_that_comes_later_is_added_and_never_begins_anew(tmp_path: Path) -> None:
    """Its own bootstrap_expect is met by the servers it sees, which have a cluster already."""
    async with cluster(tmp_path, 3) as made:
        late = await made.node(expect=3).start()
        leader = await made.leader()
        await until(lambda: late.server.replica.configuration.get(late.id) is not None, "the fourth to be told")
        assert late.server.replica.configuration == leader.server.replica.configuration
        assert late.id not in leader.voters()
        # Of three, or of four once the late one counts.
        assert "already has a cluster of" in waiting_for(late) or not waiting_for(late)


async def test_different_expectations_form_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        two, three = made.node(expect=2), made.node(expect=3)
        await two.start()
        await three.start()
        await until(lambda: "server2 expects 3 servers, this one 2" in waiting_for(two), "the disagreement")
        assert two.server.replica.is_virgin
        assert three.server.replica.is_virgin


async def test_a_failed_server_holds_the_forming_up_until_it_is_gone(tmp_path: Path) -> None:
    """It may be alive behind a partition, and have formed a cluster there."""
    async with cluster(tmp_path) as made:
        nodes = [made.node(expect=2) for _ in range(2)]
        ghost = made.node("ghost")
        made.pool.put(ghost.member())
        made.pool.set_status("ghost", FAILED)
        for node in nodes:
            await node.start()
        await until(lambda: "server ghost" in waiting_for(nodes[0]), "the failed one to be noticed")
        assert nodes[0].server.replica.is_virgin
        made.pool.set_status("ghost", LEFT)
        leader = await made.leader()
        assert leader.voters() == {node.id for node in nodes}


async def agreement(node: Node, ids: list[str]) -> r.BootstrapReply:
    reply: r.BootstrapReply = await node.call("Status.Bootstrap", r.BootstrapRequest(servers=ids))
    return reply


async def quiet_pair(made: Cluster) -> tuple[Node, Node]:
    """Two servers without expectations of their own: they only answer."""
    first, second = made.node(), made.node()
    await first.start()
    await second.start()
    return first, second


async def test_no_agreement_on_a_set_that_is_not_what_is_seen(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        first, second = await quiet_pair(made)
        assert (await agreement(first, [first.id, second.id])).agreed
        assert not (await agreement(first, [first.id])).agreed
        assert not (await agreement(first, [first.id, second.id, "another"])).agreed


async def test_no_agreement_on_a_second_set_right_after_the_first(tmp_path: Path) -> None:
    """Two sets that share a server could both be formed otherwise, while gossip is changing."""
    async with cluster(tmp_path) as made:
        first, second = await quiet_pair(made)
        assert (await agreement(first, [first.id, second.id])).agreed
        third = await made.node().start()
        reply = await agreement(first, [first.id, second.id, third.id])
        assert not reply.agreed
        assert "agreed to other servers a moment ago" in reply.reason
        assert (await agreement(second, [first.id, second.id, third.id])).agreed


async def test_members_of_a_cluster_agree_to_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        reply = await agreement(made.nodes[0], [node.id for node in made.nodes])
        assert (reply.agreed, reply.peers) == (False, 3)


async def test_servers_that_appear_one_by_one_in_any_order_form_one_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        nodes = [made.node(expect=3) for _ in range(5)]
        await asyncio.gather(*(node.start() for node in nodes))
        leader = await made.leader()
        await until(
            lambda: all(node.server.replica.configuration == leader.server.replica.configuration for node in nodes),
            "one configuration",
        )
        assert sum(node.server.replica.is_leader for node in nodes) == 1

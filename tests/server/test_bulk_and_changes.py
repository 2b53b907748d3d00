"""Many registrations in one log entry, and following what changes, on real clusters."""

import asyncio
from pathlib import Path

from discovery.model import requests as r
from discovery.model.records import HealthCheck, NodeService
from tests.server.rig import Node, cluster, until


def registration(number: int, port: int = 80) -> r.RegisterRequest:
    return r.RegisterRequest(
        node=f"n{number % 10}",
        address=f"10.0.0.{number % 10}",
        service=NodeService(id=f"s{number}", service="web", port=port),
        checks=[HealthCheck(check_id=f"c{number}", status="passing", service_id=f"s{number}")],
    )


async def bulk(node: Node, registrations: list[r.RegisterRequest]) -> r.RegisterManyResponse:
    reply: r.RegisterManyResponse = await node.call("Catalog.RegisterMany", r.RegisterManyRequest(registrations=registrations))
    return reply


async def quiet(node: Node) -> None:
    """The leader's own registrations are over."""
    size = len(node.cluster.running())
    await until(lambda: len(node.server.store.service_nodes("consul").value) == size, "the reconciliation")
    await node.cluster.settled()


async def test_many_registrations_are_one_entry(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        await quiet(leader)
        before = (leader.server.replica.last_index, leader.server.store.index)
        follower = next(node for node in made.nodes if node is not leader)
        assert await bulk(follower, [registration(number) for number in range(500)]) == r.RegisterManyResponse(changed=500)
        assert (leader.server.replica.last_index, leader.server.store.index) == (before[0] + 1, before[1] + 1)
        assert len(leader.server.store.service_nodes("web").value) == 500
        await made.settled()
        assert len(follower.server.store.service_nodes("web").value) == 500


async def test_only_what_is_different_goes_through_the_log(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        leader = await made.leader()
        await quiet(leader)
        many = [registration(number) for number in range(50)]
        await bulk(leader, many)
        before = leader.server.store.index
        assert await bulk(leader, many) == r.RegisterManyResponse()
        assert leader.server.store.index == before
        many[7] = registration(7, port=81)
        reply = await bulk(leader, many)
        # Those on the same node that come later might have been meant to follow the change.
        assert reply.changed == len([number for number in range(7, 50) if number % 10 == 7])
        ports = {row.service_id: row.service_port for row in leader.server.store.service_nodes("web").value}
        assert (ports["s7"], ports["s17"]) == (81, 80)


async def test_with_one_bad_registration_none_happens(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        leader = await made.leader()
        await quiet(leader)
        index = leader.server.store.index
        orphan = r.RegisterRequest(node="n1", address="1", checks=[HealthCheck(check_id="x", service_id="none")])
        reply = await bulk(leader, [registration(1), orphan, registration(2), orphan])
        missing = 'failed inserting check: Missing service registration on node "n1"'
        assert [(error.op_index, error.what) for error in reply.errors or ()] == [(1, missing), (3, missing)]
        assert leader.server.store.service_nodes("web").value == []
        reply = await bulk(leader, [registration(1), r.RegisterRequest(address="1")])
        assert [(error.op_index, error.what) for error in reply.errors or ()] == [(1, "Must provide node")]
        assert leader.server.store.index == index + 1


async def test_later_registrations_of_one_node_are_not_passed_over(tmp_path: Path) -> None:
    """The last of a list is what stands in the end, also when it is what stood before."""
    async with cluster(tmp_path, 1) as made:
        leader = await made.leader()
        await quiet(leader)
        await bulk(leader, [registration(1, port=80)])
        await bulk(leader, [registration(1, port=81), registration(1, port=80)])
        (row,) = leader.server.store.service_nodes("web").value
        assert row.service_port == 80


async def test_changes_are_followed_at_any_server(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        await quiet(leader)
        begun: r.ChangesReply = await leader.call("Internal.Changes", r.ChangesRequest())
        assert (begun.changes, begun.complete, begun.index) == ([], True, leader.server.store.index)
        wait = {"min_query_index": begun.index, "max_query_time": 20 * 10**9, "kinds": ["service"]}
        waiting = [
            asyncio.create_task(node.call("Internal.Changes", r.ChangesRequest(allow_stale=stale, **wait)))
            for node in made.nodes
            for stale in (True, False)
        ]
        await until(lambda: sum(node.server.blocking.waiting for node in made.nodes) == len(waiting), "the followers to wait")
        await leader.call("Catalog.Register", registration(1))
        for reply in await asyncio.gather(*waiting):
            assert [(change.kind, change.node_name, change.id) for change in reply.changes] == [("service", "n1", "s1")]
            assert (reply.index, reply.complete) == (begun.index + 1, True)


async def test_a_follower_that_is_ahead_is_told_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        leader = await made.leader()
        ahead = r.ChangesRequest(min_query_index=10**6, max_query_time=20 * 10**9)
        reply: r.ChangesReply = await asyncio.wait_for(leader.call("Internal.Changes", ahead), 5)
        assert (reply.changes, reply.complete) == ([], False)

"""Three real servers: elections, writes and reads through any of them, losses and returns."""

import asyncio
from pathlib import Path

from discovery.server.members import ALIVE
from tests.server.rig import cluster, fresh_host, until


async def test_one_server_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        assert await only.put("a", b"1") is True
        assert await only.get("a") == b"1"
        await only.restart()
        await made.leader()
        assert await only.get("a") == b"1"


async def test_a_write_through_a_follower_is_everywhere(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        for follower in await made.followers():
            assert await follower.put(f"from/{follower.name}", b"x") is True
        await made.settled()
        for node in made.nodes:
            for follower in await made.followers():
                assert await node.get(f"from/{follower.name}", allow_stale=True) == b"x"
                assert await node.get(f"from/{follower.name}") == b"x"
                assert await node.get(f"from/{follower.name}", require_consistent=True) == b"x"


async def test_the_loss_of_any_server_loses_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        for number, victim in enumerate(made.nodes):
            survivor = next(node for node in made.nodes if node is not victim)
            await survivor.put(f"before/{number}", b"b")
            await victim.stop()
            await made.leader()
            await survivor.put(f"during/{number}", b"d")
            await victim.restart()
            await made.settled()
            assert await victim.get(f"before/{number}", allow_stale=True) == b"b"
            assert await victim.get(f"during/{number}", allow_stale=True) == b"d"


async def test_all_restart_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        for number in range(20):
            await made.nodes[0].put(f"k{number}", str(number).encode())
        await asyncio.gather(*(node.stop() for node in made.nodes))
        await asyncio.gather(*(node.start() for node in made.nodes))
        await made.leader()
        for number in range(20):
            assert await made.nodes[1].get(f"k{number}", require_consistent=True) == str(number).encode()


async def test_all_restart_on_other_addresses(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        await made.nodes[0].put("a", b"1")
        await asyncio.gather(*(node.stop() for node in made.nodes))
        for node in made.nodes:
            node.host = fresh_host()
        await asyncio.gather(*(node.start() for node in made.nodes))
        leader = await made.leader()
        assert await made.nodes[0].get("a") == b"1"
        wanted = {node.id: node.address for node in made.nodes}
        await until(lambda: {s.id: s.address for s in leader.server.replica.configuration.servers} == wanted, "the new addresses")
        await until(lambda: len(leader.voters()) == 3, "three voters")


async def test_a_leader_whose_process_ended_is_replaced_before_its_silence_tells(tmp_path: Path) -> None:
    """All sockets close and nobody listens any more, as when a process is killed; nothing is handed over."""
    async with cluster(tmp_path, 3) as made:
        leader = await made.quiet()
        followers = await made.followers()
        told: list[str] = []
        for follower in followers:
            follower.server.replica.gone = told.append  # type: ignore[method-assign]
        await leader.stop(ALIVE)
        await until(lambda: told == [leader.id] * 2, "both followers to notice")


async def test_a_leader_that_only_lost_its_connections_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.quiet()
        follower, other = await made.followers()
        looks: list[bool] = []
        refuses = follower.server._dialer.refuses

        async def looking(address: str, *, timeout: float) -> bool:
            looks.append(await refuses(address, timeout=timeout))
            return looks[-1]

        follower.server._dialer.refuses = looking  # type: ignore[method-assign]
        leader.server._peers.forget(follower.address)
        await until(lambda: len(looks) == 3, "the leader to be looked for")
        assert looks == [False] * 3
        await leader.put("a")
        assert await other.get("a", allow_stale=False) == b"v"
        assert await made.leader() is leader

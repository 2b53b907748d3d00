"""Sessions: the leader ends what is not renewed, over changes of leader too; lock-delay keeps a lost lock free for a while."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from discovery.model import requests as r
from discovery.model.errors import DiscoveryError
from discovery.model.records import DirEntry, Session
from tests.server.rig import Node, cluster, until

SHORT = "300ms"
OPTIONS: dict[str, Any] = {"session_ttl_min": 0.1}


async def create(node: Node, **fields: Any) -> str:
    """A session on a node that is in the catalog, without health checks."""
    await node.register("worker")
    session = Session(node="worker", node_checks=[], **fields)
    answer: str = await node.call("Session.Apply", r.SessionRequest(op="create", session=session))
    return answer


async def destroy(node: Node, session: str) -> None:
    await node.call("Session.Apply", r.SessionRequest(op="destroy", session=Session(id=session)))


async def lock(node: Node, session: str, key: str = "lock") -> bool:
    request = r.KVSRequest(op="lock", dir_ent=DirEntry(key=key, value=b"", session=session))
    return bool(await node.call("KVS.Apply", request))


async def unlock(node: Node, session: str, key: str = "lock") -> bool:
    request = r.KVSRequest(op="unlock", dir_ent=DirEntry(key=key, value=b"", session=session))
    return bool(await node.call("KVS.Apply", request))


async def renew(node: Node, session: str, **options: Any) -> list[Session]:
    reply: r.IndexedSessions = await node.call("Session.Renew", r.SessionSpecificRequest(session_id=session, **options))
    return reply.sessions


def lives(node: Node, session: str) -> bool:
    return node.server.store.session_get(session).value is not None


def timers(node: Node) -> int:
    return node.server.duties.sessions.active


async def test_a_session_ends_after_twice_its_ttl(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, **OPTIONS) as made:
        (only,) = made.nodes
        loop = asyncio.get_running_loop()
        session = await create(only, ttl=SHORT)
        started = loop.time()
        await until(lambda: not lives(only, session), "the session to end")
        assert loop.time() - started >= 2 * 0.3 - 0.1


async def test_renewing_keeps_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, **OPTIONS) as made:
        follower = (await made.followers())[0]
        session = await create(follower, ttl=SHORT)
        for _ in range(8):
            assert [each.id for each in await renew(follower, session)] == [session]
            await asyncio.sleep(0.2)
        assert lives(await made.leader(), session)
        await until(lambda: not lives(follower, session), "the session to end, once nobody renews it")
        assert await renew(follower, session) == []


async def test_a_renewal_that_allows_stale_answers_still_reaches_the_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, **OPTIONS) as made:
        follower, leader = (await made.followers())[0], await made.leader()
        session = await create(follower, ttl="1h")
        await until(lambda: timers(leader) == 1, "the timer")
        (before,) = leader.server.duties.sessions._timers.values()
        await renew(follower, session, allow_stale=True)
        (after,) = leader.server.duties.sessions._timers.values()
        assert after.when() > before.when()
        assert timers(follower) == 0


async def test_without_ttl_nothing_ends(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, **OPTIONS) as made:
        (only,) = made.nodes
        await create(only)
        assert timers(only) == 0


async def test_a_new_leader_gives_every_session_its_full_time(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, **OPTIONS) as made:
        old = await made.leader()
        session = await create(old, ttl="2s")
        await until(lambda: timers(old) == 1, "the timer")
        await asyncio.sleep(1)
        await old.stop()
        new = await made.leader()
        loop = asyncio.get_running_loop()
        (timer,) = new.server.duties.sessions._timers.values()
        assert timer.when() - loop.time() > 3
        assert lives(new, session)
        await old.start()
        assert timers(old) == 0


async def test_a_session_made_shortly_before_the_leader_was_lost_ends_too(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, **OPTIONS) as made:
        old = await made.leader()
        session = await create(old, ttl=SHORT)
        await old.stop()
        new = await made.leader()
        await until(lambda: not lives(new, session), "the session to end")


@pytest.mark.parametrize(("ttl", "limits"), [("1s", "[10s=24h0m0s]"), ("25h", "[10s=24h0m0s]")])
async def test_limits_of_the_ttl(tmp_path: Path, ttl: str, limits: str) -> None:
    async with cluster(tmp_path, 1) as made:
        with pytest.raises(DiscoveryError) as refused:
            await create(made.nodes[0], ttl=ttl)
        assert limits in str(refused.value)


# --- lock-delay ------------------------------------------------------------------------------------------------------

DELAY = 400_000_000
"""Nanoseconds."""


async def test_a_lock_lost_by_the_end_of_its_session_stays_free_for_the_delay(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        follower = (await made.followers())[0]
        first, second = await create(follower, lock_delay=DELAY), await create(follower)
        loop = asyncio.get_running_loop()
        assert await lock(follower, first)
        assert not await lock(follower, second)
        await destroy(follower, first)
        lost = loop.time()
        for _ in range(100):
            if await lock(follower, second):
                break
            await asyncio.sleep(0.02)
        assert 0.3 <= loop.time() - lost < 2


async def test_plain_writes_are_not_delayed(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        first = await create(only, lock_delay=60 * 10**9)
        assert await lock(only, first)
        await destroy(only, first)
        assert await only.put("lock") is True


async def test_a_lock_given_back_is_free_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        first, second = await create(only, lock_delay=60 * 10**9), await create(only)
        assert await lock(only, first)
        assert await unlock(only, first)
        assert await lock(only, second)


async def test_a_transaction_is_told_about_the_delay(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        first, second = await create(only, lock_delay=60 * 10**9), await create(only)
        await lock(only, first)
        await destroy(only, first)
        ops = [
            r.TxnOp(kv=r.TxnKVOp("set", DirEntry(key="other", value=b"x"))),
            r.TxnOp(kv=r.TxnKVOp("lock", DirEntry(key="lock", value=b"x", session=second))),
        ]
        reply: r.TxnResponse = await only.call("Txn.Apply", r.TxnRequest(ops=ops))
        assert reply.errors == [r.TxnError(op_index=1, what='failed to lock key "lock" due to lock delay')]
        assert await only.get("other") is None


async def test_the_delay_outlives_the_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        first, second = await create(old, lock_delay=60 * 10**9), await create(old)
        await lock(old, first)
        await destroy(old, first)
        await made.settled()
        await old.stop()
        new = await made.leader()
        assert not await lock(new, second)


async def test_sessions_that_ended_before_the_start_delay_nobody(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        first, second = await create(only, lock_delay=60 * 10**9), await create(only)
        await lock(only, first)
        await destroy(only, first)
        assert not await lock(only, second)
        await only.restart()
        await made.leader()
        assert await lock(only, second)

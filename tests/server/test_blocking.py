"""Blocking queries: what wakes them, what does not, and how long they wait."""

import asyncio
import random
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.query import Read
from discovery.model.records import DirEntry
from discovery.server.blocking import BlockingQueries
from discovery.state.store import StateStore
from tests.server.rig import Cluster, Node, cluster, until


def put(store: StateStore, *keys: str) -> None:
    store.apply([c.KV("set", key, b"%d" % store.index) for key in keys])


@pytest.fixture
def store() -> StateStore:
    store = StateStore()
    put(store, "a", "b")
    return store


def queries(store: StateStore, **options: float) -> BlockingQueries:
    return BlockingQueries(store, random.Random(3), **options)


async def waits(query: Awaitable[Any]) -> "asyncio.Task[Any]":
    """A task that has come to wait, as opposed to one that answers at once."""
    task = asyncio.ensure_future(query)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_an_index_behind_is_answered_at_once(store: StateStore) -> None:
    blocking = queries(store)
    for index in (0, store.index - 1):
        assert (await asyncio.wait_for(blocking.run(lambda: store.kv_get("b"), index, 60), 1)).index == 2


async def test_only_what_was_asked_for_wakes(store: StateStore) -> None:
    blocking, asked = queries(store), []

    def question() -> Read[DirEntry | None]:
        asked.append(1)
        return store.kv_get("a")

    task = await waits(blocking.run(question, 1, 60))
    assert (len(asked), blocking.waiting) == (1, 1)
    put(store, "b", "c", "aa")
    await asyncio.sleep(0)
    assert len(asked) == 1
    put(store, "a")
    read = await asyncio.wait_for(task, 1)
    assert read.value is not None
    assert read.index == store.index
    assert (len(asked), blocking.waiting) == (2, 0)


async def test_a_deletion_and_a_creation_wake(store: StateStore) -> None:
    blocking = queries(store)
    task = await waits(blocking.run(lambda: store.kv_get("a"), store.kv_get("a").index, 60))
    store.apply([c.KV("delete", "a")])
    read = await asyncio.wait_for(task, 1)
    assert read.value is None
    task = await waits(blocking.run(lambda: store.kv_get("a"), read.index, 60))
    put(store, "a")
    assert (await asyncio.wait_for(task, 1)).value is not None


async def test_one_command_of_a_block_is_enough_and_many_wake_once(store: StateStore) -> None:
    blocking, asked = queries(store), []

    def question() -> Read[list[DirEntry]]:
        asked.append(1)
        return store.kv_list("")

    task = await waits(blocking.run(question, store.kv_list("").index, 60))
    put(store, "x", "y", "z")
    read = await asyncio.wait_for(task, 1)
    assert read.index == store.index
    assert len(asked) == 2


async def test_at_the_end_of_the_wait_the_same_answer_comes_again(store: StateStore) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    read = await queries(store).run(lambda: store.kv_get("b"), 2, 0.2)
    assert read.index == 2
    assert loop.time() - started >= 0.2


async def test_a_restore_answers_all_at_once(store: StateStore) -> None:
    """Their indexes may mean nothing any more: with a higher one they would sleep through the next changes."""
    snapshot = list(store.capture().chunks())
    put(store, *"cdefgh")
    tasks = [
        await waits(queries(store).run(partial(store.kv_get, key), index, 60)) for key, index in (("a", 8), ("z", 1), ("b", 99))
    ]
    store.restore(snapshot)
    assert [(await asyncio.wait_for(task, 1)).index for task in tasks] == [1, 1, 2]


async def test_waits_are_bounded_and_spread() -> None:
    """By default 5 minutes, at most 10, and up to a sixteenth more so that watchers do not come back in step."""
    deadlines = []

    store = StateStore()
    put(store, "a")
    for wait, low, high in ((0.0, 300, 318.75), (60.0, 60, 63.75), (3600.0, 600, 637.5)):
        for seed in range(50):
            blocking = BlockingQueries(store, random.Random(seed))
            deadline = blocking.deadline(0.0, wait)
            deadlines.append(deadline)
            assert low <= deadline <= high
    assert len(set(deadlines)) == 150


async def test_one_who_gives_up_is_not_asked_for_any_more(store: StateStore) -> None:
    blocking, asked = queries(store), []

    def question() -> Read[DirEntry | None]:
        asked.append(1)
        return store.kv_get("a")

    task = await waits(blocking.run(question, 5, 60))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    put(store, "a")
    await asyncio.sleep(0)
    assert (len(asked), blocking.waiting) == (1, 0)


async def test_confirmation_comes_before_every_further_look(store: StateStore) -> None:
    order: list[str] = []

    async def confirm() -> None:
        order.append("confirm")

    def question() -> Read[DirEntry | None]:
        order.append("look")
        return store.kv_get("a")

    task = await waits(queries(store).run(question, 1, 60, confirm))
    put(store, "a")
    await asyncio.wait_for(task, 1)
    assert order == ["look", "confirm", "look"]


# --- on servers ------------------------------------------------------------------------------------------------------


async def watch(node: Node, index: int, **options: Any) -> "asyncio.Task[r.IndexedDirEntries]":
    request = r.KeyRequest(key="a", min_query_index=index, max_query_time=60 * 10**9, **options)
    before = sum(each.server.blocking.waiting for each in node.cluster.running())
    task = asyncio.create_task(node.call("KVS.Get", request))
    await until(lambda: sum(each.server.blocking.waiting for each in node.cluster.running()) > before, "the query to wait")
    return task


async def index_of(node: Node) -> int:
    return int((await node.call("KVS.Get", r.KeyRequest(key="a"))).index)


async def check_wakes(made: Cluster, node: Node, **options: Any) -> None:
    index = await index_of(node)
    task = await watch(node, index, **options)
    await node.put("a", str(index).encode())
    reply = await asyncio.wait_for(task, 5)
    assert reply.index > index
    assert reply.entries is not None
    assert reply.entries[0].value == str(index).encode()


@pytest.mark.parametrize("options", [{}, {"allow_stale": True}, {"require_consistent": True}])
async def test_through_leader_and_follower(tmp_path: Path, options: dict[str, bool]) -> None:
    async with cluster(tmp_path, 3) as made:
        await made.nodes[0].put("a")
        await made.settled()
        for node in made.nodes:
            await check_wakes(made, node, **options)


async def test_a_consistent_watcher_of_a_deposed_leader_hears_from_the_next(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        old = await made.leader()
        await old.put("a")
        task = await watch(old, await index_of(old), require_consistent=True)
        with old.isolated():
            new = await made.leader(other_than=old)
            await new.put("a", b"by the new leader")
        reply = await asyncio.wait_for(task, 10)
        assert reply.entries is not None
        assert reply.entries[0].value == b"by the new leader"


async def test_an_unrelated_write_wakes_no_query_of_a_follower(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        follower = (await made.followers())[0]
        await follower.put("a")
        await made.settled()
        task = await watch(follower, await index_of(follower), allow_stale=True)
        for number in range(10):
            await follower.put(f"other/{number}")
        await made.settled()
        assert not task.done()
        task.cancel()

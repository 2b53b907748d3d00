"""Long lists are made bit by bit: what is written meanwhile is not in them, but wakes whoever watches."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.records import DirEntry
from discovery.server import long_lists
from discovery.server.long_lists import list_keys
from discovery.state import store as state_store
from discovery.state.store import StateStore
from tests.server.rig import cluster


def filled(keys: int) -> StateStore:
    store = StateStore()
    for number in range(keys):
        store.apply([c.KV("set", f"{'ab'[number % 2]}/{number:05d}", b"v")])
    return store


def delete(store: StateStore, key: str) -> None:
    store.apply([c.KV("delete", key)])


@pytest.mark.parametrize("prefix", ["", "a/", "b/0", "none/"])
async def test_it_is_the_list_of_the_time_of_the_call(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "_PIECE", 50)
    store = filled(1000)
    delete(store, "a/00100")
    expected = store.kv_list(prefix)
    listing = asyncio.create_task(list_keys(store.kv_view(prefix)))
    for number in range(0, 1000, 7):
        await asyncio.sleep(0)
        store.apply([c.KV("set", f"a/{number:05d}", b"new")])
        delete(store, f"b/{number:05d}")
    assert await listing == expected


async def test_an_answer_made_bit_by_bit_is_whole_and_its_watch_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_store, "LONG_LIST", 1000)
    monkeypatch.setattr(long_lists, "_PIECE", 1)
    written = asyncio.Event()
    monkeypatch.setattr(long_lists, "asyncio", SimpleNamespace(sleep=lambda _seconds: written.wait()))
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        await asyncio.gather(*(leader.put(f"many/{number}") for number in range(3000)))
        assert leader.server.store.kv_is_long("many/")
        assert not leader.server.store.kv_is_long("few/")
        expected = leader.server.store.kv_list("many/")
        asking = asyncio.create_task(leader.server.ask("KVS.List", r.KeyRequest(key="many/")))
        await asyncio.sleep(0)
        await leader.put("many/new")
        assert not asking.done()
        written.set()
        answer = await asking
        assert (answer.reply.index, answer.reply.entries) == (expected.index, expected.value)
        fired = asyncio.Event()
        answer.watch.on_fire(fired.set)
        await asyncio.wait_for(fired.wait(), 10)
        follower = (await made.followers())[0]
        there = await follower.call("KVS.List", r.KeyRequest(key="many/"))
        assert there.entries == leader.server.store.kv_list("many/").value
        assert DirEntry(key="many/new", value=b"v", create_index=there.index, modify_index=there.index) in there.entries

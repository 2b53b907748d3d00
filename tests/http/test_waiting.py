"""Blocking queries that wait for a kept answer: who wakes, who asks, and that the answer is encoded once for all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from discovery.http import call as call_module
from discovery.http.options import HttpOptions
from discovery.model.delegate import LeaderContact
from discovery.model.errors import NoLeader
from discovery.model.records import DirEntry
from discovery.model.requests import IndexedDirEntries
from tests.http.conftest import Client, Response, World, encode
from tests.http.fakes import META, FakeWatch

INDEX = 7
CROWD = 20


def _reply(index: int) -> IndexedDirEntries:
    return IndexedDirEntries(entries=[DirEntry(key="a", value=b"%d" % index)], **META | {"index": index})


def _change(world: World, index: int) -> None:
    """Change what the delegate answers, and fire the watch over what it answered before."""
    world.delegate.answers["KVS.Get"] = _reply(index)
    _fire(world)


def _fire(world: World) -> None:
    before, world.delegate.watch = world.delegate.watch, FakeWatch()
    before.fired = True


def _index(response: Response) -> int:
    return int(response.headers["X-Consul-Index"])


async def _until(probe: Callable[[], bool]) -> None:
    while not probe():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def _waiting(world: World, target: str = "/v1/kv/a?index=7", **headers: str) -> Client:
    """A client that has seen the answer and waits for another."""
    client = await world.connect()
    now = target.replace("index=7", "")
    assert _index(await client.request("GET", now, **headers)) == INDEX
    before = world.server.waiting
    client.send(encode("GET", target, b"", headers))
    await _until(lambda: world.server.waiting > before)
    return client


async def _crowd(world: World, size: int = CROWD) -> list[Client]:
    return [await _waiting(world) for _ in range(size)]


async def _all(clients: list[Client]) -> list[Response]:
    return await asyncio.gather(*(client.receive() for client in clients))


@pytest.fixture(autouse=True)
def first_answer(world: World) -> None:
    world.delegate.answers["KVS.Get"] = _reply(INDEX)


async def test_all_are_told_what_one_of_them_asked_and_it_is_encoded_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = await _crowd(world)
    assert len(world.delegate.calls) == 1
    encoded = []
    encode_list = call_module.list_to_json

    def counting(items: Any, **options: Any) -> Awaitable[bytes]:
        encoded.append(items)
        return encode_list(items, **options)

    monkeypatch.setattr(call_module, "list_to_json", counting)
    _change(world, 8)
    answers = await _all(clients)
    assert {(_index(answer), answer.json()[0]["Value"]) for answer in answers} == {(8, "OA==")}
    assert (len(world.delegate.calls), len(encoded), world.server.waiting) == (2, 1, 0)
    assert world.metrics.api_http.of("GET", "v1_kv_").count == 2 * CROWD


async def test_again_and_again(world: World) -> None:
    clients = await _crowd(world)
    for index in range(8, 12):
        _change(world, index)
        assert {_index(answer) for answer in await _all(clients)} == {index}
        for client in clients:
            client.send(encode("GET", f"/v1/kv/a?index={index}"))
        await _until(lambda: world.server.waiting == CROWD)
    assert len(world.delegate.calls) == 5


async def test_whoever_is_behind_is_answered_at_once(world: World) -> None:
    client = await world.connect()
    for target in ("/v1/kv/a", "/v1/kv/a?index=3", "/v1/kv/a?index=6&wait=1m"):
        assert _index(await client.request("GET", target)) == INDEX
    assert (len(world.delegate.calls), world.server.fast_hits) == (1, 2)


async def test_whoever_is_ahead_asks_alone(world: World) -> None:
    client = await world.connect()
    await client.request("GET", "/v1/kv/a")
    await client.request("GET", "/v1/kv/a?index=9")
    assert world.delegate.last.min_query_index == 9


async def test_the_end_of_the_wait_brings_the_same_answer(world: World) -> None:
    client = await _waiting(world, "/v1/kv/a?index=7&wait=50ms")
    started = asyncio.get_running_loop().time()
    assert _index(await client.receive()) == INDEX
    assert asyncio.get_running_loop().time() - started > 0.03
    assert (len(world.delegate.calls), world.server.waiting) == (1, 0)
    assert _index(await client.request("GET", "/v1/kv/a")) == INDEX


async def test_without_the_lease_at_the_end_of_the_wait_the_long_way_is_gone(world: World) -> None:
    client = await _waiting(world, "/v1/kv/a?index=7&wait=50ms")
    world.delegate.leading = False
    assert _index(await client.receive()) == INDEX
    assert len(world.delegate.calls) == 2
    assert world.delegate.last.min_query_index == 0


async def test_without_the_lease_nobody_waits_here(world: World) -> None:
    client = await world.connect()
    await client.request("GET", "/v1/kv/a")
    world.delegate.leading = False
    await client.request("GET", "/v1/kv/a?index=7")
    assert (world.delegate.last.min_query_index, world.server.waiting) == (INDEX, 0)


@pytest.mark.parametrize("index", [2, INDEX])
async def test_an_index_that_is_not_higher_is_told_too(world: World, index: int) -> None:
    """After a restore."""
    clients = await _crowd(world)
    _change(world, index)
    assert {_index(answer) for answer in await _all(clients)} == {index}
    assert world.delegate.last.min_query_index == 0
    assert len(world.delegate.calls) == 2


async def test_when_the_one_who_asks_goes_away_another_asks(world: World) -> None:
    clients = await _crowd(world)
    asked: asyncio.Queue[int] = asyncio.Queue()
    release = asyncio.Event()

    async def slow() -> IndexedDirEntries:
        asked.put_nowait(1)
        await release.wait()
        return _reply(8)

    world.delegate.answers["KVS.Get"] = lambda _request: slow()
    _fire(world)
    await asked.get()
    clients[0].writer.close()
    await asked.get()
    release.set()
    assert {_index(answer) for answer in await _all(clients[1:])} == {8}
    assert (len(world.delegate.calls), world.server.waiting) == (3, 0)


async def test_when_the_one_who_asks_fails_each_asks_alone(world: World) -> None:
    clients = await _crowd(world)
    world.delegate.answers["KVS.Get"] = NoLeader("two of three are gone")
    world.delegate.watch.fired = True
    answers = await _all(clients)
    assert {(answer.status, answer.text) for answer in answers} == {(500, "No cluster leader (two of three are gone)")}
    assert len(world.delegate.calls) == 1 + CROWD


async def test_an_answer_that_is_old_already_is_good_enough_for_those_who_waited(world: World) -> None:
    """It is newer than their index, and was read after the change. Whoever asks next gets a newer one."""
    clients = await _crowd(world)
    world.delegate.answers["KVS.Get"] = _reply(8)
    world.delegate.watch.fired = True
    assert {_index(answer) for answer in await _all(clients)} == {8}
    assert len(world.delegate.calls) == 2
    await clients[0].request("GET", "/v1/kv/a")
    assert len(world.delegate.calls) == 3


async def test_who_goes_away_is_forgotten(world: World) -> None:
    clients = await _crowd(world)
    watch = world.delegate.watch
    assert len(watch.callbacks) == 1
    for client in clients:
        client.writer.close()
    await _until(lambda: world.server.waiting == 0)
    assert watch.callbacks == []
    _change(world, 8)
    assert _index(await (await world.connect()).request("GET", "/v1/kv/a")) == 8


async def test_a_server_that_stops_lets_them_go(world: World) -> None:
    clients = await _crowd(world)
    await world.server.stop()
    assert all([await client.closed() for client in clients])
    assert world.server.waiting == 0


async def test_what_a_client_sends_meanwhile_is_answered_afterwards(world: World) -> None:
    client = await _waiting(world)
    client.send(encode("GET", "/v1/status/leader"))
    other = await world.connect()
    await other.request("GET", "/v1/status/leader")
    _change(world, 8)
    assert _index(await client.receive()) == 8
    assert (await client.receive()).json() == "127.0.0.1:8300"


async def test_they_wait_on_when_the_answer_is_kept_no_longer() -> None:
    world = World(HttpOptions(kept_answers=1))
    await world.start()
    world.delegate.answers["KVS.Get"] = _reply(INDEX)
    client = await _waiting(world)
    await (await world.connect()).request("GET", "/v1/kv/b")
    _change(world, 8)
    assert _index(await client.receive()) == 8
    await world.stop()


async def test_new_options_count_for_those_who_wait(world: World) -> None:
    clients = await _crowd(world)
    world.server.reconfigure(HttpOptions(response_headers={"X-New": "1"}))
    _change(world, 8)
    assert {answer.headers["X-New"] for answer in await _all(clients)} == {"1"}
    assert len(world.delegate.calls) == 2


@pytest.mark.parametrize("headers", [{"Content_Type": "text/plain"}, {"User_Agent": "other"}, {"Accept": "*/*"}])
async def test_other_clients_share_the_answer(world: World, headers: dict[str, str]) -> None:
    clients = [await _waiting(world), await _waiting(world, **headers)]
    _change(world, 8)
    assert {_index(answer) for answer in await _all(clients)} == {8}
    assert len(world.delegate.calls) == 2


@pytest.mark.parametrize("headers", [{"Accept_Encoding": "gzip"}, {"X_Consul_Token": "t"}])
async def test_other_questions_do_not(world: World, headers: dict[str, str]) -> None:
    clients = [await _waiting(world), await _waiting(world, **headers)]
    _change(world, 8)
    assert {_index(answer) for answer in await _all(clients)} == {8}
    assert len(world.delegate.calls) == 4


async def test_a_consistent_one_is_answered_with_a_quorum_behind_it(world: World) -> None:
    client = await _waiting(world, "/v1/kv/a?consistent&index=7")
    assert world.delegate.confirmations == 0
    _change(world, 8)
    assert _index(await client.receive()) == 8
    assert world.delegate.last.require_consistent
    client.send(encode("GET", "/v1/kv/a?consistent&index=8&wait=20ms"))
    assert _index(await client.receive()) == 8
    assert (world.delegate.confirmations, len(world.delegate.calls)) == (1, 2)


async def test_stale_ones_wait_at_any_server(world: World) -> None:
    world.delegate.leading = False
    clients = [await _waiting(world, "/v1/kv/a?stale&index=7") for _ in range(CROWD)]
    world.delegate.leader_contact = LeaderContact(True, 42 * 10**6)
    _change(world, 8)
    answers = await _all(clients)
    assert {_index(answer) for answer in answers} == {8}
    assert sorted(int(answer.headers["X-Consul-Lastcontact"]) for answer in answers) == [0] + [42] * (CROWD - 1)
    assert world.delegate.last.allow_stale
    assert len(world.delegate.calls) == 2


async def test_one_that_may_not_be_so_stale_does_not(world: World) -> None:
    client = await world.connect()
    await client.request("GET", "/v1/kv/a?max_stale=1s")
    world.delegate.leader_contact = LeaderContact(True, 2 * 10**9)
    await client.request("GET", "/v1/kv/a?max_stale=1s&index=7")
    assert (world.delegate.last.min_query_index, world.server.waiting) == (INDEX, 0)


async def test_when_nothing_may_be_told_everybody_asks_alone(world: World) -> None:
    clients = [await _waiting(world, "/v1/kv/a?stale&index=7") for _ in range(3)]
    world.delegate.leader_contact = None
    _change(world, 8)
    assert {_index(answer) for answer in await _all(clients)} == {8}
    assert len(world.delegate.calls) == 4

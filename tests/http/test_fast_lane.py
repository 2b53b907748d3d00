"""Repeated GETs are answered from kept bytes, and only while those are what a fresh read would give."""

import asyncio
import socket

import pytest

from discovery.http.freshness import Terms
from discovery.http.kept import Kept, KeptAnswers
from discovery.http.options import HttpOptions
from discovery.model.delegate import LeaderContact
from discovery.model.records import DirEntry
from discovery.model.requests import IndexedDirEntries, IndexedNodes
from tests.http.conftest import Client, World, encode
from tests.http.fakes import META, FakeWatch

GET = encode("GET", "/v1/kv/a")


def _value(world: World, value: bytes) -> None:
    """Change what the delegate answers, and fire the watch over what it answered before."""
    world.delegate.watch.fired = True
    world.delegate.watch = FakeWatch()
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[DirEntry(key="a", value=value)], **META)


async def _get(client: Client) -> str:
    client.send(GET)
    return (await client.receive()).json()[0]["Value"]  # type: ignore[no-any-return]


@pytest.fixture
async def client(world: World) -> Client:
    _value(world, b"one")
    return await world.connect()


async def test_the_second_read_is_a_hit(world: World, client: Client) -> None:
    client.send(GET)
    first = await client.receive()
    client.send(GET)
    second = await client.receive()
    assert (first.body, first.headers.keys()) == (second.body, second.headers.keys())
    assert len(world.delegate.calls) == 1
    assert world.server.fast_hits == 1


async def test_other_connections_hit_too(world: World, client: Client) -> None:
    await _get(client)
    await _get(await world.connect())
    assert world.server.fast_hits == 1


async def test_a_request_that_comes_with_its_connection_hits_too(world: World, client: Client) -> None:
    """It is there before aiohttp waits for one."""
    await _get(client)
    for _ in range(5):
        with socket.create_connection(world.server.addresses[0]) as early:
            early.sendall(GET)
            early.setblocking(False)
            loop = asyncio.get_running_loop()
            assert (await loop.sock_recv(early, 1000)).startswith(b"HTTP/1.1 200 OK")
            early.sendall(encode("GET", "/v1/status/leader"))
            assert b"127.0.0.1:8300" in await loop.sock_recv(early, 1000)
    assert world.server.fast_hits == 5


async def test_a_change_is_seen(world: World, client: Client) -> None:
    assert [await _get(client), await _get(client)] == ["b25l", "b25l"]
    _value(world, b"two")
    assert [await _get(client), await _get(client)] == ["dHdv", "dHdv"]
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 2)


async def test_a_change_during_the_read_is_not_kept(world: World, client: Client) -> None:
    world.delegate.watch.fired = True
    await _get(client)
    await _get(client)
    assert world.server.fast_hits == 0


async def test_not_without_the_lease(world: World, client: Client) -> None:
    await _get(client)
    world.delegate.leading = False
    await _get(client)
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 0)
    world.delegate.leading = True
    await _get(client)
    assert world.server.fast_hits == 1


async def test_whoever_has_seen_less_hits_too(world: World, client: Client) -> None:
    for _ in range(3):
        assert (await client.request("GET", "/v1/kv/a?index=3")).status == 200
    assert (len(world.delegate.calls), world.server.fast_hits) == (1, 2)


# --- stale reads -----------------------------------------------------------------------------------------------------


async def _stale(world: World, client: Client, seconds: float, query: str = "?stale", *, known: bool = True) -> tuple[str, int]:
    """What a read is told of the leader, which the server heard of so long ago."""
    world.delegate.leader_contact = LeaderContact(known, int(seconds * 1e9))
    answer = await client.request("GET", f"/v1/kv/a{query}")
    assert answer.json()[0]["Key"] == "a"
    return answer.headers["X-Consul-Knownleader"], int(answer.headers["X-Consul-Lastcontact"])


@pytest.mark.parametrize("query", ["?stale", "?max_stale=1s"])
async def test_a_stale_read_needs_no_lease_and_tells_how_stale_it_is(world: World, client: Client, query: str) -> None:
    world.delegate.leading = False
    assert await _stale(world, client, 0.5, query) == ("true", 0), "as the delegate says"
    assert await _stale(world, client, 0.025, query) == ("true", 25)
    assert await _stale(world, client, 0.5, query, known=False) == ("false", 500)
    assert (len(world.delegate.calls), world.server.fast_hits) == (1, 2)
    _value(world, b"two")
    await _stale(world, client, 0, query)
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 2)


async def test_a_stale_read_names_each_header_once(world: World, client: Client) -> None:
    await _stale(world, client, 1)
    client.send(encode("GET", "/v1/kv/a?stale"))
    head = await client.reader.readuntil(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]]
    assert len(names) == len(set(names))
    assert {b"x-consul-index", b"x-consul-lastcontact", b"x-consul-knownleader"} <= set(names)


async def test_what_is_kept_is_not_given_when_it_is_too_old(world: World, client: Client) -> None:
    await _stale(world, client, 0, "?max_stale=1s")
    await _stale(world, client, 0.9, "?max_stale=1s")
    assert (len(world.delegate.calls), world.server.fast_hits) == (1, 1)
    await _stale(world, client, 1.1, "?max_stale=1s")
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 1)


async def test_nor_by_a_server_that_may_answer_nothing(world: World, client: Client) -> None:
    await _stale(world, client, 0)
    world.delegate.leader_contact = None
    await client.request("GET", "/v1/kv/a?stale")
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 0)


async def test_the_leader_is_asked_where_an_answer_is_older_than_is_borne(world: World, client: Client) -> None:
    old = IndexedDirEntries(entries=[DirEntry(key="a", value=b"old")], **META | {"last_contact": 2 * 10**9})
    new = IndexedDirEntries(entries=[DirEntry(key="a", value=b"new")], **META)
    world.delegate.answers["KVS.Get"] = lambda request: old if request.allow_stale else new
    told = {}
    for query in ("?stale", "?max_stale=3s", "?max_stale=1s"):
        told[query] = (await client.request("GET", f"/v1/kv/a{query}&raw")).body
    assert told == {"?stale": b"old", "?max_stale=3s": b"old", "?max_stale=1s": b"new"}
    assert len(world.delegate.calls) == 4


# --- what may be kept ------------------------------------------------------------------------------------------------


async def test_what_is_sorted_by_distance_is_never_kept(world: World, client: Client) -> None:
    world.delegate.answers["Catalog.ListNodes"] = IndexedNodes(**META)
    for _ in range(3):
        assert (await client.request("GET", "/v1/catalog/nodes?near=_agent")).status == 200
    assert world.server.fast_hits == 0


async def test_a_missing_key_is_kept(world: World, client: Client) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(**META)
    for _ in range(2):
        client.send(GET)
        assert (await client.receive()).status == 404
    assert world.server.fast_hits == 1


async def test_errors_are_not_kept(world: World, client: Client) -> None:
    world.delegate.answers["KVS.Get"] = RuntimeError("x")
    for _ in range(2):
        client.send(GET)
        assert (await client.receive()).status == 500
    assert world.server.fast_hits == 0


async def test_a_different_header_is_a_different_request(world: World, client: Client) -> None:
    await _get(client)
    await client.request("GET", "/v1/kv/a", X_Consul_Token="t")
    assert world.server.fast_hits == 0


async def test_pipelined_requests_are_answered_in_order(world: World, client: Client) -> None:
    await _get(client)
    client.send(encode("GET", "/v1/status/leader") + GET + encode("GET", "/v1/status/peers"))
    bodies = [(await client.receive()).json() for _ in range(3)]
    assert bodies[0] == "127.0.0.1:8300"
    assert bodies[1][0]["Key"] == "a"
    assert bodies[2] == ["127.0.0.1:8300"]


async def test_a_request_behind_one_in_progress_waits_its_turn(world: World, client: Client) -> None:
    await _get(client)
    entered, release = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        entered.set()
        await release.wait()
        return "late"

    world.delegate.answers["Status.Leader"] = lambda _request: slow()
    client.send(encode("GET", "/v1/status/leader"))
    await asyncio.wait_for(entered.wait(), 5)
    client.send(GET)
    other = await world.connect()
    assert await _get(other) == "b25l"
    release.set()
    assert (await client.receive()).json() == "late"
    assert (await client.receive()).json()[0]["Key"] == "a"


@pytest.mark.parametrize("cut", [1, 10, len(GET) - 1])
async def test_split_packets(world: World, client: Client, cut: int) -> None:
    await _get(client)
    calls = len(world.delegate.calls)
    await _send_apart(world, client, GET[:cut], GET[cut:])
    assert (await client.receive()).json()[0]["Key"] == "a"
    assert len(world.delegate.calls) == calls + 1
    assert await _get(client) == "b25l"


async def _send_apart(world: World, client: Client, *parts: bytes) -> None:
    """Each part as a packet of its own: the server has read one before the next is sent."""
    marker = await world.connect()
    for part in parts:
        client.send(part)
        await client.writer.drain()
        await marker.request("GET", "/v1/nothing")


async def test_a_kept_request_inside_an_unfinished_head_is_no_request(world: World, client: Client) -> None:
    """The bytes of a kept GET may also be the tail of another request's head."""
    await _get(client)
    await _send_apart(world, client, b"GET /v1/status/leader HTTP/1.1\r\nX-Note: ", GET)
    assert (await client.receive()).json() == "127.0.0.1:8300"
    assert await _get(client) == "b25l"


async def test_a_kept_request_inside_a_body_is_no_request(world: World, client: Client) -> None:
    await _get(client)
    head = encode("PUT", "/v1/kv/b", b"", {"Content-Length": str(len(GET))})
    await _send_apart(world, client, head, GET)
    assert (await client.receive()).text == "true"
    assert world.delegate.last.dir_ent.value == GET


@pytest.mark.parametrize("apart", [True, False])
async def test_the_lane_reopens_after_a_body(world: World, client: Client, apart: bool) -> None:
    await _get(client)
    put = encode("PUT", "/v1/kv/b", b"value")
    await _send_apart(world, client, *([put[:-5], put[-5:]] if apart else [put]))
    assert (await client.receive()).text == "true"
    await _get(client)
    assert world.server.fast_hits == 1


async def test_bytes_after_a_body_close_the_lane(world: World, client: Client) -> None:
    await _get(client)
    await _send_apart(world, client, encode("PUT", "/v1/kv/b", b"value") + GET[:5])
    assert (await client.receive()).text == "true"
    client.send(GET[5:])
    assert (await client.receive()).json()[0]["Key"] == "a"
    await _get(client)
    assert world.server.fast_hits == 0


async def test_a_closing_request_is_not_kept(world: World, client: Client) -> None:
    other = await world.connect()
    await other.request("GET", "/v1/kv/a", Connection="close")
    third = await world.connect()
    assert (await third.request("GET", "/v1/kv/a", Connection="close")).headers["Connection"] == "close"
    assert await third.closed()
    assert world.server.fast_hits == 0


async def test_new_options_take_effect_on_kept_answers(world: World, client: Client) -> None:
    await _get(client)
    world.server.reconfigure(HttpOptions(response_headers={"X-New": "1"}))
    client.send(GET)
    assert (await client.receive()).headers["X-New"] == "1"


async def test_it_can_be_switched_off(world: World, client: Client) -> None:
    world.server.reconfigure(HttpOptions(kept_answers=0))
    await _get(client)
    await _get(client)
    assert world.server.fast_hits == 0


def _kept(size: int) -> Kept:
    return Kept(b"", b"x" * size, Terms(FakeWatch()))


def test_the_least_recently_used_goes_first() -> None:
    kept = KeptAnswers(max_entries=2, max_bytes=1000)
    kept.keep(b"a", _kept(1))
    kept.keep(b"b", _kept(1))
    assert kept.find(b"a") is not None
    kept.keep(b"c", _kept(1))
    assert [kept.find(name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]


def test_the_bytes_are_bounded() -> None:
    kept = KeptAnswers(max_entries=1000, max_bytes=1000)
    for number in range(100):
        kept.keep(b"%03d" % number, _kept(97))
    assert len(kept) == 10
    kept.keep(b"big", _kept(500))
    assert kept.find(b"big") is None


CONSISTENT = encode("GET", "/v1/kv/a?consistent")


async def _consistent(client: Client) -> str:
    client.send(CONSISTENT)
    return (await client.receive()).json()[0]["Value"]  # type: ignore[no-any-return]


async def test_a_consistent_read_is_a_hit_once_a_quorum_confirms(world: World, client: Client) -> None:
    assert [await _consistent(client) for _ in range(3)] == ["b25l"] * 3
    assert (len(world.delegate.calls), world.delegate.confirmations, world.server.fast_hits) == (1, 2, 2)


async def test_a_consistent_read_needs_no_lease_but_the_quorum(world: World, client: Client) -> None:
    await _consistent(client)
    world.delegate.leading = False
    await _consistent(client)
    assert world.server.fast_hits == 1
    world.delegate.confirmed = False
    await _consistent(client)
    assert (len(world.delegate.calls), world.server.fast_hits) == (2, 1)


async def test_a_change_while_the_quorum_is_asked_is_seen(world: World, client: Client) -> None:
    await _consistent(client)
    world.delegate.while_confirming = lambda: _value(world, b"two")
    assert await _consistent(client) == "dHdv"
    assert world.server.fast_hits == 0


async def test_what_is_sent_while_the_quorum_is_asked_is_answered_after_it(world: World, client: Client) -> None:
    await _consistent(client)
    world.delegate.while_confirming = lambda: None
    client.send(CONSISTENT)
    await client.writer.drain()
    await asyncio.sleep(0)
    client.send(GET + GET)
    answers = [(await client.receive()).status for _ in range(3)]
    assert answers == [200, 200, 200]

"""Writes that are taken from their bytes: only what cannot mean anything else, and answered as on the long way."""

import asyncio
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.http.options import HttpOptions
from discovery.http.plain_puts import PlainPut, read_put
from discovery.model.errors import NoLeader, OutcomeUnknown
from discovery.model.records import DirEntry
from tests.http.conftest import World, encode


@pytest.mark.parametrize("key", ["a", "a/b", "a/", "a.b/c-d_e~f", "0/1/2"])
def test_plain_keys_are_read(key: str) -> None:
    assert read_put(encode("PUT", f"/v1/kv/{key}", b"value")) == PlainPut(key, b"value", False)


@pytest.mark.parametrize(
    "target",
    ["", "a//b", "/a", "a/../b", "a/./b", ".a", "a/.b", "a%2Fb", "a?cas=1", "a?", "a b", "\u00e4", "a#b", "a;b", "a+b"],
)
def test_keys_that_might_be_read_otherwise_go_the_long_way(target: str) -> None:
    assert read_put(encode("PUT", f"/v1/kv/{target}", b"value")) is None


@pytest.mark.parametrize(
    "header",
    [
        {"X_Consul_Token": "t"},
        {"Authorization": "Bearer t"},
        {"Connection": "close"},
        {"Expect": "100-continue"},
        {"Transfer_Encoding": "chunked"},
        {"Accept_Encoding": "gzip;q=0"},
        {"Content_Length": "7"},
        {"Content_Length": "-5"},
        {"X_Consul_Namespace": "n"},
        {"Upgrade": "h2c"},
    ],
)
def test_headers_that_might_mean_something_go_the_long_way(header: dict[str, str]) -> None:
    assert read_put(encode("PUT", "/v1/kv/a", b"value", header)) is None


@pytest.mark.timeout(10)
def test_a_long_path_that_does_not_fit_is_told_at_once() -> None:
    for tail in ("?cas=1", "%20", "//x", " HTTP/1.0"):
        assert read_put(b"PUT /v1/kv/" + b"a" * 60_000 + tail.encode() + b"\r\n\r\n") is None
        assert read_put(b"PUT /v1/kv/" + b"a-b/" * 10_000 + tail.encode() + b"\r\n\r\n") is None


def test_what_is_not_exactly_one_request_goes_the_long_way() -> None:
    whole = encode("PUT", "/v1/kv/a", b"value")
    assert read_put(whole[:-1]) is None
    assert read_put(whole + b"x") is None
    assert read_put(whole + whole) is None
    assert read_put(whole.replace(b"HTTP/1.1", b"HTTP/1.0")) is None


def test_a_put_without_a_body_stores_nothing() -> None:
    assert read_put(encode("PUT", "/v1/kv/a")) == PlainPut("a", b"", False)


@given(st.binary(max_size=200))
def test_no_bytes_trouble_it(data: bytes) -> None:
    read_put(data)
    read_put(b"PUT /v1/kv/a HTTP/1.1\r\n" + data + b"\r\n\r\n")


async def test_a_write_is_carried_out_and_counted(world: World) -> None:
    response = await world.put("/v1/kv/a/b", b"value")
    assert (response.status, response.text, response.headers["Content-Type"]) == (200, "true", "application/json")
    assert world.delegate.last.dir_ent == DirEntry(key="a/b", value=b"value")
    assert world.delegate.last.op == "set"
    assert world.metrics.api_http.of("PUT", "v1_kv_").count == 1


async def test_short_and_long_way_answer_alike(world: World) -> None:
    short = await world.put("/v1/kv/a", b"value")
    long = await world.put("/v1/kv/a", b"value", X_Other="1")
    assert (short.status, short.body, short.headers) == (long.status, long.body, long.headers | {"Date": short.headers["Date"]})
    packed = await world.put("/v1/kv/a", b"value", Accept_Encoding="gzip, deflate")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"true"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NoLeader("two of three are gone"), 500, "No cluster leader (two of three are gone)"),
        (OutcomeUnknown(), 500, "leadership lost while committing log"),
    ],
)
async def test_refusals_are_told(world: World, error: Exception, status: int, text: str) -> None:
    world.delegate.answers["KVS.Apply"] = error
    response = await world.put("/v1/kv/a", b"value")
    assert (response.status, response.text) == (status, text)


async def test_a_value_over_the_limit_is_refused_and_ends_the_connection() -> None:
    world = World(HttpOptions(kv_max_value_size=4))
    await world.start()
    client = await world.connect()
    response = await client.request("PUT", "/v1/kv/a", b"value")
    assert (response.status, response.headers["Connection"]) == (413, "close")
    assert await client.closed()
    await world.stop()


async def test_requests_that_come_meanwhile_are_answered_in_order(world: World) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(request: object) -> bool:
        asked.set()
        await release.wait()
        return True

    world.delegate.answers["KVS.Apply"] = slow
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/first", b"1"))
    await asked.wait()
    client.send(encode("GET", "/v1/status/leader") + encode("PUT", "/v1/kv/second", b"2"))
    await client.writer.drain()
    release.set()
    assert [(await client.receive()).text for _ in range(3)] == ["true", '"127.0.0.1:8300"', "true"]
    assert [request.dir_ent.key for method, request in world.delegate.calls if method == "KVS.Apply"] == ["first", "second"]


async def test_a_client_that_sends_on_and_on_is_not_read_from_meanwhile(world: World) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(request: object) -> bool:
        asked.set()
        await release.wait()
        return True

    world.delegate.answers["KVS.Apply"] = slow
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/first", b"1"))
    await asked.wait()
    followers = 400
    for _ in range(followers):
        client.send(encode("PUT", "/v1/kv/next", b"x" * 50_000))
    await asyncio.sleep(0.2)
    unsent = client.writer.transport.get_write_buffer_size()
    assert unsent > followers * 50_000 // 3, "nobody reads what is not answered yet"
    release.set()
    assert [(await client.receive()).text for _ in range(followers + 1)] == ["true"] * (followers + 1)


async def test_a_client_that_goes_away_meanwhile_does_no_harm(world: World) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(request: object) -> bool:
        asked.set()
        await release.wait()
        return True

    world.delegate.answers["KVS.Apply"] = slow
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/first", b"1"))
    await asked.wait()
    client.writer.close()
    await client.writer.wait_closed()
    release.set()
    assert (await (await world.connect()).request("PUT", "/v1/kv/second", b"2")).text == "true"

import asyncio
import gzip

import pytest

from discovery.model.records import DirEntry
from discovery.model.requests import IndexedDirEntries, IndexedKeyList
from tests.http.conftest import World, encode
from tests.http.fakes import META

ENTRY = DirEntry(key="a", value=b"hello", create_index=3, modify_index=4)
LIMIT = 512 * 1024


async def test_get(world: World) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[ENTRY], **META)
    response = await world.get("/v1/kv/a")
    assert response.text == '[{"LockIndex":0,"Key":"a","Flags":0,"Value":"aGVsbG8=","CreateIndex":3,"ModifyIndex":4}]'
    assert response.headers["X-Consul-Index"] == "7"
    assert "X-Consul-Effective-Consistency" not in response.headers


async def test_empty_values_are_null(world: World) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[DirEntry(key="a")], **META)
    assert (await world.get("/v1/kv/a")).json()[0]["Value"] is None


async def test_missing_key(world: World) -> None:
    response = await world.get("/v1/kv/a")
    assert (response.status, response.body, response.headers["X-Consul-Index"]) == (404, b"", "7")
    assert "Content-Type" not in response.headers


async def test_raw(world: World) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[ENTRY], **META)
    response = await world.get("/v1/kv/a?raw")
    assert response.body == b"hello"
    assert response.headers["Content-Type"] == "text/plain"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "sandbox"


async def test_recurse_ignores_raw_and_its_value(world: World) -> None:
    world.delegate.answers["KVS.List"] = IndexedDirEntries(entries=[ENTRY, ENTRY], **META)
    assert len((await world.get("/v1/kv/?recurse=false&raw")).json()) == 2
    assert world.delegate.calls[-1][0] == "KVS.List"


async def test_keys(world: World) -> None:
    world.delegate.answers["KVS.ListKeys"] = IndexedKeyList(keys=["a/", "b"], **META)
    assert (await world.get("/v1/kv/x?keys&seperator=/")).json() == ["a/", "b"]
    assert (world.delegate.last.prefix, world.delegate.last.seperator) == ("x", "/")


@pytest.mark.parametrize(("target", "status", "body"), [("/v1/kv/x?keys", 404, b""), ("/v1/kv/?keys", 200, b"[]")])
async def test_no_keys(world: World, target: str, status: int, body: bytes) -> None:
    world.delegate.answers["KVS.ListKeys"] = IndexedKeyList(**META)
    response = await world.get(target)
    assert (response.status, response.body) == (status, body)


@pytest.mark.parametrize(
    ("query", "operation", "fields"),
    [
        ("", "set", {}),
        ("?flags=18446744073709551615", "set", {"flags": 2**64 - 1}),
        ("?cas=12", "cas", {"modify_index": 12}),
        ("?cas=0&flags=3", "cas", {"flags": 3}),
        ("?acquire=s1", "lock", {"session": "s1"}),
        ("?release=s1", "unlock", {"session": "s1"}),
    ],
)
async def test_put(world: World, query: str, operation: str, fields: dict[str, object]) -> None:
    response = await world.put(f"/v1/kv/k{query}", b"v")
    assert (response.status, response.text, response.headers["Content-Type"]) == (200, "true", "application/json")
    assert world.delegate.last.op == operation
    assert world.delegate.last.dir_ent == DirEntry(key="k", value=b"v", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "query"), [("PUT", ""), ("PUT", "?flags=1"), ("DELETE", ""), ("DELETE", "?recurse")])
async def test_what_has_no_condition_is_true_even_where_the_server_says_false(world: World, method: str, query: str) -> None:
    world.delegate.answers["KVS.Apply"] = False
    response = await world.request(method, f"/v1/kv/k{query}")
    assert (response.status, response.text) == (200, "true")


async def test_put_that_does_not_apply(world: World) -> None:
    world.delegate.answers["KVS.Apply"] = False
    response = await world.put("/v1/kv/k?cas=1")
    assert (response.status, response.text) == (200, "false")
    assert world.delegate.last.dir_ent.value is None


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("GET", "/v1/kv/?raw", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/k?cas=1&acquire=2", 400, "Conflicting flags: acquire=2&cas=1"),
        ("PUT", "/v1/kv/k?release=a%20b&acquire=2", 400, "Conflicting flags: acquire=2&release=a+b"),
        ("DELETE", "/v1/kv/k?recurse&cas=1", 400, "Conflicting flags: cas=1&recurse="),
        ("PUT", "/v1/kv/k?cas=x", 500, 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("PUT", "/v1/kv/k?cas=", 500, 'strconv.ParseUint: parsing "": invalid syntax'),
        ("PUT", "/v1/kv/k?flags=-1", 500, 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("PUT", "/v1/kv/k?flags=99999999999999999999", 500,
         'strconv.ParseUint: parsing "99999999999999999999": value out of range'),
        ("DELETE", "/v1/kv/k?cas=x", 500, 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("PUT", "/v1/kv/k?acquire=", 500, "missing session"),
    ],
)  # fmt: skip
async def test_refusals(world: World, method: str, target: str, status: int, text: str) -> None:
    response = await world.request(method, target)
    assert (response.status, response.text) == (status, text)
    assert world.delegate.calls == []


@pytest.mark.parametrize(
    ("query", "operation", "index"),
    [("", "delete", 0), ("?recurse", "delete-tree", 0), ("?cas=5", "delete-cas", 5), ("?cas=0", "delete-cas", 0)],
)
async def test_delete(world: World, query: str, operation: str, index: int) -> None:
    assert (await world.request("DELETE", f"/v1/kv/k{query}")).text == "true"
    assert (world.delegate.last.op, world.delegate.last.dir_ent.modify_index) == (operation, index)


async def test_a_value_of_the_greatest_size(world: World) -> None:
    assert (await world.put("/v1/kv/k", b"x" * LIMIT)).status == 200
    assert len(world.delegate.last.dir_ent.value) == LIMIT


async def test_a_value_too_large(world: World) -> None:
    client = await world.connect()
    response = await client.request("PUT", "/v1/kv/k", b"x" * (LIMIT + 1))
    assert response.status == 413
    assert response.text == (
        "Request body(524289 bytes) too large, max size: 524288 bytes. "
        "See https://www.consul.io/docs/agent/options.html#kv_max_value_size."
    )
    assert response.headers["Connection"] == "close"
    assert world.delegate.calls == []
    assert await client.closed()


async def test_chunked_values_are_limited_too(world: World) -> None:
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/k", b"", {"Transfer-Encoding": "chunked"}))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    client.send(chunk * 8 + b"1\r\nx\r\n0\r\n\r\n")
    assert (await client.receive()).status == 413
    assert world.delegate.calls == []


async def test_chunked_value(world: World) -> None:
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/k", b"", {"Transfer-Encoding": "chunked"}))
    client.send(b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    client.send(b"2\r\nde\r\n0\r\n\r\n")
    assert (await client.receive()).text == "true"
    assert world.delegate.last.dir_ent.value == b"abcde"


async def test_a_compressed_value_is_stored_as_it_is(world: World) -> None:
    value = gzip.compress(b"v")
    await world.put("/v1/kv/k", value, Content_Encoding="gzip")
    assert world.delegate.last.dir_ent.value == value


async def test_long_keys(world: World) -> None:
    key = "k" * 40_000
    assert (await world.put(f"/v1/kv/{key}", b"v")).status == 200
    assert world.delegate.last.dir_ent.key == key

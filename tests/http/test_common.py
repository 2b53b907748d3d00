"""Rules for every endpoint: errors, headers, parameters, limits."""

import asyncio
import base64
import gzip
import json
import logging
from pathlib import Path

import pytest

from discovery.http.encoding import accepts_gzip, list_to_json, to_json
from discovery.http.options import HttpOptions, Listener
from discovery.model.errors import NoLeader, NoPathToDatacenter, NoServers, OutcomeUnknown, RemoteError, RequestFailed
from discovery.model.records import DirEntry, Node
from discovery.model.requests import IndexedDirEntries, IndexedNodes
from tests.http.conftest import Client, Response, World, encode
from tests.http.fakes import META


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NoServers(), 500, "No known Consul servers"),
        (NoPathToDatacenter(), 500, "No path to datacenter"),
        (NoLeader(), 500, "No cluster leader"),
        (RemoteError("No path to datacenter"), 500, "rpc error making call: No path to datacenter"),
        (RequestFailed("Must provide node"), 500, "Must provide node"),
        (RequestFailed("Permission denied", status=403), 403, "Permission denied"),
        (OutcomeUnknown(), 500, "leadership lost while committing log"),
    ],
)
async def test_errors_of_servers(world: World, error: Exception, status: int, text: str) -> None:
    world.delegate.answers["KVS.Get"] = error
    response = await world.get("/v1/kv/a")
    assert (response.status, response.text) == (status, text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "X-Consul-Index" not in response.headers


async def test_no_leader_tells_why(world: World) -> None:
    world.delegate.answers["KVS.Get"] = NoLeader("2 of 3 servers are unreachable")
    response = await world.get("/v1/kv/a")
    assert response.text.startswith("No cluster leader")
    assert response.headers["X-Consul-Reason"] == "2 of 3 servers are unreachable"


async def test_a_reason_cannot_break_the_head(world: World) -> None:
    world.delegate.answers["KVS.Get"] = NoLeader("a\r\nX-Evil: 1")
    assert "X-Evil" not in (await world.get("/v1/kv/a")).headers


async def test_refused_catalog_reads_carry_the_headers_of_an_unanswered_read(world: World) -> None:
    world.delegate.answers["Catalog.ListNodes"] = NoPathToDatacenter()
    headers = (await world.get("/v1/catalog/nodes?dc=nowhere")).headers
    assert (headers["X-Consul-Index"], headers["X-Consul-Knownleader"], headers["X-Consul-Lastcontact"]) == ("1", "false", "0")


async def test_a_fault_of_ours_goes_to_the_log_only(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.delegate.answers["KVS.Get"] = KeyError("secret detail")
    with caplog.at_level(logging.ERROR):
        response = await world.get("/v1/kv/a")
    assert response.status == 500
    assert "secret detail" not in response.text
    assert "Traceback" not in response.text
    assert "secret detail" in caplog.text
    assert (await world.get("/v1/status/leader")).status == 200


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ("cached&consistent", "Cannot specify ?cached with ?consistent, conflicting semantics."),
        ("wait=10", "Invalid wait time"),
        ("wait=long", "Invalid wait time"),
        ("index=-1", "Invalid index"),
        ("index=1.5", "Invalid index"),
        ("index=18446744073709551616", "Invalid index"),
        ("max_stale=x", 'Invalid max_stale value "x"'),
    ],
)
async def test_bad_read_parameters(world: World, query: str, text: str) -> None:
    response = await world.get(f"/v1/kv/a?{query}")
    assert (response.status, response.text) == (400, text)
    assert world.delegate.calls == []


async def test_read_parameters_reach_the_delegate(world: World) -> None:
    await world.get("/v1/kv/a?index=5&wait=1m30s&stale&dc=dc2&token=t")
    asked = world.delegate.last
    assert (asked.min_query_index, asked.max_query_time) == (5, 90 * 10**9)
    assert (asked.allow_stale, asked.require_consistent) == (True, False)
    assert (asked.datacenter, asked.token) == ("dc2", "t")


async def test_max_stale_makes_a_read_stale(world: World) -> None:
    await world.get("/v1/kv/a?max_stale=10s")
    assert (world.delegate.last.allow_stale, world.delegate.last.max_stale_duration) == (True, 10**10)


async def test_discovery_max_stale_is_for_catalog_reads_without_a_mode(world: World) -> None:
    world.server.reconfigure(HttpOptions(discovery_max_stale=10**9))
    world.delegate.answers["Catalog.ListNodes"] = IndexedNodes(**META)
    stale = []
    for target in ("/v1/catalog/nodes", "/v1/catalog/nodes?leader", "/v1/catalog/nodes?consistent", "/v1/kv/a"):
        await world.get(target)
        stale.append(world.delegate.last.allow_stale)
    assert stale == [True, False, False, False]


@pytest.mark.parametrize(
    ("query", "headers", "token"),
    [
        ("?token=q", {"X_Consul_Token": "h"}, "q"),
        ("", {"X_Consul_Token": "h", "Authorization": "Bearer b"}, "h"),
        ("", {"Authorization": "Bearer b"}, "b"),
        ("", {"Authorization": "Basic b"}, "agent"),
        ("", {}, "agent"),
    ],
)
async def test_tokens(world: World, query: str, headers: dict[str, str], token: str) -> None:
    world.server.reconfigure(HttpOptions(default_token="agent"))
    await world.get(f"/v1/kv/a{query}", **headers)
    assert world.delegate.last.token == token


async def test_meta_headers(world: World) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(index=0, known_leader=False, last_contact=12_900_000)
    headers = (await world.get("/v1/kv/a")).headers
    assert (headers["X-Consul-Index"], headers["X-Consul-Knownleader"], headers["X-Consul-Lastcontact"]) == ("1", "false", "12")
    assert headers["Vary"] == "Accept-Encoding"


async def test_pretty(world: World) -> None:
    assert (await world.get("/v1/status/peers?pretty=false")).text == '[\n    "127.0.0.1:8300"\n]\n'
    assert (await world.get("/v1/status/peers")).text == '["127.0.0.1:8300"]'
    assert (await world.put("/v1/kv/a?pretty", b"x")).text == "true\n"


async def test_go_escapes_and_sorted_maps(world: World) -> None:
    world.delegate.answers["Catalog.ListNodes"] = IndexedNodes(nodes=[Node(node="<a>&b", meta={"z": "1", "a": "2"})], **META)
    text = (await world.get("/v1/catalog/nodes")).text
    assert r'"Node":"\u003ca\u003e\u0026b"' in text
    assert '"Meta":{"a":"2","z":"1"}' in text


@pytest.mark.parametrize("size", [1, 5000])
async def test_gzip_when_asked(world: World, size: int) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[DirEntry(key="a", value=b"x" * size)], **META)
    response = await world.get("/v1/kv/a?raw", Accept_Encoding="deflate, gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.body) == b"x" * size
    assert "Content-Encoding" not in (await world.get("/v1/kv/a?raw", Accept_Encoding="gzip;q=0")).headers


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip; q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0", False),
        ("x-gzip", False),
    ],
)
def test_accepts_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def test_configured_headers_are_on_errors_too(world: World) -> None:
    world.server.reconfigure(HttpOptions(response_headers={"Access-Control-Allow-Origin": "*"}))
    for target in ("/v1/status/leader", "/v1/nothing", "/v1/kv/"):
        assert (await world.get(target)).headers["Access-Control-Allow-Origin"] == "*"


async def test_blocked_endpoints(world: World) -> None:
    world.server.reconfigure(HttpOptions(block_endpoints=("/v1/agent",)))
    response = await world.get("/v1/agent/self")
    assert (response.status, response.text) == (403, "Endpoint is blocked by agent configuration")
    assert (await world.get("/v1/status/leader")).status == 200


@pytest.mark.parametrize(("network", "status"), [("10.0.0.0/8", 403), ("127.0.0.0/8", 200)])
async def test_writes_only_from_some_networks(world: World, network: str, status: int) -> None:
    world.server.reconfigure(HttpOptions(allow_write_http_from=(network,)))
    assert (await world.put("/v1/kv/a", b"x")).status == status
    assert (await world.request("POST", "/v1/kv/a", b"x")).status == 405
    assert (await world.get("/v1/status/leader")).status == 200


async def test_http_1_0_clients(world: World) -> None:
    client = await world.connect()
    client.send(b"GET /v1/status/leader HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = await client.receive()
    assert response.headers["Connection"] == "keep-alive"
    client.send(b"GET /v1/status/leader HTTP/1.0\r\n\r\n")
    assert (await client.receive()).headers["Connection"] == "close"
    assert await client.closed()


async def test_what_is_no_http_is_told_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = await world.connect()
    client.send(b"\x16\x03\x01 hello\r\n\r\n")
    response = await client.receive()
    assert response.status == 400
    assert await client.closed()
    assert "Traceback" not in response.text + caplog.text


async def test_connection_close(world: World) -> None:
    client = await world.connect()
    assert (await client.request("GET", "/v1/status/leader", Connection="close")).headers["Connection"] == "close"
    assert await client.closed()


async def test_expect_continue(world: World) -> None:
    client = await world.connect()
    client.send(encode("PUT", "/v1/kv/a", b"", {"Expect": "100-continue", "Content-Length": "3"}))
    assert (await client.receive()).status == 100
    client.send(b"abc")
    assert (await client.receive()).text == "true"
    assert world.delegate.last.dir_ent.value == b"abc"


async def test_too_many_connections_are_told_so(world: World) -> None:
    world.server.reconfigure(HttpOptions(max_connections_per_client=1))
    first = await world.connect()
    assert (await first.request("GET", "/v1/status/leader")).status == 200
    second = await world.connect()
    refused = await second.request("GET", "/v1/status/leader")
    assert refused.status == 429
    assert "limits.http_max_conns_per_client" in refused.text
    assert await second.closed()
    assert world.metrics.client_http_exceeded.count == 1
    first.writer.close()
    async with asyncio.timeout(5):
        while (await (await world.connect()).request("GET", "/v1/status/leader")).status == 429:
            pass


async def test_requests_are_counted(world: World) -> None:
    world.delegate.answers["Catalog.ListNodes"] = IndexedNodes(**META)
    for target in ("/v1/kv/a", "/v1/kv/a", "/v1/kv/b", "/v1/catalog/nodes"):
        await world.get(target)
    world.delegate.answers["Catalog.ListNodes"] = NoServers()
    await world.get("/v1/catalog/nodes?stale")
    assert world.server.fast_hits == 1
    assert world.metrics.api_http.of("GET", "v1_kv_").count == 3
    nodes = world.metrics.client_api["catalog_nodes"]
    assert (nodes.requests.count, nodes.succeeded.count, nodes.failed.count) == (2, 1, 1)


async def test_a_caller_that_leaves_ends_its_blocking_read(world: World) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait_forever() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    world.delegate.answers["KVS.Get"] = lambda _request: wait_forever()
    client = await world.connect()
    client.send(encode("GET", "/v1/kv/a?index=7"))
    await asyncio.wait_for(entered.wait(), 5)
    client.writer.close()
    await asyncio.wait_for(left.wait(), 5)


async def test_stopping_ends_blocking_reads(world: World) -> None:
    entered = asyncio.Event()

    async def wait_forever() -> None:
        entered.set()
        await asyncio.Event().wait()

    world.delegate.answers["KVS.Get"] = lambda _request: wait_forever()
    client = await world.connect()
    client.send(encode("GET", "/v1/kv/a?index=7"))
    await asyncio.wait_for(entered.wait(), 5)
    await asyncio.wait_for(world.server.stop(), 5)
    assert await client.closed()


async def test_socket_files(world: World, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    await world.server.start([Listener(unix_path=str(path), unix_mode=0o600)])
    assert path.stat().st_mode & 0o777 == 0o600
    client = Client(*await asyncio.open_unix_connection(str(path)))
    response: Response = await client.request("GET", "/v1/status/leader")
    assert response.json() == "127.0.0.1:8300"
    client.writer.close()
    await world.server.stop()
    assert not path.exists()


async def test_a_stale_socket_file_is_replaced(world: World, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    stale = await asyncio.start_unix_server(lambda _r, _w: None, str(path))
    stale.close()
    assert path.exists()
    await world.server.start([Listener(unix_path=str(path))])
    client = Client(*await asyncio.open_unix_connection(str(path)))
    assert (await client.request("GET", "/v1/status/leader")).status == 200
    client.writer.close()


async def test_a_port_in_use_is_reported_and_nothing_stays_open(world: World) -> None:
    _, port = world.server.addresses[0]
    other = World(HttpOptions())
    with pytest.raises(OSError, match="in use"):
        await other.server.start([Listener(host="127.0.0.1"), Listener(host="127.0.0.1", port=port)])
    assert other.server.addresses == []


async def test_long_lists_are_encoded_in_pieces_to_the_same_bytes() -> None:
    for count in (0, 1, 2047, 2048, 2049, 5000):
        entries = [DirEntry(key=f"k<{number}>", value=b"v") for number in range(count)]
        assert await list_to_json(entries) == to_json(entries)
        assert await list_to_json(entries, pretty=True) == to_json(entries, pretty=True)


async def test_others_get_their_turn_while_a_long_list_is_encoded() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await list_to_json([DirEntry(key="k", value=b"v")] * 20_480)
    task.cancel()
    assert turns >= 10


async def test_a_long_body_is_compressed_as_a_short_one_is(world: World) -> None:
    world.delegate.answers["KVS.Get"] = IndexedDirEntries(entries=[DirEntry(key="k", value=b"v" * 300_000)], **META)
    response = await world.get("/v1/kv/k?raw", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.body) == b"v" * 300_000


async def test_a_body_of_many_megabytes_arrives_whole_with_and_without_gzip(world: World) -> None:
    value = bytes(range(256)) * 2048
    entries = [DirEntry(key=f"big/{number}", value=value) for number in range(20)]
    world.delegate.answers["KVS.List"] = IndexedDirEntries(index=7, entries=entries)
    plain = await world.get("/v1/kv/big/?recurse")
    assert len(plain.body) > 8 << 20
    assert [base64.b64decode(entry["Value"]) for entry in json.loads(plain.body)] == [value] * 20
    packed = await world.get("/v1/kv/big/?recurse", Accept_Encoding="gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert (await world.get("/v1/kv/big/?recurse")).body == plain.body

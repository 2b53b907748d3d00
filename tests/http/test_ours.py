"""What is ours beside Consul's API: the stream of changes, all services at once, many registrations at once."""

import asyncio
from typing import Any

import pytest

from discovery.http import changes
from discovery.model.errors import NoLeader
from discovery.model.records import CheckServiceNode, DirEntry, HealthCheck, Node, NodeService
from discovery.model.requests import (
    Change,
    ChangesReply,
    ChangesRequest,
    IndexedCheckServiceNodes,
    RegisterManyResponse,
    TxnError,
)
from tests.http.conftest import Client, World
from tests.http.fakes import META

# --- the stream of changes -----------------------------------------------------------------------------------------


class Changing:
    """Answers what a test puts in, one answer a question, and then waits."""

    def __init__(self, world: World, *replies: ChangesReply | Exception) -> None:
        self.replies = list(replies)
        self.asked: list[ChangesRequest] = []
        world.delegate.answers["Internal.Changes"] = self.answer

    async def answer(self, request: ChangesRequest) -> ChangesReply:
        self.asked.append(request)
        if not self.replies:
            await asyncio.Event().wait()
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def news(index: int, *found: Change, complete: bool = True) -> ChangesReply:
    return ChangesReply(index=index, changes=list(found), complete=complete)


def key(index: int, name: str) -> Change:
    return Change(index=index, kind="key", key=name, kv=DirEntry(key=name, value=b"v", modify_index=index))


async def events(client: Client, count: int) -> list[str]:
    """The next `count` events, or comments."""
    text = b""
    while text.count(b"\n\n") < count:
        size = int(await client.reader.readline(), 16)
        text += await client.reader.readexactly(size)
        await client.reader.readexactly(2)
    return text.decode().split("\n\n")[:-1]


async def open_stream(world: World, target: str = "", **headers: str) -> Client:
    client = await world.connect()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    client.send(f"GET /v1/events/stream{target} HTTP/1.1\r\nHost: t\r\n{lines}\r\n".encode())
    response = await client.receive(body=False)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache"
    return client


async def test_changes_from_now_on(world: World) -> None:
    changing = Changing(world, news(7), news(9, key(8, "a"), key(9, "b")))
    client = await open_stream(world, "?kind=key&prefix=a/&stale")
    ready, first, second = await events(client, 3)
    assert ready == 'event: ready\nid: 7\ndata: {"Index":7}'
    assert first.startswith('event: key\nid: 8\ndata: {"Index":8,"Kind":"key","Key":"a","KV":{"LockIndex":0,')
    assert second.startswith("event: key\nid: 9\n")
    assert [each.min_query_index for each in changing.asked] == [0, 7, 9]
    asked = changing.asked[0]
    assert (asked.kinds, asked.key_prefix, asked.allow_stale) == (["key"], "a/", True)


async def test_what_changed_together_has_one_id(world: World) -> None:
    service = Change(index=9, kind="service", node_name="n", id="w", service=NodeService(id="w", service="web"))
    gone = Change(index=9, kind="check", node_name="n", id="c", deleted=True)
    Changing(world, news(9, service, gone))
    client = await open_stream(world, "?index=8")
    first, second = await events(client, 2)
    assert first.startswith('event: service\ndata: {"Index":9,"Kind":"service","NodeName":"n","ID":"w","Service":{')
    assert second == 'event: check\nid: 9\ndata: {"Index":9,"Kind":"check","NodeName":"n","ID":"c","Deleted":true}'


async def test_coming_back(world: World) -> None:
    changing = Changing(world, news(8), news(9, key(9, "a")))
    client = await open_stream(world, "?index=3", Last_Event_ID="8")
    quiet, event = await events(client, 2)
    assert (quiet, event.splitlines()[:2]) == (":", ["event: key", "id: 9"])
    assert changing.asked[0].min_query_index == 8


async def test_who_missed_changes_is_told_to_read_anew(world: World) -> None:
    Changing(world, news(50, complete=False), news(60, key(60, "a"), complete=False))
    client = await open_stream(world, "?index=3")
    reset, again, event = await events(client, 3)
    assert reset == 'event: reset\nid: 50\ndata: {"Index":50}'
    assert again == 'event: reset\ndata: {"Index":60}'
    assert event.startswith("event: key\nid: 60\n")


async def test_a_stream_outlives_the_loss_of_the_leader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_RETRY_PAUSE", 0.0)
    changing = Changing(world, news(7), NoLeader("two of three servers are gone"), news(8, key(8, "a")))
    client = await open_stream(world)
    _, comment, event = await events(client, 3)
    assert comment == ": No cluster leader"
    assert event.startswith("event: key\nid: 8\n")
    assert [each.min_query_index for each in changing.asked[:3]] == [0, 7, 7]


@pytest.mark.parametrize(
    ("target", "text"),
    [("?kind=zap", "Invalid kind 'zap', must be one of: key, node, service, check"), ("?index=x", "Invalid index")],
)
async def test_bad_streams(world: World, target: str, text: str) -> None:
    response = await world.get(f"/v1/events/stream{target}")
    assert (response.status, response.text) == (400, text)


async def test_a_stream_that_can_not_begin_is_refused(world: World) -> None:
    Changing(world, NoLeader())
    response = await world.get("/v1/events/stream")
    assert (response.status, response.text) == (500, "No cluster leader")


async def test_a_stream_that_fails_ends(world: World, caplog: pytest.LogCaptureFixture) -> None:
    Changing(world, news(7), RuntimeError("planted"))
    client = await open_stream(world)
    await events(client, 1)
    assert await client.reader.read() == b""
    assert "planted" in caplog.text


# --- all services at once ------------------------------------------------------------------------------------------


def instance(name: str, node: str, status: str = "passing", tags: list[str] | None = None) -> CheckServiceNode:
    checks = [HealthCheck(node=node, check_id="c", status=status)]
    return CheckServiceNode(Node(node=node, meta={"rack": node}), NodeService(id=name, service=name, tags=tags or []), checks)


DUMP = [instance("web", "n1", tags=["A"]), instance("web", "n2", "critical"), instance("db", "n2")]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("", {"web": ["n1", "n2"], "db": ["n2"]}),
        ("?passing", {"web": ["n1"], "db": ["n2"]}),
        ("?passing=0", {"web": ["n1", "n2"], "db": ["n2"]}),
        ("?tag=a", {"web": ["n1"]}),
        ("?node-meta=rack:n2", {"web": ["n2"], "db": ["n2"]}),
        ("?filter=Service.Service+!=+web", {"db": ["n2"]}),
        ("?filter=Service.Service+==+none", {}),
    ],
)
async def test_all_services(world: World, target: str, expected: dict[str, list[str]]) -> None:
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=DUMP, **META)
    response = await world.get(f"/v1/health/services{target}")
    found = response.json()
    assert {name: [each["Node"]["Node"] for each in instances] for name, instances in found.items()} == expected
    assert response.headers["X-Consul-Index"] == "7"


async def test_a_bad_filter_is_a_bad_request_here(world: World) -> None:
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=DUMP, **META)
    response = await world.get("/v1/health/services?filter=Service")
    assert (response.status, response.text[:58]) == (400, "Bad request: Failed to create boolean expression evaluator")


async def test_waiting_for_any_service(world: World) -> None:
    world.delegate.answers["Internal.ServiceDump"] = IndexedCheckServiceNodes(nodes=DUMP, **META)
    await world.get("/v1/health/services?index=7&wait=3s")
    assert (world.delegate.last.min_query_index, world.delegate.last.max_query_time) == (7, 3 * 10**9)


# --- many registrations at once ------------------------------------------------------------------------------------

BULK = "/v1/catalog/register/bulk"


async def test_many_registrations(world: World) -> None:
    world.delegate.answers["Catalog.RegisterMany"] = RegisterManyResponse(changed=1)
    body = [{"node": "a", "address": "1"}, {"Node": "b", "Address": "2", "Datacenter": "dc1", "Service": {"Service": "w"}}]
    response = await world.put(BULK, body)
    assert (response.status, response.json()) == (200, {"Registered": 2, "Changed": 1, "Errors": None})
    asked = world.delegate.last.registrations
    assert [(each.node, each.address, each.datacenter) for each in asked] == [("a", "1", "dc1"), ("b", "2", "dc1")]


async def test_many_registrations_are_all_or_none(world: World) -> None:
    world.delegate.answers["Catalog.RegisterMany"] = RegisterManyResponse(errors=[TxnError(op_index=3, what="Must provide node")])
    response = await world.put(BULK, [{}])
    assert (response.status, response.json()["Registered"]) == (409, 0)
    assert response.json()["Errors"] == [{"OpIndex": 3, "What": "Must provide node"}]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        ({}, "an array of registrations is wanted"),
        ([{"Node": "a"}, {"Bogus": 1}], '[1]: json: unknown field "Bogus"'),
        ([5], "[0]: json: cannot unmarshal number into Go value of type RegisterRequest"),
    ],
)
async def test_bad_bulks(world: World, body: Any, text: str) -> None:
    response = await world.put(BULK, body)
    assert (response.status, response.text) == (400, f"Request decode failed: {text}")

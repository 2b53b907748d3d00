import base64
from typing import Any

import pytest

from discovery.model.errors import RequestFailed
from discovery.model.records import DirEntry, HealthCheck, NodeService, ServiceCheckRef, Session
from discovery.model.requests import (
    IndexedSessions,
    TxnCheckOp,
    TxnError,
    TxnKVOp,
    TxnOp,
    TxnReadResponse,
    TxnResponse,
    TxnResult,
    TxnServiceOp,
)
from tests.http.conftest import World
from tests.http.fakes import META

ID = "11111111-2222-3333-4444-555555555555"
SESSION = Session(id=ID, name="s", node="node1", lock_delay=15 * 10**9, behavior="release", node_checks=["serfHealth"])


@pytest.fixture(autouse=True)
def answers(world: World) -> None:
    world.delegate.answers |= {
        "Session.Apply": ID,
        "Session.Get": IndexedSessions(sessions=[SESSION], **META),
        "Session.Renew": IndexedSessions(**META),
        "Txn.Apply": TxnResponse(results=[]),
        "Txn.Read": TxnReadResponse(results=[], known_leader=True),
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (b"null", {}),
        ({"Bogus": 1, "ID": "given"}, {}),
        (
            {"Name": "x", "node": "n2", "Behavior": "delete", "TTL": "15s"},
            {"name": "x", "node": "n2", "behavior": "delete", "ttl": "15s"},
        ),
        ({"LockDelay": "5s"}, {"lock_delay": 5 * 10**9}),
        ({"LockDelay": 7}, {"lock_delay": 7 * 10**9}),
        ({"LockDelay": 0}, {"lock_delay": 0}),
        ({"LockDelay": "7ns"}, {"lock_delay": 7 * 10**9}),
        ({"LockDelay": True}, {"lock_delay": 0}),
        ({"NodeChecks": None}, {"node_checks": None}),
        ({"LockDelay": 2 * 10**9}, {"lock_delay": 2 * 10**9}),
        ({"NodeChecks": []}, {"node_checks": []}),
        ({"NodeChecks": ["a"], "Checks": ["b"]}, {"node_checks": ["a"]}),
        ({"Checks": []}, {"node_checks": []}),
        ({"Node": None}, {}),
        ({"Node": ""}, {"node": ""}),
        ({"Checks": None}, {"node_checks": []}),
        ({"Checks": ["serfHealth"]}, {}),
        ({"Checks": ["c"]}, {"checks": ["c"]}),
        ({"ServiceChecks": [{"ID": "c"}]}, {"service_checks": [ServiceCheckRef(id="c")]}),
    ],
)
async def test_create(world: World, body: Any, expected: dict[str, Any]) -> None:
    response = await world.put("/v1/session/create", body)
    assert response.json() == {"ID": ID}
    default: dict[str, Any] = {
        "node": "node1", "lock_delay": 15 * 10**9, "behavior": "release", "node_checks": ["serfHealth"],
    }  # fmt: skip
    assert world.delegate.last.session == Session(**(default | expected))
    assert world.delegate.last.op == "create"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"LockDelay": "x"}, 'time: invalid duration "x"'),
        (b"x", "invalid character 'x' looking for beginning of value"),
        ({"Checks": "x"}, "json: cannot unmarshal string into Go struct field .Checks of type []string"),
    ],
)
async def test_create_with_a_bad_body(world: World, body: Any, detail: str) -> None:
    response = await world.put("/v1/session/create", body)
    assert (response.status, response.text) == (400, f"Request decode failed: {detail}")


async def test_info(world: World) -> None:
    response = await world.get(f"/v1/session/info/{ID}")
    assert response.text == (
        f'[{{"ID":"{ID}","Name":"s","Node":"node1","LockDelay":15000000000,"Behavior":"release","TTL":"",'
        '"NodeChecks":["serfHealth"],"ServiceChecks":null,"CreateIndex":0,"ModifyIndex":0}]'
    )
    assert "X-Consul-Effective-Consistency" not in response.headers


async def test_refused_info_has_meta_headers(world: World) -> None:
    world.delegate.answers["Session.Get"] = RequestFailed("failed session lookup: index error: UUID must be 36 characters")
    response = await world.get("/v1/session/info/nonsense")
    assert (response.status, response.headers["X-Consul-Knownleader"]) == (500, "false")


async def test_renew_of_an_unknown_session(world: World) -> None:
    response = await world.put(f"/v1/session/renew/{ID}")
    assert (response.status, response.text) == (404, f"Session id '{ID}' not found")


async def test_destroy(world: World) -> None:
    assert (await world.put(f"/v1/session/destroy/{ID}")).text == "true"
    assert (world.delegate.last.op, world.delegate.last.session.id) == ("destroy", ID)


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("GET", "/v1/session/info/", "Missing session"),
        ("GET", "/v1/session/node/", "Missing node name"),
        ("PUT", "/v1/session/renew/", "Missing session"),
        ("PUT", "/v1/session/destroy/", "Missing session"),
    ],
)
async def test_missing_names(world: World, method: str, target: str, text: str) -> None:
    response = await world.request(method, target)
    assert (response.status, response.text) == (400, text)


def _kv(verb: str, **fields: Any) -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": "k", **fields}}


async def test_a_transaction_that_writes(world: World) -> None:
    entry = DirEntry(key="k", create_index=5, modify_index=5)
    world.delegate.answers["Txn.Apply"] = TxnResponse(results=[TxnResult(kv=entry)], errors=[])
    response = await world.put("/v1/txn", [_kv("cas", Value=base64.b64encode(b"v").decode(), Index=3, Flags=2, Session="s")])
    assert response.text == (
        '{"Results":[{"KV":{"LockIndex":0,"Key":"k","Flags":0,"Value":null,"CreateIndex":5,"ModifyIndex":5}}],"Errors":null}'
    )
    wanted = DirEntry(key="k", value=b"v", flags=2, session="s", modify_index=3)
    assert world.delegate.last.ops == [TxnOp(kv=TxnKVOp(verb="cas", dir_ent=wanted))]
    assert "X-Consul-Knownleader" not in response.headers


async def test_a_transaction_that_reads(world: World) -> None:
    response = await world.put("/v1/txn?stale", [_kv("get")])
    assert response.json() == {
        "Results": [], "Errors": None, "Index": 0, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": "",
    }  # fmt: skip
    assert (world.delegate.calls[-1][0], world.delegate.last.allow_stale) == ("Txn.Read", True)
    assert response.headers["X-Consul-Knownleader"] == "true"
    assert "X-Consul-Index" not in response.headers


@pytest.mark.parametrize(
    ("operation", "method"),
    [
        (_kv("zap"), "Txn.Read"),
        (_kv("get-tree"), "Txn.Read"),
        (_kv("delete-tree"), "Txn.Apply"),
        ({"Node": {"Verb": "get", "Node": {"Node": "n"}}}, "Txn.Read"),
        ({"Node": {"Verb": "zap"}}, "Txn.Apply"),
        ({}, "Txn.Read"),
    ],
)
async def test_reads_and_writes_are_told_apart(world: World, operation: dict[str, Any], method: str) -> None:
    assert (await world.put("/v1/txn", [operation])).status == 200
    assert world.delegate.calls[-1][0] == method


async def test_a_failed_transaction(world: World) -> None:
    world.delegate.answers["Txn.Apply"] = TxnResponse(results=[], errors=[TxnError(1, 'key "k" exists')])
    response = await world.put("/v1/txn", [_kv("set")])
    assert (response.status, response.json()) == (409, {"Results": None, "Errors": [{"OpIndex": 1, "What": 'key "k" exists'}]})


async def test_catalog_operations(world: World) -> None:
    await world.put(
        "/v1/txn",
        [
            {"Service": {"Verb": "set", "Node": "n", "Service": {"Service": "w", "Tags": ["a"]}}},
            {"Check": {"Verb": "delete", "Check": {"Node": "n", "CheckID": "c"}}},
        ],
    )
    assert world.delegate.last.ops == [
        TxnOp(service=TxnServiceOp("set", "n", NodeService(service="w", tags=["a"]))),
        TxnOp(check=TxnCheckOp("delete", HealthCheck(node="n", check_id="c"))),
    ]


async def test_empty_tags_are_null_in_results(world: World) -> None:
    world.delegate.answers["Txn.Read"] = TxnReadResponse(
        results=[TxnResult(service=NodeService(id="w")), TxnResult(check=HealthCheck(check_id="c"))]
    )
    service, check = (await world.put("/v1/txn", [_kv("get")])).json()["Results"]
    assert service["Service"]["Tags"] is None
    assert check["Check"]["ServiceTags"] is None


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "Failed to parse body: EOF"),
        (b"{}", 400, "Failed to parse body: json: cannot unmarshal object into Go value of type api.TxnOps"),
        ([{"Bogus": 1}], 400, 'Failed to parse body: json: unknown field "Bogus"'),
        ([_kv("set", Value="!")], 400, "Failed to parse body: illegal base64 data at input byte 0"),
        ([_kv("get")] * 65, 413, "Transaction contains too many operations (65 > 64)"),
    ],
)
async def test_bad_transactions(world: World, body: Any, status: int, text: str) -> None:
    response = await world.put("/v1/txn", body)
    assert (response.status, response.text) == (status, text)


async def test_a_transaction_too_large(world: World) -> None:
    response = await world.put("/v1/txn", b"x" * 524289)
    assert response.status == 413
    assert response.text.startswith("Request body(524289 bytes) too large, max size: 524288 bytes.")
    assert "txn_max_req_len" in response.text

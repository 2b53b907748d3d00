"""Transactions: every verb, what it answers, what it refuses, and that nothing of a failed one stays (reference: HTTP API 3)."""

from typing import Any

import pytest

from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.requests import TxnOp

from .stories import Story, check, check_op, encoded, kv_op, node_op, serf, service, service_op, uuid, whats

S1, S2 = uuid(1), uuid(2)


@pytest.fixture
def story() -> Story:
    told = Story()
    told.register("n1", id=uuid(71), service=service("web", tags=["a"]), checks=[check("c", service_id="web"), serf()])
    told.session(1)
    told.session(2)
    told.set("k", b"1")
    told.set("d/a", b"1")
    told.set("d/b", b"2")
    told.lock("locked", S1)
    return told


def entries(response: r.TxnResponse) -> list[tuple[str, bytes | None]]:
    assert response.errors is None
    return [(row.kv.key, row.kv.value) for row in response.results or () if row.kv is not None]


# --- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "results"),
    [
        (kv_op("set", "new", b"v", flags=3), [("new", None)]),
        (kv_op("cas", "new", b"v"), [("new", None)]),
        (kv_op("cas", "k", b"v", index=4), [("k", None)]),
        (kv_op("lock", "new", b"v", session=S1), [("new", None)]),
        (kv_op("lock", "locked", b"v", session=S1), [("locked", None)]),
        (kv_op("unlock", "locked", b"v", session=S1), [("locked", None)]),
        (kv_op("get", "k"), [("k", b"1")]),
        (kv_op("get-or-empty", "k"), [("k", b"1")]),
        (kv_op("get-or-empty", "new"), [("new", None)]),
        (kv_op("get-tree", "d/"), [("d/a", b"1"), ("d/b", b"2")]),
        (kv_op("get-tree", "none"), []),
        (kv_op("check-index", "k", index=4), [("k", None)]),
        (kv_op("check-session", "locked", session=S1), [("locked", None)]),
        (kv_op("check-session", "k"), [("k", None)]),
        (kv_op("check-not-exists", "new"), []),
        (kv_op("delete", "k"), []),
        (kv_op("delete", "none"), []),
        (kv_op("delete-tree", "d/"), []),
        (kv_op("delete-tree", ""), []),
        (kv_op("delete-cas", "k", index=4), []),
        (kv_op("delete-cas", "none", index=4), []),
    ],
)
def test_key_verbs(story: Story, op: TxnOp, results: list[tuple[str, bytes | None]]) -> None:
    assert entries(story.txn(op)) == results


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (kv_op("cas", "k", b"v"), 'failed to set key "k", index is stale'),
        (kv_op("cas", "none", b"v", index=4), 'failed to set key "none", index is stale'),
        (kv_op("lock", "locked", session=S2), 'failed to lock key "locked", lock is already held'),
        (kv_op("lock", "k"), "missing session"),
        (kv_op("lock", "k", session="x"), "failed session lookup: index error: UUID must be 36 characters"),
        (kv_op("lock", "k", session=uuid(9)), f'invalid session "{uuid(9)}"'),
        (kv_op("unlock", "k", session=S1), 'failed to unlock key "k", lock isn\'t held, or is held by another session'),
        (kv_op("unlock", "locked", session=S2), 'failed to unlock key "locked", lock isn\'t held, or is held by another session'),
        (kv_op("unlock", "k"), "missing session"),
        (kv_op("get", "none"), 'key "none" doesn\'t exist'),
        (kv_op("check-index", "none", index=1), 'failed to check index, key "none" doesn\'t exist'),
        (kv_op("check-index", "k", index=1), 'failed index check for key "k", current modify index 4 != 1'),
        (kv_op("check-session", "none", session=S1), 'failed to check session, key "none" doesn\'t exist'),
        (kv_op("check-session", "k", session="x"), 'failed session check for key "k", current session "" != "x"'),
        (kv_op("check-not-exists", "k"), 'key "k" exists'),
        (kv_op("delete-cas", "k"), 'failed to delete key "k", index is stale'),
        (kv_op("zap", "k"), 'unknown KV verb "zap"'),
        (kv_op("set", ""), "Must provide key"),
    ],
)
def test_key_refusals(story: Story, op: TxnOp, text: str) -> None:
    assert whats(story.txn(kv_op("get", "k"), op)) == {1: text}


def test_a_plain_write_keeps_the_lock(story: Story) -> None:
    story.txn(kv_op("set", "locked", b"x"))
    assert story.entry("locked").session == S1


# --- nodes, services, checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "address"),
    [
        (node_op("set", "n1", "new", id=uuid(71)), "new"),
        (node_op("set", "n2", "new"), "new"),
        (node_op("cas", "n2", "new"), "new"),
        (node_op("cas", "n1", "new", id=uuid(71), modify_index=1), "new"),
        (node_op("get", "N1"), "10.0.0.1"),
        (node_op("get", "", id=uuid(71)), "10.0.0.1"),
    ],
)
def test_node_verbs(story: Story, op: TxnOp, address: str) -> None:
    response = story.txn(op)
    assert [row.node.address for row in response.results or () if row.node is not None] == [address]


def test_a_node_takes_the_datacenter_of_the_transaction(story: Story) -> None:
    story.txn(node_op("set", "n2"))
    assert [node.datacenter for node in story.store.nodes().value] == ["dc1", "dc1"]


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (node_op("cas", "n1", "new"), 'failed to set node "n1", index is stale'),
        (node_op("cas", "n2", modify_index=5), 'failed to set node "n2", index is stale'),
        (node_op("get", "n2"), 'node "n2" doesn\'t exist'),
        (node_op("get", "", id=uuid(79)), 'node "" doesn\'t exist'),
        (node_op("delete-cas", "n1", modify_index=9), 'failed to delete node "n1", index is stale'),
        (node_op("delete-cas", "n2"), 'failed to delete node "n2", index is stale'),
        (node_op("zap", "n1"), 'unknown Node verb "zap"'),
        (node_op("set", ""), "Must provide node"),
        (node_op("set", "n1", id="short"), "Bad node ID: uuid string is wrong length"),
        (node_op("set", "n1", id="x" * 36), "Bad node ID: uuid is improperly formatted"),
    ],
)
def test_node_refusals(story: Story, op: TxnOp, text: str) -> None:
    assert whats(story.txn(op)) == {0: text}


@pytest.mark.parametrize(
    ("op", "port"),
    [
        (service_op("set", "n1", "web", port=81), 81),
        (service_op("set", "n1", "new", id=""), 80),
        (service_op("cas", "n1", "new"), 80),
        (service_op("cas", "n1", "web", port=81, modify_index=1), 81),
        (service_op("get", "N1", "", id="WEB"), 80),
    ],
)
def test_service_verbs(story: Story, op: TxnOp, port: int) -> None:
    response = story.txn(op)
    assert [row.service.port for row in response.results or () if row.service is not None] == [port]


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (service_op("cas", "n1"), 'failed to set service "web" on node "n1", index is stale'),
        (service_op("get", "n1", "web", id=""), 'service "" on node "n1" doesn\'t exist'),
        (service_op("get", "n9"), 'service "web" on node "n9" doesn\'t exist'),
        (service_op("delete-cas", "n1"), 'failed to delete service "web" on node "n1", index is stale'),
        (service_op("delete-cas", "n1", "none"), 'failed to delete service "none" on node "n1", index is stale'),
        (service_op("zap", "n1"), 'unknown Service verb "zap"'),
        (service_op("set", "n9"), "Missing node registration"),
        (service_op("set", "n1", "", id="x"), "Must provide service name with ID"),
        (service_op("delete", "n1", "", id="x"), "Must provide service name with ID"),
        (service_op("set", "n1", address="0.0.0.0"), "Invalid service address"),
        (service_op("delete", "n1", address="::"), "Invalid service address"),
        (
            service_op("set", "n1", meta={"a b": "c"}),
            "Invalid Service Meta for node n1 and serviceID web: "
            "Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
        ),
    ],
)
def test_service_refusals(story: Story, op: TxnOp, text: str) -> None:
    assert whats(story.txn(op)) == {0: text}


@pytest.mark.parametrize(
    ("op", "status"),
    [
        (check_op("set", "n1", "c", m.WARNING, service_id="web"), m.WARNING),
        (check_op("set", "n1", "new", ""), m.CRITICAL),
        (check_op("cas", "n1", "new"), m.PASSING),
        (check_op("cas", "n1", "c", m.WARNING, service_id="web", modify_index=1), m.WARNING),
        (check_op("get", "N1", "C"), m.PASSING),
    ],
)
def test_check_verbs(story: Story, op: TxnOp, status: str) -> None:
    response = story.txn(op)
    assert [row.check.status for row in response.results or () if row.check is not None] == [status]


def test_a_check_is_called_by_its_name_if_it_has_no_id(story: Story) -> None:
    story.txn(TxnOp(check=r.TxnCheckOp(verb="set", check=m.HealthCheck(node="n1", name="called"))))
    assert "called" in story.statuses("n1")


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (check_op("cas", "n1"), 'failed to set check "c" on node "n1", index is stale'),
        (check_op("get", "n1", "none"), 'check "none" on node "n1" doesn\'t exist'),
        (check_op("delete-cas", "n1"), 'failed to delete check "c" on node "n1", index is stale'),
        (check_op("zap", "n1"), 'unknown Check verb "zap"'),
        (check_op("set", "n9"), "Missing node registration"),
        (check_op("set", "n1", service_id="none"), "Missing service registration"),
        (check_op("set", "n1", ""), "failed inserting check: object missing primary index"),
    ],
)
def test_check_refusals(story: Story, op: TxnOp, text: str) -> None:
    assert whats(story.txn(op)) == {0: text}


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        ([check_op("delete", "n1")], (["n1"], ["web"], ["serfHealth"])),
        ([check_op("delete-cas", "n1", modify_index=1)], (["n1"], ["web"], ["serfHealth"])),
        ([check_op("delete", "n1", "none")], (["n1"], ["web"], ["c", "serfHealth"])),
        ([service_op("delete", "n1")], (["n1"], [], ["serfHealth"])),
        ([service_op("delete-cas", "n1", modify_index=1)], (["n1"], [], ["serfHealth"])),
        ([node_op("delete", "N1")], ([], [], [])),
        ([node_op("delete-cas", "n1", modify_index=1)], ([], [], [])),
        ([node_op("delete", "n9")], (["n1"], ["web"], ["c", "serfHealth"])),
    ],
)
def test_deleting(story: Story, ops: list[TxnOp], left: tuple[list[str], ...]) -> None:
    assert story.txn(*ops) == r.TxnResponse(results=[])
    nodes = [node.node for node in story.store.nodes().value]
    assert (nodes, [service for _, service in story.instances("web")], list(story.statuses("n1"))) == left


# --- all together ------------------------------------------------------------------------------------------------------


def test_later_operations_see_earlier_ones_and_all_share_an_index(story: Story) -> None:
    response = story.txn(
        node_op("set", "n2"),
        service_op("set", "n2", "api"),
        check_op("set", "n2", "c", service_id="api"),
        kv_op("set", "x", b"1"),
        kv_op("get", "x"),
        kv_op("delete", "x"),
        kv_op("check-not-exists", "x"),
    )
    assert response.results is not None
    assert [type(row.kv or row.node or row.service or row.check).__name__ for row in response.results] == [
        "Node",
        "NodeService",
        "HealthCheck",
        "DirEntry",
        "DirEntry",
    ]
    assert {(row.kv or row.node or row.service or row.check).modify_index for row in response.results} == {  # type: ignore[union-attr]
        story.store.index
    }


def test_all_failing_operations_are_told(story: Story) -> None:
    response = story.txn(kv_op("get", "none"), kv_op("set", "x", b"1"), node_op("get", "n9"), check_op("get", "n1", "none"))
    assert list(whats(response)) == [0, 2, 3]


def test_what_is_wrong_on_its_face_is_told_before_anything_is_tried(story: Story) -> None:
    response = story.txn(kv_op("get", "none"), kv_op("set", ""), node_op("set", ""))
    assert whats(response) == {1: "Must provide key", 2: "Must provide node"}


def test_an_empty_operation_says_nothing(story: Story) -> None:
    assert story.txn(TxnOp()) == story.txn() == r.TxnResponse(results=[])


def test_nothing_of_a_failed_transaction_stays(story: Story) -> None:
    before = encoded(story.store)
    index = story.store.index
    topics: list[Any] = [
        ("nodes",),
        ("services",),
        ("checks",),
        ("sessions",),
        ("kv-prefix", ""),
        ("kv", "k"),
        ("service", "web"),
    ]
    watches = [story.watch(topic) for topic in topics]
    response = story.txn(
        kv_op("set", "k", b"2"),
        kv_op("set", "new", b"2"),
        kv_op("delete", "d/a"),
        kv_op("delete-tree", ""),
        kv_op("set", "k", b"3"),
        node_op("set", "n1", "moved", id=uuid(71)),
        service_op("set", "n1", "web", tags=["z"]),
        service_op("set", "n1", "more"),
        check_op("set", "n1", "c", m.CRITICAL, service_id="web"),
        check_op("delete", "n1", "serfHealth"),
        node_op("set", "renamed", id=uuid(71)),
        node_op("delete", "renamed"),
        kv_op("get", "none"),
    )
    assert whats(response) == {12: 'key "none" doesn\'t exist'}
    assert not any(watch.fired for watch in watches)
    assert story.store.take_released_locks() == []
    assert story.store.index == index + 1
    story.store.index = index
    assert encoded(story.store) == before
    story.store.index = index + 1
    assert story.instances("web") == [("n1", "web")]
    assert story.store.kv_list("d/").index == 6
    story.destroy(S1)
    assert story.entry("locked").session == ""


def test_a_failed_deletion_of_a_node_that_has_nothing_left_leaves_no_trace(story: Story) -> None:
    story.register("bare", "10.0.0.7", checks=[check("c")])
    story.session(3, "bare")
    story.deregister("bare", check="c")
    story.destroy(uuid(3))
    before, index = encoded(story.store), story.store.index
    assert whats(story.txn(node_op("delete", "bare"), kv_op("get", "none"))) == {1: 'key "none" doesn\'t exist'}
    story.store.index = index
    assert encoded(story.store) == before


# --- reading -----------------------------------------------------------------------------------------------------------


def test_read_only_transactions(story: Story) -> None:
    read = story.store.txn_read([kv_op("get", "k"), node_op("get", "n1"), kv_op("get-tree", "d/")])
    assert read.value.errors is None
    assert len(read.value.results or ()) == 4
    assert read.index == story.store.index
    errors = story.store.txn_read([kv_op("get", "none"), node_op("get", "n9")]).value.errors
    assert [(error.op_index, error.what) for error in errors or ()] == [
        (0, 'key "none" doesn\'t exist'),
        (1, 'node "n9" doesn\'t exist'),
    ]


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (kv_op("set", "k", b"9"), 'unknown KV verb "set"'),
        (kv_op("delete-tree", ""), 'unknown KV verb "delete-tree"'),
        (node_op("delete", "n1"), 'unknown Node verb "delete"'),
        (service_op("set", "n1"), 'unknown Service verb "set"'),
        (check_op("cas", "n1"), 'unknown Check verb "cas"'),
    ],
)
def test_a_read_only_transaction_writes_nothing(story: Story, op: TxnOp, text: str) -> None:
    before = encoded(story.store)
    errors = story.store.txn_read([op]).value.errors
    assert [error.what for error in errors or ()] == [text]
    assert encoded(story.store) == before

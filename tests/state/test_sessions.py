"""Sessions and locks (reference: HTTP API 2.4 and 4)."""

import pytest

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.errors import RequestFailed

from .stories import Story, check, node_op, registration, serf, service, session, uuid


@pytest.fixture
def story() -> Story:
    told = Story()
    told.register("n1", service=service("web"), checks=[serf(), check("c"), check("s", service_id="web")])
    told.register("n2", address="10.0.0.2")
    return told


def test_lock_life(story: Story) -> None:
    first, second = story.session(1), story.session(2)
    assert story.lock("k", first, b"one") is True
    assert (story.entry("k").lock_index, story.entry("k").session) == (1, first)
    assert story.lock("k", second, b"two") is False
    assert story.unlock("k", second) is False
    assert story.lock("k", first, b"again") is True
    assert (story.entry("k").lock_index, story.entry("k").value) == (1, b"again")
    assert story.unlock("k", first, b"done") is True
    assert (story.entry("k").lock_index, story.entry("k").session, story.entry("k").value) == (1, "", b"done")
    assert story.lock("k", second) is True
    assert story.entry("k").lock_index == 2
    assert story.store.take_released_locks() == []


def test_locking_again_with_the_same_content_changes_nothing(story: Story) -> None:
    holder = story.session()
    story.lock("k", holder)
    before = story.entry("k").modify_index
    assert story.lock("k", holder) is True
    assert story.entry("k").modify_index == before


@pytest.mark.parametrize("operation", ["set", "cas"])
def test_plain_writes_keep_the_holder_and_forget_the_lock_index(story: Story, operation: str) -> None:
    holder = story.session()
    story.lock("k", holder)
    index = story.entry("k").modify_index if operation == "cas" else 0
    assert story.do(c.KV(operation, "k", b"new", index=index)) is True
    assert (story.entry("k").lock_index, story.entry("k").session) == (0, holder)


def test_locks_do_not_protect_against_deletion(story: Story) -> None:
    holder = story.session(lock_delay=10)
    story.lock("k", holder)
    story.delete("k")
    story.destroy(holder)
    assert story.store.take_released_locks() == []


@pytest.mark.parametrize(
    ("session_id", "text"),
    [
        ("", "missing session"),
        ("short", "failed session lookup: index error: UUID must be 36 characters"),
        (uuid(9), f'invalid session "{uuid(9)}"'),
    ],
)
def test_lock_refusals(story: Story, session_id: str, text: str) -> None:
    assert story.refused(c.KV("lock", "k", session=session_id)) == text


def test_unlock_refusals(story: Story) -> None:
    assert story.refused(c.KV("unlock", "k")) == "missing session"
    assert story.unlock("k", uuid(9)) is False


def test_destroy_releases_keys_and_starts_lock_delays(story: Story) -> None:
    holder = story.session(lock_delay=15)
    for key in ("b", "a"):
        story.lock(key, holder, b"kept")
    story.destroy(holder)
    entry = story.entry("a")
    assert (entry.session, entry.value, entry.lock_index, entry.modify_index) == ("", b"kept", 1, story.store.index)
    assert story.store.take_released_locks() == [("a", 15), ("b", 15)]
    assert story.store.take_released_locks() == []
    assert story.store.kv_list("").index == story.store.index


def test_destroy_deletes_keys_if_the_session_wants_it(story: Story) -> None:
    holder = story.session(behavior="delete", lock_delay=1)
    story.lock("a", holder)
    story.set("b")
    story.destroy(holder)
    assert story.store.kv_keys("", "").value == ["b"]
    assert story.store.kv_get("a").index == story.store.index
    assert story.store.take_released_locks() == [("a", 1)]


def test_no_lock_delay_without_a_delay(story: Story) -> None:
    holder = story.session()
    story.lock("a", holder)
    story.destroy(holder)
    assert story.store.take_released_locks() == []


def test_destroying_an_unknown_session_moves_nothing(story: Story) -> None:
    before = story.store.session_list().index
    story.destroy(uuid(9))
    assert story.store.session_list().index == before


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"node": "nobody"}, "Missing node registration"),
        ({"node_checks": ["nope"]}, "Missing check 'nope' registration"),
        ({"node": "n2", "node_checks": ["serfHealth"]}, "Missing check 'serfHealth' registration"),
        ({"service_checks": [m.ServiceCheckRef(id="nope")]}, "Missing check 'nope' registration"),
        ({"checks": ["nope"]}, "Missing check 'nope' registration"),
    ],
)
def test_create_refusals(story: Story, fields: dict[str, object], text: str) -> None:
    assert story.refused(session(1, **fields)) == text  # type: ignore[arg-type]
    assert story.sessions() == []


def test_a_critical_check_forbids_a_session(story: Story) -> None:
    story.register("n1", skip_node_update=True, checks=[check("c", m.CRITICAL)])
    assert story.refused(session(1, node_checks=["c"])) == "Check 'c' is in critical state"


@pytest.mark.parametrize(
    "fields",
    [
        {"node_checks": ["c"]},
        {"service_checks": [m.ServiceCheckRef(id="c")]},
        {"node_checks": ["serfHealth"], "checks": ["C"]},
        {"node_checks": ["serfHealth", "serfHealth", "c"], "checks": ["C", "serfhealth"]},
    ],
)
def test_a_session_ends_when_its_check_turns_critical(story: Story, fields: dict[str, object]) -> None:
    holder = story.session(**fields)
    story.lock("k", holder)
    story.register("n1", skip_node_update=True, checks=[check("c", m.WARNING)])
    assert story.sessions() == [holder]
    story.register("n1", skip_node_update=True, checks=[check("c", m.CRITICAL)])
    assert story.sessions() == []
    assert story.entry("k").session == ""


def test_a_session_without_checks_outlives_them(story: Story) -> None:
    holder = story.session()
    story.register("n1", skip_node_update=True, checks=[check("c", m.CRITICAL), serf(m.CRITICAL)])
    assert story.sessions() == [holder]


def test_a_session_ends_with_its_check(story: Story) -> None:
    story.session(node_checks=["c"])
    story.deregister("n1", check="c")
    assert story.sessions() == []


def test_a_session_ends_with_the_service_that_owns_its_check(story: Story) -> None:
    story.session(service_checks=[m.ServiceCheckRef(id="s")])
    story.deregister("n1", service="web")
    assert story.sessions() == []


def test_a_session_ends_with_its_node(story: Story) -> None:
    story.session()
    other = story.session(2, "n2")
    story.deregister("N1")
    assert story.sessions() == [other]


def test_a_session_ends_when_its_node_is_renamed(story: Story) -> None:
    story.register("old", id=uuid(77))
    story.session(1, "old")
    story.register("new", id=uuid(77))
    assert story.sessions() == []


def test_prepared_queries_of_a_session_go_with_it(story: Story) -> None:
    holder = story.session()
    query = m.PreparedQuery(id=uuid(50), session=holder, service=m.QueryService(service="web"))
    assert story.do(c.PreparedQueryChange(r.PreparedQueryRequest(op="create", query=query))) == uuid(50)
    story.destroy(holder)
    assert story.store.query_get(uuid(50)).value is None
    assert story.store.query_list().index == story.store.index


def test_reads(story: Story) -> None:
    first, second = story.session(2, ttl="10s"), story.session(1, "n2")
    assert story.sessions() == [second, first]
    assert [found.id for found in story.store.node_sessions("N1").value] == [first]
    assert story.store.node_sessions("nobody").value == []
    assert [found.id for found in story.store.sessions_with_ttl()] == [first]
    found = story.store.session_get(first)
    assert found.value is not None
    assert (found.value.ttl, found.value.create_index, found.index) == ("10s", 3, 3)
    assert story.store.session_get(uuid(9)).value is None
    with pytest.raises(RequestFailed, match="UUID must be 36 characters"):
        story.store.session_get("short")


def test_a_refused_registration_does_not_end_sessions(story: Story) -> None:
    """The critical check comes first, then a refusal: the command must leave no trace."""
    holder = story.session(node_checks=["c"], lock_delay=5)
    story.lock("k", holder)
    watch = story.watch(("sessions",), ("kv", "k"), ("kv-prefix", ""), ("node-checks", "n1"), ("service", "web"))
    checks = [check("c", m.CRITICAL), check("x", service_id="nope")]
    assert "Missing service registration" in story.refused(registration("n1", skip_node_update=True, checks=checks))
    assert story.sessions() == [holder]
    assert story.entry("k").session == holder
    assert story.store.take_released_locks() == []
    assert story.statuses("n1")["c"] == m.PASSING
    assert not watch.fired


def test_a_failed_transaction_does_not_end_sessions(story: Story) -> None:
    holder = story.session(1, "n2", lock_delay=5)
    story.lock("k", holder)
    response = story.txn(node_op("delete", "n2"), node_op("get", "nobody"))
    assert response.errors
    assert story.sessions() == [holder]
    story.destroy(holder)
    assert story.store.take_released_locks() == [("k", 5)]

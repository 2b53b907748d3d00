"""Following everything: what is told after an index, once a thing, and when something is missing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.records import HealthCheck, NodeService
from discovery.state import feed as feeds
from discovery.state.store import StateStore

from .stories import Story, check, service


@pytest.fixture
def story() -> Story:
    return Story()


def told(store: StateStore, index: int, **wanted: Any) -> list[tuple[Any, ...]]:
    """The changes after `index`; all must be known."""
    found = store.changes(r.ChangesRequest(min_query_index=index, **wanted)).value
    assert found.complete
    return [(each.index, each.kind, each.key or each.node_name, each.id, each.deleted) for each in found.changes]


def test_keys(story: Story) -> None:
    story.set("a", b"1")
    story.set("b", b"1")
    story.set("a", b"2")
    story.set("a", b"2")
    story.delete("b")
    assert told(story.store, 1) == [(3, "key", "a", "", False), (5, "key", "b", "", True)]
    assert told(story.store, 3) == [(5, "key", "b", "", True)]
    assert told(story.store, 1, key_prefix="a") == [(3, "key", "a", "", False)]
    (change,) = story.store.changes(r.ChangesRequest(min_query_index=1, key_prefix="a")).value.changes
    assert change.kv is not None
    assert (change.kv.value, change.kv.modify_index) == (b"2", 3)


def test_a_refused_command_changes_nothing(story: Story) -> None:
    story.set("a")
    story.refused(c.Register(r.RegisterRequest(node="n", address="x", checks=[check("c", service_id="none")])))
    assert told(story.store, 1) == []


def test_the_catalog(story: Story) -> None:
    story.set("k")
    story.register("N1", "10.0.0.1", service=service("web", id="w1"), checks=[check("c", service_id="w1")])
    assert told(story.store, 1) == [
        (2, "node", "N1", "", False), (2, "service", "N1", "w1", False), (2, "check", "N1", "c", False),
    ]  # fmt: skip
    story.register("N1", "10.0.0.1", service=service("web", id="w1"), checks=[check("c", service_id="w1")])
    assert told(story.store, 2) == []
    story.do(c.Deregister(r.DeregisterRequest(node="n1", service_id="w1")))
    assert told(story.store, 3) == [(4, "check", "N1", "c", True), (4, "service", "N1", "w1", True)]


def test_only_what_is_wanted(story: Story) -> None:
    story.set("k")
    story.register("n1", "10.0.0.1", service=service("web", id="w1"), checks=[check("c", service_id="w1")])
    story.register("n2", "10.0.0.2", service=service("db", id="d1"))
    assert told(story.store, 1, kinds=["service"], service="WEB") == [(2, "service", "n1", "w1", False)]
    assert told(story.store, 1, kinds=["service", "check"], node="N2") == [(3, "service", "n2", "d1", False)]
    assert told(story.store, 1, kinds=["check"]) == [(2, "check", "n1", "c", False)]


def test_a_service_is_found_under_the_name_it_had(story: Story) -> None:
    story.register("n1", "10.0.0.1", service=service("web", id="w1"))
    story.register("n1", "10.0.0.1", service=service("api", id="w1"))
    for name in ("web", "api"):
        assert told(story.store, 1, kinds=["service"], service=name) == [(2, "service", "n1", "w1", False)]


def test_a_follower_is_woken(story: Story) -> None:
    story.set("k")
    read = story.store.changes(r.ChangesRequest(min_query_index=1, kinds=["key"], key_prefix="a/"))
    watch = story.watch(*read.topics)
    assert read.index == 1
    story.set("b")
    assert not watch.fired
    story.set("a/x")
    assert watch.fired


def test_where_to_begin(story: Story) -> None:
    story.set("k")
    story.set("l")
    found = story.store.changes(r.ChangesRequest()).value
    assert (found.changes, found.index, found.complete) == ([], 2, True)


def test_who_asks_for_too_much_is_told_so(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "CAPACITY", 4)
    store = StateStore()
    store.apply([c.KV("set", f"k{number}", b"") for number in range(6)])
    found = store.changes(r.ChangesRequest(min_query_index=1))
    assert not found.value.complete
    assert found.index > 1
    assert [each.index for each in store.changes(r.ChangesRequest(min_query_index=2)).value.changes] == [3, 4, 5, 6]
    ahead = store.changes(r.ChangesRequest(min_query_index=99))
    assert (ahead.value.complete, ahead.value.index, ahead.index > 99) == (False, 6, True)


def test_after_a_restore_nothing_of_before_is_known(story: Story) -> None:
    story.set("a")
    story.set("b")
    other = StateStore()
    other.restore(list(story.store.capture().chunks()))
    assert not other.changes(r.ChangesRequest(min_query_index=1)).value.complete
    assert told(other, 2) == []
    other.apply([c.KV("set", "c", b"")])
    assert told(other, 2) == [(3, "key", "c", "", False)]


def test_after_a_restore_through_the_log_nothing_of_before_is_known(story: Story) -> None:
    for number in range(9):
        story.set(f"k{number}")
    data = b"".join(story.store.capture().chunks())
    other = Story()
    other.do(c.RestoreChunk("r", data, last=True))
    assert other.store.index == 9
    assert not other.store.changes(r.ChangesRequest(min_query_index=5)).value.complete


def test_long_answers_are_cut_between_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "BATCH", 3)
    store = StateStore()
    many = c.RegisterMany([r.RegisterRequest(node=f"n{number}", address="1") for number in range(5)])
    store.apply([c.KV("set", "a", b""), many, c.KV("set", "b", b"")])
    found = store.changes(r.ChangesRequest(min_query_index=1)).value
    assert [each.index for each in found.changes] == [2] * 5
    assert [each.index for each in store.changes(r.ChangesRequest(min_query_index=found.index)).value.changes] == [3]


# --- whatever happens ----------------------------------------------------------------------------------------------

NODES = st.sampled_from(["n1", "n2"])
IDS = st.sampled_from(["a", "b"])
KEYS = st.sampled_from(["x", "y", "x/z"])
COMMANDS = st.one_of(
    st.builds(lambda key, value: c.KV("set", key, value), KEYS, st.sampled_from([b"1", b"2"])),
    st.builds(lambda key: c.KV("delete", key), KEYS),
    st.builds(lambda key: c.KV("delete-tree", key), KEYS),
    st.builds(
        lambda node, name, status: c.Register(
            r.RegisterRequest(
                node=node,
                address="10.0.0.1",
                service=NodeService(id=name, service=name),
                checks=[HealthCheck(node=node, check_id=name, service_id=name, status=status)],
            )
        ),
        NODES, IDS, st.sampled_from(["passing", "critical"]),
    ),
    st.builds(lambda node, name: c.Deregister(r.DeregisterRequest(node=node, service_id=name)), NODES, IDS),
    st.builds(lambda node: c.Deregister(r.DeregisterRequest(node=node)), NODES),
)  # fmt: skip


class Mirror:
    """A follower's idea of the state, from nothing but what it is told."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str, str], object] = {}
        self.index = 1

    def follow(self, store: StateStore) -> None:
        found = store.changes(r.ChangesRequest(min_query_index=self.index)).value
        assert found.complete
        for change in found.changes:
            thing = (change.kind, change.key or change.node_name, change.id)
            if change.deleted:
                self.things.pop(thing, None)
            else:
                self.things[thing] = change.kv or change.check or change.service or change.node
        self.index = found.index


def actual(store: StateStore) -> dict[tuple[str, str, str], object]:
    things: dict[tuple[str, str, str], object] = {("key", entry.key, ""): entry for entry in store.kv_list("").value}
    for info in store.node_dump().value:
        things |= {("service", info.node, each.id): each for each in info.services or ()}
        things |= {("check", info.node, each.check_id): each for each in info.checks or ()}
    return things | {("node", node.node, ""): node for node in store.nodes().value}


@settings(deadline=None)
@given(st.lists(st.lists(COMMANDS, max_size=4), max_size=12))
def test_a_follower_knows_what_is_so(blocks: list[list[c.Command]]) -> None:
    store, mirror = StateStore(), Mirror()
    store.apply([c.KV("set", "first", b"")])
    mirror.things = actual(store)
    for block in blocks:
        store.apply(block)
        mirror.follow(store)
        assert mirror.things == actual(store)

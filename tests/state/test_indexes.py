"""Which write moves which index and wakes which watch, and which must not (reference: HTTP API 1.9).

One world, every kind of read, one write at a time: a read's index moves exactly when the write is about what it reads, and its
watch fires in the same cases. Where Consul 1.8.7 moves more (whole tables, things that are not there), this is stricter.
"""

from collections.abc import Callable
from typing import Any

import pytest

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.query import Read
from discovery.state.store import StateStore
from discovery.state.tables import NEVER

from .stories import (
    Story,
    check,
    config_entry,
    coordinates,
    deregistration,
    intention,
    query,
    registration,
    serf,
    service,
    session,
    uuid,
)

READS: dict[str, Callable[[StateStore], Read[Any]]] = {
    "key": lambda s: s.kv_get("d/k"),
    "key beside": lambda s: s.kv_get("e"),
    "missing key": lambda s: s.kv_get("d/none"),
    "prefix": lambda s: s.kv_list("d/"),
    "prefix keys": lambda s: s.kv_keys("d/", "/"),
    "empty prefix": lambda s: s.kv_list("f/"),
    "all keys": lambda s: s.kv_list(""),
    "nodes": lambda s: s.nodes(),
    "node n1": lambda s: s.node_services("n1"),
    "node n1 by id": lambda s: s.node_service_list(uuid(71)),
    "node n1 by start of id": lambda s: s.node_services("0000"),
    "unknown start of id": lambda s: s.node_services("00ff"),
    "node n2": lambda s: s.node_services("n2"),
    "missing node": lambda s: s.node_services("n9"),
    "missing node id": lambda s: s.node_services(uuid(79)),
    "services": lambda s: s.services(),
    "services with meta": lambda s: s.services({"rack": "1"}),
    "catalog web": lambda s: s.service_nodes("web"),
    "health web": lambda s: s.check_service_nodes("web"),
    "checks web": lambda s: s.service_checks("web"),
    "connect web": lambda s: s.check_service_nodes("web", connect=True),
    "health db": lambda s: s.check_service_nodes("db"),
    "connect db": lambda s: s.check_service_nodes("db", connect=True),
    "ingress web": lambda s: s.check_service_nodes("web", ingress=True),
    "missing service": lambda s: s.check_service_nodes("nope"),
    "node checks n1": lambda s: s.node_checks("n1"),
    "node checks n2": lambda s: s.node_checks("n2"),
    "state any": lambda s: s.checks_in_state("any"),
    "state passing": lambda s: s.checks_in_state("passing"),
    "state critical": lambda s: s.checks_in_state("critical"),
    "ui node n1": lambda s: s.node_info("n1"),
    "ui nodes": lambda s: s.node_dump(),
    "ui services": lambda s: s.service_dump(),
    "sessions": lambda s: s.session_list(),
    "session": lambda s: s.session_get(uuid(1)),
    "missing session": lambda s: s.session_get(uuid(9)),
    "sessions n1": lambda s: s.node_sessions("n1"),
    "sessions n2": lambda s: s.node_sessions("n2"),
    "coordinates": lambda s: s.coordinates(),
    "coordinate n1": lambda s: s.coordinate("n1"),
    "coordinate n2": lambda s: s.coordinate("n2"),
    "queries": lambda s: s.query_list(),
    "query": lambda s: s.query_get(uuid(51)),
    "missing query": lambda s: s.query_get(uuid(59)),
    "resolve": lambda s: s.query_resolve("q"),
    "entries": lambda s: s.config_entry_list(""),
    "entries of kind": lambda s: s.config_entry_list("service-defaults"),
    "entry": lambda s: s.config_entry_get("service-defaults", "web"),
    "missing entry": lambda s: s.config_entry_get("service-defaults", "nope"),
    "intentions": lambda s: s.intention_list(),
    "intention": lambda s: s.intention_get(uuid(61)),
    "match": lambda s: s.intention_match("source", [("default", "a")]),
    "autopilot": lambda s: s.autopilot_config(),
}

WEB = {"catalog web", "health web"}
WEB_CHECKS = {"checks web", "node checks n1", "ui node n1"}
UI = {"ui nodes", "ui services"}
CHECKS = {"state any", *UI}
N1 = {"node n1", "node n1 by id", "node n1 by start of id", "ui node n1"}
N1_CHECKS = {"node checks n1", "ui node n1"}
KEY = {"key", "prefix", "prefix keys", "all keys"}
SESSIONS = {"sessions", "sessions n1"}
QUERIES = {"queries", "resolve"}
INTENTIONS = {"intentions", "match"}


def populated() -> Story:
    story = Story()
    story.register(
        "n1",
        id=uuid(71),
        node_meta={"rack": "1"},
        service=service("web", tags=["a"]),
        checks=[serf(), check("c", service_id="web"), check("own")],
    )
    story.register("n1", skip_node_update=True, service=service("sidecar", id="sidecar", **proxy("web")))
    story.register("n2", "10.0.0.2", service=service("db"), checks=[check("d", service_id="db")])
    story.set("d/k")
    story.set("e")
    story.session(1, "n1", node_checks=["own"], lock_delay=5)
    story.lock("d/lock", uuid(1))
    story.session(2, "n2")
    story.do(coordinates(n1=1.0, n2=2.0))
    story.do(query(51, "q"))
    story.do(config_entry("service-defaults", "web", Protocol="http"))
    story.do(intention(61, "a", "b"))
    story.do(c.AutopilotChange(m.AutopilotConfig(min_quorum=1)))
    return story


def proxy(destination: str) -> dict[str, Any]:
    return {"kind": "connect-proxy", "proxy": m.Proxy(destination_service_name=destination)}


def update(node: str, address: str = "10.0.0.1", **fields: Any) -> c.Register:
    return registration(node, address, skip_node_update=True, **fields)


N1_NODE = {"id": uuid(71), "node_meta": {"rack": "1"}}

WRITES: list[tuple[str, c.Command, set[str]]] = [
    ("key changes", c.KV("set", "d/k", b"2"), KEY),
    ("key stays the same", c.KV("set", "d/k", b"v"), set()),
    ("key beside changes", c.KV("set", "e", b"2"), {"key beside", "all keys"}),
    ("key appears", c.KV("set", "d/none", b"2"), {"missing key", "prefix", "prefix keys", "all keys"}),
    ("key appears elsewhere", c.KV("set", "g", b"2"), {"all keys"}),
    ("prefix fills", c.KV("set", "f/x", b"2"), {"empty prefix", "all keys"}),
    ("key goes", c.KV("delete", "d/k"), KEY),
    ("missing key is deleted", c.KV("delete", "d/none"), set()),
    ("tree goes", c.KV("delete-tree", "d/"), KEY),
    ("tree around goes", c.KV("delete-tree", ""), {*KEY, "key beside"}),
    ("empty tree is deleted", c.KV("delete-tree", "f/"), set()),
    ("condition does not hold", c.KV("cas", "d/k", b"2", index=999), set()),
    ("lock is taken by another", c.KV("lock", "d/lock", b"v", session=uuid(2)), set()),
    (
        "node appears",
        registration("n3", "10.0.0.3"),
        {"nodes", "services with meta", *UI},
    ),
    (
        "node with an id appears",
        registration("n3", "10.0.0.3", id=uuid(79)),
        {"nodes", "services with meta", "missing node id", "node n1 by start of id", "unknown start of id", *UI},
    ),
    ("missing node appears", registration("n9", "10.0.0.9"), {"nodes", "services with meta", "missing node", *UI}),
    ("node stays the same", registration("n1", **N1_NODE), set()),
    (
        "node moves",
        registration("n1", "10.1.1.1", **N1_NODE),
        {"nodes", "services with meta", "connect web", *N1, *WEB, *UI},
    ),
    ("service stays the same", update("n1", service=service("web", tags=["a"])), set()),
    (
        "service changes",
        update("n1", service=service("web", tags=["a"], port=81)),
        {"services with meta", *WEB, *N1, *UI},
    ),
    (
        "service changes its tags",
        update("n1", service=service("web", tags=["b"])),
        {"services", "services with meta", *WEB, *N1, *UI},
    ),
    (
        "service changes its name",
        update("n1", service=service("nope", id="web", tags=["a"])),
        {"services", "services with meta", "missing service", *WEB, *N1, *UI},
    ),
    (
        "instance appears on another node",
        update("n2", "10.0.0.2", service=service("web", tags=["a"])),
        {"services with meta", "node n2", *WEB, *UI},
    ),
    (
        "another service appears on the node",
        update("n1", service=service("other")),
        {"services", "services with meta", *N1, *UI},
    ),
    (
        "missing service appears",
        update("n2", "10.0.0.2", service=service("nope")),
        {"services", "services with meta", "missing service", "node n2", *UI},
    ),
    (
        "service becomes native",
        update("n2", "10.0.0.2", service=service("db", connect=m.Connect(native=True))),
        {"services with meta", "health db", "connect db", "node n2", *UI},
    ),
    (
        "instance goes",
        deregistration("n1", service="web"),
        {"services", "services with meta", "state passing", *WEB, *N1, *WEB_CHECKS, *CHECKS},
    ),
    (
        "proxy goes",
        deregistration("n1", service="sidecar"),
        {"services", "services with meta", "connect web", *N1, *UI},
    ),
    ("missing instance is deregistered", deregistration("n1", service="none"), set()),
    ("check stays the same", update("n1", checks=[check("c", service_id="web")]), set()),
    (
        "service check turns",
        update("n1", checks=[check("c", m.CRITICAL, service_id="web")]),
        {"state passing", "state critical", *WEB, *WEB_CHECKS, *CHECKS},
    ),
    (
        "service check says something else",
        update("n1", checks=[check("c", service_id="web", output="x")]),
        {"state passing", *WEB, *WEB_CHECKS, *CHECKS},
    ),
    (
        "node check turns",
        update("n1", checks=[serf(m.CRITICAL)]),
        {"state passing", "state critical", "connect web", *WEB, *N1_CHECKS, *CHECKS},
    ),
    (
        "node check of another node turns",
        update("n2", "10.0.0.2", checks=[serf()]),
        {"state passing", "health db", "node checks n2", *CHECKS},
    ),
    (
        "check goes",
        deregistration("n1", check="c"),
        {"state passing", *WEB, *WEB_CHECKS, *CHECKS},
    ),
    ("missing check is deregistered", deregistration("n1", check="none"), set()),
    (
        "node goes",
        deregistration("n1"),
        {
            *(
                "nodes",
                "services",
                "services with meta",
                "connect web",
                "state passing",
                "session",
                "unknown start of id",
                "coordinate n1",
                "coordinates",
            ),
            *("prefix", "prefix keys", "all keys"),
            *(*N1, *WEB, *WEB_CHECKS, *CHECKS, *SESSIONS),
        },
    ),
    ("missing node is deregistered", deregistration("n9"), set()),
    ("session is made", session(3, "n1"), SESSIONS),
    (
        "session of another node ends",
        c.SessionChange(r.SessionRequest(op="destroy", session=m.Session(id=uuid(2)))),
        {"sessions", "sessions n2"},
    ),
    (
        "session with a lock ends",
        c.SessionChange(r.SessionRequest(op="destroy", session=m.Session(id=uuid(1)))),
        {*SESSIONS, "session", "prefix", "prefix keys", "all keys"},
    ),
    ("missing session is destroyed", c.SessionChange(r.SessionRequest(op="destroy", session=m.Session(id=uuid(9)))), set()),
    ("coordinate changes", coordinates(n1=5.0), {"coordinates", "coordinate n1"}),
    ("coordinate stays the same", coordinates(n1=1.0), set()),
    ("coordinate of a missing node", coordinates(n9=1.0), set()),
    ("query changes", query(51, "q", op="update", service="x"), {"query", *QUERIES}),
    ("query appears", query(52, "r"), QUERIES),
    ("missing query appears", query(59, "r"), {"missing query", *QUERIES}),
    ("query goes", query(51, "q", op="delete"), {"query", *QUERIES}),
    ("missing query is deleted", query(59, "r", op="delete"), set()),
    (
        "entry changes",
        config_entry("service-defaults", "web", Protocol="grpc"),
        {"entries", "entries of kind", "entry"},
    ),
    ("entry stays the same", config_entry("service-defaults", "web", Protocol="http"), set()),
    ("entry of another kind", config_entry("service-resolver", "web"), {"entries"}),
    (
        "missing entry appears",
        config_entry("service-defaults", "nope"),
        {"entries", "entries of kind", "missing entry"},
    ),
    ("entry goes", config_entry("service-defaults", "web", op="delete"), {"entries", "entries of kind", "entry"}),
    ("missing entry is deleted", config_entry("service-defaults", "nope", op="delete"), set()),
    ("intention changes", intention(61, "a", "c", op="update"), {"intention", *INTENTIONS}),
    ("intention appears", intention(62, "c", "d"), INTENTIONS),
    ("intention goes", intention(61, "a", "b", op="delete"), {"intention", *INTENTIONS}),
    ("autopilot changes", c.AutopilotChange(m.AutopilotConfig(min_quorum=3)), {"autopilot"}),
    ("nothing to reap", c.ReapTombstones(1), set()),
]


@pytest.mark.parametrize(("command", "moved"), [write[1:] for write in WRITES], ids=[write[0] for write in WRITES])
def test_a_write_moves_and_wakes_what_it_is_about_and_nothing_else(command: c.Command, moved: set[str]) -> None:
    story = populated()
    before = {name: read(story.store) for name, read in READS.items()}
    watches = {name: story.watch(*found.topics) for name, found in before.items()}
    story.do(command)
    after = {name: read(story.store) for name, read in READS.items()}
    assert {name for name, watch in watches.items() if watch.fired} == moved
    assert {name for name in READS if after[name].index != before[name].index} == moved
    for name in READS:
        if name in moved:
            assert after[name].index == story.store.index, name
        else:
            assert after[name].value == before[name].value, name
    assert min(found.index for found in after.values()) >= NEVER


def test_nothing_has_an_index_of_zero() -> None:
    store = StateStore()
    assert {name: read(store).index for name, read in READS.items()} == dict.fromkeys(READS, NEVER)


def test_what_is_gone_keeps_the_index_of_its_end_until_that_is_reaped() -> None:
    story = populated()
    story.deregister("n1")
    end = story.store.index
    names = ("node n1", "node n1 by id", "health web", "node checks n1", "session", "sessions n1", "coordinate n1")
    story.set("later")
    assert {READS[name](story.store).index for name in names} == {end}
    assert story.store.has_tombstones(end)
    watches = [story.watch(*READS[name](story.store).topics) for name in names]
    story.do(c.ReapTombstones(end))
    assert {READS[name](story.store).index for name in names} == {NEVER}
    assert not any(watch.fired for watch in watches)
    assert not story.store.has_tombstones(end)


def test_what_comes_back_has_the_index_of_its_return_and_is_not_reaped() -> None:
    story = populated()
    story.deregister("n2")
    story.register("n2", "10.0.0.2", service=service("db"))
    back = story.store.index
    story.do(c.ReapTombstones(back))
    assert story.store.check_service_nodes("db").index == story.store.node_services("n2").index == back


def test_what_is_back_has_nothing_to_reap() -> None:
    story = Story()
    story.register(service=service("web"))
    story.deregister("n1", service="web")
    assert story.store.has_tombstones(story.store.index)
    story.register(service=service("web"))
    assert not story.store.has_tombstones(story.store.index)


def test_commands_of_a_block_move_indexes_one_by_one() -> None:
    story = Story()
    story.store.apply([registration("n1"), c.KV("set", "a", b"1"), registration("n2", "10.0.0.2"), c.KV("set", "b", b"1")])
    assert (story.store.nodes().index, story.store.node_services("n1").index, story.store.kv_get("a").index) == (3, 1, 2)


def test_an_unusual_state_is_forgotten_once_its_end_is_reaped() -> None:
    story = Story()
    story.register(checks=[check("c", "odd")])
    assert story.store.checks_in_state("odd").index == 1
    story.register(checks=[check("c", m.WARNING)])
    story.register(checks=[check("c", m.PASSING)])
    assert story.store.checks_in_state("odd").index == 2
    story.do(c.ReapTombstones(3))
    assert story.store.checks_in_state("odd").index == NEVER
    assert story.store.checks_in_state(m.WARNING).index == 3

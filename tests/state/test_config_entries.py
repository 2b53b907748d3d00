"""Central configuration documents (reference: HTTP API 15) and the chains they make. Refusals as told by Consul 1.8.7."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model.errors import RequestFailed

from .stories import Story, config_entry


@pytest.fixture
def story() -> Story:
    return Story()


def names(story: Story, kind: str = "") -> list[tuple[str, str]]:
    return [(entry["Kind"], entry["Name"]) for entry in story.store.config_entry_list(kind).value]


def defaults(name: str, protocol: str) -> c.ConfigEntryChange:
    return config_entry("service-defaults", name, Protocol=protocol)


def everyone_speaks(protocol: str) -> c.ConfigEntryChange:
    return config_entry("proxy-defaults", "global", Config={"protocol": protocol})


def resolver(name: str, **fields: Any) -> c.ConfigEntryChange:
    return config_entry("service-resolver", name, **fields)


def router(name: str, *services: str, subset: str = "") -> c.ConfigEntryChange:
    routes = [{"Destination": {"Service": service, **({"ServiceSubset": subset} if subset else {})}} for service in services]
    return config_entry("service-router", name, Routes=routes)


def splitter(name: str, *splits: dict[str, Any]) -> c.ConfigEntryChange:
    return config_entry("service-splitter", name, Splits=list(splits))


def delete(kind: str, name: str) -> c.ConfigEntryChange:
    return config_entry(kind, name, op="delete")


def test_life(story: Story) -> None:
    assert story.do(defaults("web", "http")) is True
    story.set("k")
    assert story.do(defaults("web", "tcp")) is True
    assert story.store.config_entry_get("service-defaults", "web").value == {
        "Kind": "service-defaults", "Name": "web", "Protocol": "tcp", "CreateIndex": 1, "ModifyIndex": 3,
    }  # fmt: skip
    assert story.do(delete("service-defaults", "web")) is True
    assert story.do(delete("service-defaults", "web")) is True
    assert story.store.config_entry_get("service-defaults", "web").value is None


def test_indexes_are_the_stores_and_not_the_callers(story: Story) -> None:
    story.do(config_entry("mesh", "mesh", CreateIndex=77, ModifyIndex=88))
    found = story.store.config_entry_get("mesh", "mesh").value or {}
    assert (found["CreateIndex"], found["ModifyIndex"]) == (1, 1)


def test_the_same_document_again_changes_nothing(story: Story) -> None:
    story.do(defaults("web", "http"))
    assert story.do(defaults("web", "http")) is True
    assert (story.store.config_entry_get("service-defaults", "web").value or {})["ModifyIndex"] == 1


@pytest.mark.parametrize(("cas", "held"), [(0, False), (1, True), (9, False)])
def test_cas_on_a_known_document(story: Story, cas: int, held: bool) -> None:
    story.do(defaults("web", "http"))
    assert story.do(config_entry("service-defaults", "web", op="upsert-cas", cas=cas, Protocol="tcp")) is held


@pytest.mark.parametrize(("name", "cas", "held"), [("web", 1, True), ("WEB", 1, True), ("web", 0, False), ("db", 0, False)])
def test_cas_on_a_removal(story: Story, name: str, cas: int, held: bool) -> None:
    story.do(defaults("web", "http"))
    assert story.do(config_entry("service-defaults", name, op="delete-cas", cas=cas)) is held
    assert names(story) == ([] if held else [("service-defaults", "web")])


@pytest.mark.parametrize(("cas", "held"), [(0, True), (1, False)])
def test_cas_on_a_new_document(story: Story, cas: int, held: bool) -> None:
    assert story.do(config_entry("service-defaults", "web", op="upsert-cas", cas=cas, Protocol="tcp")) is held
    assert names(story) == ([("service-defaults", "web")] if held else [])


def test_lists_are_sorted_by_kind_and_name(story: Story) -> None:
    for entry in (defaults("b", "http"), resolver("x"), defaults("a", "http"), config_entry("mesh", "mesh")):
        story.do(entry)
    expected = [("mesh", "mesh"), ("service-defaults", "a"), ("service-defaults", "b"), ("service-resolver", "x")]
    assert names(story) == expected
    assert names(story, "service-defaults") == expected[1:3]
    assert names(story, "none") == []


def test_unknown_operation(story: Story) -> None:
    assert story.refused(config_entry("mesh", "mesh", op="zap")) == "Invalid config entry operation 'zap'"


ADVANCED = 'discovery chain "{}" uses a protocol "{}" that does not permit advanced routing or splitting behavior'
INCONSISTENT = 'discovery chain "{}" uses inconsistent protocols; service "{}" has "{}" which is not "{}"'


@pytest.mark.parametrize(
    ("before", "command", "text"),
    [
        ([], router("a"), ADVANCED.format("a", "tcp")),
        ([], splitter("a", {"Weight": 100}), ADVANCED.format("a", "tcp")),
        ([everyone_speaks("http"), defaults("a", "")], router("a"), ADVANCED.format("a", "tcp")),
        ([everyone_speaks("http"), defaults("a", "tcp")], router("a", "b"), INCONSISTENT.format("a", "b", "http", "tcp")),
        ([everyone_speaks("http"), router("b", "c")], delete("proxy-defaults", "global"), ADVANCED.format("b", "tcp")),
        ([everyone_speaks("http"), router("b", "c")], everyone_speaks("tcp"), ADVANCED.format("b", "tcp")),
        ([everyone_speaks("http"), router("b", "c")], defaults("c", "tcp"), INCONSISTENT.format("b", "c", "tcp", "http")),
        ([defaults("b", "http"), router("b")], delete("service-defaults", "b"), ADVANCED.format("b", "tcp")),
        ([everyone_speaks("http")], router("b", "c", subset="q"), 'service "c" does not have a subset named "q"'),
        ([], splitter("b", {"Weight": 100, "ServiceSubset": "v9"}), 'service "b" does not have a subset named "v9"'),
        ([], resolver("a", DefaultSubset="v1"), 'service "a" does not have a subset named "v1"'),
        (
            [],
            resolver("q", Redirect={"Service": "r", "ServiceSubset": "zz"}),
            'service "r" does not have a subset named "zz"',
        ),
        (
            [],
            resolver("c", Subsets={"v1": {}}, DefaultSubset="v1", Failover={"v1": {"Service": "d", "ServiceSubset": "zz"}}),
            'service "d" does not have a subset named "zz"',
        ),
        (
            [resolver("a", Redirect={"Service": "b"})],
            resolver("b", Redirect={"Service": "a"}),
            "detected circular resolver redirect: [b.default.dc1 -> a.default.dc1 -> b.default.dc1]",
        ),
        (
            [everyone_speaks("http"), splitter("b", {"Weight": 50, "Service": "c"}, {"Weight": 50})],
            splitter("c", {"Weight": 50, "Service": "b"}, {"Weight": 50}),
            "detected circular reference: [splitter:c.default -> splitter:b.default -> splitter:c.default]",
        ),
        ([resolver("a", Redirect={"Service": "b"})], defaults("b", "http"), INCONSISTENT.format("a", "b", "http", "tcp")),
        (
            [everyone_speaks("http"), resolver("c", Failover={"*": {"Service": "d"}})],
            defaults("d", "tcp"),
            INCONSISTENT.format("c", "d", "tcp", "http"),
        ),
    ],
)
def test_documents_that_contradict_each_other_are_refused(
    story: Story, before: list[c.Command], command: c.Command, text: str
) -> None:
    for known_before in before:
        assert story.do(known_before) is True
    known = story.store.config_entry_list("")
    watch = story.watch(*known.topics)
    assert story.refused(command) == text
    assert story.store.config_entry_list("") == known
    assert not watch.fired


@pytest.mark.parametrize(
    "commands",
    [
        [defaults("a", "http"), router("a")],
        [everyone_speaks("grpc"), router("a", "b", "c"), splitter("b", {"Weight": 50, "Service": "c"}, {"Weight": 50})],
        [resolver("q", Redirect={"Service": "q"})],
        [resolver("q", Redirect={"Datacenter": "dc9"})],
        [resolver("q", Redirect={"Service": "q", "ServiceSubset": "x"}, Subsets={"x": {}})],
        [resolver("q", DefaultSubset="x", Subsets={"x": {}}, Failover={"x": {"Datacenters": ["dc2", "dc3"]}})],
        [everyone_speaks("http"), defaults("d", "tcp"), resolver("e", Redirect={"Service": "f"}), router("g", "f")],
        [config_entry("proxy-defaults", "other", Config={"protocol": "tcp"})],
    ],
)
def test_documents_that_go_together_are_taken(story: Story, commands: list[c.Command]) -> None:
    assert [story.do(command) for command in commands] == [True] * len(commands)


def test_a_chain_of_many_splitters_is_refused(story: Story) -> None:
    story.do(everyone_speaks("http"))
    refusals = [
        story.do(splitter(f"s{number}", {"Weight": 50, "Service": f"s{number + 1}"}, {"Weight": 50}))
        for number in range(150, 0, -1)
    ]
    assert refusals[:100] == [True] * 100
    assert str(refusals[100]) == 'discovery chain "s50" has more than 100 splitters'


def test_splitters_with_very_many_ways_through_them_are_refused(story: Story) -> None:
    """Forty layers of two splitters, each leading to both of the next: a walk along every way would never end."""
    story.do(everyone_speaks("http"))
    results = [
        story.do(
            splitter(f"{side}{layer}", {"Weight": 50, "Service": f"a{layer + 1}"}, {"Weight": 50, "Service": f"b{layer + 1}"})
        )
        for layer in range(40, 0, -1)
        for side in "ab"
    ]
    assert results[:10] == [True] * 10
    refusals = {str(result).partition('" ')[2] for result in results if result is not True}
    assert refusals == {"splits into more than 10000 parts"}


FIELDS = [
    "Service",
    "ServiceSubset",
    "Name",
    "Routes",
    "Splits",
    "Destination",
    "Match",
    "Weight",
    "Listeners",
    "Services",
    "Protocol",
]
FIELDS += [
    "Config",
    "protocol",
    "Redirect",
    "Failover",
    "Subsets",
    "DefaultSubset",
    "Datacenters",
    "ConnectTimeout",
    "MeshGateway",
    "*",
]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 200), st.sampled_from(["", "a", "b", "http", "*", "10s"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)),
    max_leaves=12,
)
KINDS = [
    "service-defaults",
    "proxy-defaults",
    "service-router",
    "service-splitter",
    "service-resolver",
    "ingress-gateway",
    "mesh",
    "x",
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.sampled_from(["a", "b", "global"]),
            st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
        ),
        max_size=8,
    )
)
def test_malformed_documents_stop_no_server(documents: list[tuple[str, str, dict[str, Any]]]) -> None:
    story = Story()
    for kind, name, fields in documents:
        before = story.store.config_entry_list("")
        result = story.do(config_entry(kind, name, **fields))
        if result is not True:
            assert isinstance(result, RequestFailed)
            assert story.store.config_entry_list("") == before
        story.store.check_service_nodes("a", ingress=True)


def test_services_may_change_behind_an_ingress_gateway_but_no_gateway_may_begin_wrong() -> None:
    story = Story()
    gateway = {"Listeners": [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "web"}]}]}
    assert story.do(config_entry("ingress-gateway", "gw", **gateway)) is True
    assert story.do(config_entry("service-defaults", "web", Protocol="http")) is True
    text = 'service "web" has protocol "http", which does not match defined listener protocol "tcp"'
    assert story.refused(config_entry("ingress-gateway", "other", **gateway)) == text

"""Reads of instances with their health (reference: HTTP API 5.3 and 6)."""

import pytest

from discovery.model import records as m
from discovery.model.requests import NodeServiceList

from .stories import Story, check, config_entry, serf, service, uuid


@pytest.fixture
def story() -> Story:
    told = Story()
    told.register(
        "n2", "10.0.0.2", node_meta={"rack": "2"}, service=service("web", id="w2", tags=["V1", "blue"]), checks=[serf(m.CRITICAL)]
    )
    told.register(
        "N1",
        id=uuid(71),
        node_meta={"rack": "1"},
        service=service("Web", id="w1", tags=["v1"], address="10.9.0.1"),
        checks=[check("z", service_id="w1"), check("a", service_id="w1"), check("own"), serf()],
    )
    told.register("N1", skip_node_update=True, service=service("web", id="w0"))
    return told


def test_instances_are_sorted_by_node_then_id_with_node_checks_first(story: Story) -> None:
    found = story.store.check_service_nodes("WEB").value
    assert [(row.node.node, row.service.id) for row in found] == [("N1", "w0"), ("N1", "w1"), ("n2", "w2")]
    assert [[check.check_id for check in row.checks] for row in found] == [
        ["own", "serfHealth"],
        ["own", "serfHealth", "a", "z"],
        ["serfHealth"],
    ]


def test_catalog_and_health_list_instances_in_the_same_order(story: Story) -> None:
    flat = [(row.node, row.service_id) for row in story.store.service_nodes("web").value]
    assert flat == story.instances("web")


@pytest.mark.parametrize(
    ("tags", "ids"),
    [(["v1"], ["w1", "w2"]), (["V1", "BLUE"], ["w2"]), (["blue", "none"], []), ([""], []), ([], ["w0", "w1", "w2"])],
)
def test_tags_match_in_any_case(story: Story, tags: list[str], ids: list[str]) -> None:
    assert [row.service.id for row in story.store.check_service_nodes("web", tags=tags).value] == ids
    flat = story.store.service_nodes("web", tags=tags, tag_filter=True).value
    assert [row.service_id for row in flat] == ids
    assert len(story.store.service_nodes("web", tags=tags).value) == 3


def test_node_meta_filters(story: Story) -> None:
    wanted = {"rack": "1"}
    assert [row.service.id for row in story.store.check_service_nodes("web", meta=wanted).value] == ["w0", "w1"]
    assert [row.service_id for row in story.store.service_nodes("web", meta_filters=wanted).value] == ["w0", "w1"]
    assert [node.node for node in story.store.nodes(wanted).value] == ["N1"]
    assert [found.check_id for found in story.store.service_checks("web", wanted).value] == ["a", "z"]
    assert story.store.service_checks("web", {"rack": "2"}).value == []
    assert [found.node for found in story.store.checks_in_state("any", {"rack": "2"}).value] == ["n2"]


def test_service_address_filter_falls_back_to_the_node(story: Story) -> None:
    assert [row.service_id for row in story.store.service_nodes("web", address="10.9.0.1").value] == ["w1"]
    assert [row.service_id for row in story.store.service_nodes("web", address="10.0.0.1").value] == ["w0"]
    assert [row.service_id for row in story.store.service_nodes("", address="10.0.0.2").value] == ["w2"]


def test_flat_rows_carry_the_node(story: Story) -> None:
    row = story.store.service_nodes("web").value[1]
    assert row == m.ServiceNode(
        id=uuid(71),
        node="N1",
        address="10.0.0.1",
        datacenter="dc1",
        node_meta={"rack": "1"},
        service_id="w1",
        service_name="Web",
        service_tags=["v1"],
        service_address="10.9.0.1",
        service_weights=m.Weights(1, 1),
        service_port=80,
        create_index=2,
        modify_index=2,
    )


def test_connect_finds_proxies_by_destination_and_native_instances(story: Story) -> None:
    proxy = m.Proxy(destination_service_name="WEB")
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("p", kind="connect-proxy", proxy=proxy))
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("web", id="native", connect=m.Connect(native=True)))
    assert [row.service.id for row in story.store.check_service_nodes("web", connect=True).value] == ["native", "p"]
    assert [row.service_id for row in story.store.service_nodes("Web", connect=True).value] == ["native", "p"]
    assert story.store.check_service_nodes("p", connect=True).value == []
    assert len(story.store.check_service_nodes("web", connect=True, tags=["of-no-proxy"]).value) == 2
    assert len(story.store.service_nodes("web", connect=True, tags=["of-no-proxy"]).value) == 2


@pytest.mark.parametrize("weights", [m.Weights(), m.Weights(-1, 1), m.Weights(1, -1), m.Weights(65536, 1)])
def test_weights_that_cannot_be_used_count_as_none(story: Story, weights: m.Weights) -> None:
    story.register("n1", skip_node_update=True, service=service("w", weights=weights))
    assert story.store.service_nodes("w").value[0].service_weights == m.Weights(1, 1)
    index = story.store.service_nodes("w").index
    story.register("n1", skip_node_update=True, service=service("w", weights=weights))
    assert story.store.service_nodes("w").index == index


def test_ingress_finds_the_gateways_that_expose_a_service(story: Story) -> None:
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("gw", kind="ingress-gateway"))
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("gw", id="plain"))
    read = story.store.check_service_nodes("web", ingress=True)
    watch = story.watch(*read.topics)
    assert read.value == []
    story.do(config_entry("ingress-gateway", "gw", Listeners=[{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "web"}]}]))
    assert watch.fired
    read = story.store.check_service_nodes("Web", ingress=True)
    assert [row.service.id for row in read.value] == ["gw"]
    watch = story.watch(*read.topics)
    story.register("n2", "10.0.0.2", skip_node_update=True, checks=[check("c", m.WARNING, service_id="gw")])
    assert watch.fired


def test_a_terminating_gateway_stands_for_what_it_leads_to(story: Story) -> None:
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("gw", kind="terminating-gateway"))
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("gw", id="plain"))

    def behind(name: str) -> list[str]:
        return [row.service.id for row in story.store.check_service_nodes(name, connect=True).value]

    watch = story.watch(*story.store.check_service_nodes("web", connect=True).topics)
    assert behind("web") == []
    story.do(config_entry("terminating-gateway", "gw", Services=[{"Name": "Web"}]))
    assert watch.fired
    assert [behind(name) for name in ("web", "other")] == [["gw"], []]
    assert [row.service_id for row in story.store.service_nodes("web", connect=True).value] == ["gw"]


@pytest.mark.parametrize(("kind", "question"), [("ingress-gateway", "ingress"), ("terminating-gateway", "connect")])
def test_a_wildcard_of_a_gateway_means_services_that_are_there(story: Story, kind: str, question: str) -> None:
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("gw", kind=kind))
    services = [{"Name": "*"}]
    links = {"Listeners": [{"Port": 1, "Protocol": "tcp", "Services": services}]} if kind == "ingress-gateway" else {}
    story.do(config_entry(kind, "gw", **(links or {"Services": services})))

    def behind(name: str) -> list[str]:
        return [row.service.id for row in story.store.check_service_nodes(name, **{question: True}).value]

    assert [behind(name) for name in ("web", "new", "gw")] == [["gw"], [], []]
    watch = story.watch(*story.store.check_service_nodes("new", **{question: True}).topics)
    story.register("n2", "10.0.0.2", skip_node_update=True, service=service("new"))
    assert watch.fired
    assert behind("new") == ["gw"]


def test_a_kept_answer_is_never_an_old_one(story: Story) -> None:
    """Answers about services are kept in the store: every kind of change must throw them away."""
    steps = [
        lambda: story.register("N1", skip_node_update=True, checks=[check("z", m.CRITICAL, service_id="w1")]),
        lambda: story.register("N1", skip_node_update=True, checks=[check("own", m.WARNING)]),
        lambda: story.register("N1", "10.7.7.7", id=uuid(71)),
        lambda: story.register("N1", skip_node_update=True, service=service("web", id="w1", port=9)),
        lambda: story.register("N1", skip_node_update=True, service=service("web", id="w4")),
        lambda: story.deregister("N1", check="own"),
        lambda: story.deregister("N1", service="w1"),
        lambda: story.register("new", id=uuid(71), service=service("web", id="w1")),
        lambda: story.deregister("n2"),
    ]
    for step in steps:
        before = story.store.check_service_nodes("web").value
        step()
        after = story.store.check_service_nodes("web").value
        assert after != before
        assert after == [row for row in story.store.service_dump().value if row.service.service.lower() == "web"]


def test_a_caller_may_not_spoil_a_kept_answer(story: Story) -> None:
    story.store.check_service_nodes("web").value.clear()
    assert len(story.store.check_service_nodes("web").value) == 3


def test_node_reads(story: Story) -> None:
    found = story.store.node_service_list("n1").value
    assert [service.id for service in found.services or ()] == ["w0", "w1"]
    assert list((story.store.node_services("n1").value or NodeServiceList()).services or ()) == ["w0", "w1"]
    assert story.store.node_service_list("n9").value == NodeServiceList()
    story.register("bare", "10.0.0.3")
    assert story.store.node_service_list("bare").value.services is None
    bare = story.store.node_services("bare").value
    assert bare is not None
    assert bare.services == {}
    assert [check.check_id for check in story.store.node_checks("N1").value] == ["a", "own", "serfHealth", "z"]


def test_checks_by_service_and_state(story: Story) -> None:
    assert [found.check_id for found in story.store.service_checks("WEB").value] == ["a", "z"]
    states = {
        state: len(story.store.checks_in_state(state).value) for state in ("any", "passing", "critical", "warning", "PASSING")
    }
    assert states == {"any": 5, "passing": 4, "critical": 1, "warning": 0, "PASSING": 0}
    order = [(found.node, found.check_id) for found in story.store.checks_in_state("any").value]
    assert order == sorted(order, key=lambda key: (key[0].lower(), key[1].lower()))


def test_dumps_for_the_ui(story: Story) -> None:
    dump = story.store.node_dump().value
    assert [(info.node, [service.id for service in info.services or ()]) for info in dump] == [
        ("N1", ["w0", "w1"]),
        ("n2", ["w2"]),
    ]
    assert story.store.node_info("n1").value == dump[:1]
    assert story.store.node_info("n9").value == []
    assert [row.service.id for row in story.store.service_dump().value] == ["w0", "w1", "w2"]
    assert [row.service.id for row in story.store.service_dump("").value] == ["w0", "w1", "w2"]
    assert story.store.service_dump("connect-proxy").value == []


def test_answers_about_names_nobody_registered_are_not_kept(story: Story) -> None:
    for number in range(100):
        story.store.check_service_nodes(f"none-{number}")
    assert len(story.store._world.catalog.health) == 0

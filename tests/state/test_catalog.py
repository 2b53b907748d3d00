"""Registration and deregistration, node identity, checks (reference: HTTP API 5)."""

from typing import Any

import pytest

from discovery.model import commands as c
from discovery.model import records as m

from .stories import Story, check, registration, serf, service, uuid

A, B = uuid(0xA), uuid(0xB)


@pytest.fixture
def story() -> Story:
    return Story()


def node(story: Story, name: str) -> m.Node:
    found = story.store.node_services(name).value
    assert found is not None
    assert found.node is not None
    return found.node


def instance(story: Story, name: str, service_id: str) -> m.NodeService:
    found = story.store.node_services(name).value
    assert found is not None
    return (found.services or {})[service_id]


def the_check(story: Story, name: str, check_id: str) -> m.HealthCheck:
    return next(found for found in story.store.node_checks(name).value if found.check_id == check_id)


def names(story: Story) -> list[str]:
    return [found.node for found in story.store.nodes().value]


# --- nodes -------------------------------------------------------------------------------------------------------------


def test_register_replaces_what_the_node_had(story: Story) -> None:
    story.register(id=A, tagged_addresses={"lan": "1"}, node_meta={"rack": "1"})
    story.register(address="10.0.0.2")
    assert node(story, "n1") == m.Node(node="n1", address="10.0.0.2", datacenter="dc1", create_index=1, modify_index=2)


def test_names_are_equal_in_any_case_and_the_newest_spelling_shows(story: Story) -> None:
    story.register("Web-1", service=service())
    story.register("WEB-1")
    assert names(story) == ["WEB-1"]
    assert story.instances("web") == [("WEB-1", "web")]
    assert node(story, "web-1").create_index == 1


def test_skip_node_update_leaves_a_known_node_alone_and_makes_an_unknown_one(story: Story) -> None:
    story.register(id=A, node_meta={"a": "1"})
    story.register(address="other", skip_node_update=True, node_meta={"b": "2"})
    assert (node(story, "n1").address, node(story, "n1").meta, node(story, "n1").id) == ("10.0.0.1", {"a": "1"}, A)
    story.register("n2", "", skip_node_update=True)
    assert node(story, "n2").address == ""


def test_an_id_is_added_to_a_name_that_had_none_and_lost_without_one(story: Story) -> None:
    story.register()
    story.register(id=A)
    assert node(story, "n1").id == A
    story.register()
    assert node(story, "n1").id == ""
    assert story.store.node_services(A).value is None


def test_a_known_id_under_a_new_name_renames_the_node_and_empties_it(story: Story) -> None:
    story.register("old", id=A, service=service(), checks=[serf()])
    story.register("new", id=A)
    assert names(story) == ["new"]
    assert (node(story, "new").create_index, node(story, "new").modify_index) == (1, 2)
    assert story.instances("web") == []
    assert story.store.node_checks("old").value == []


def test_renaming_takes_over_a_name_whose_agent_is_not_alive(story: Story) -> None:
    story.register("x", id=A)
    story.register("y", id=B, checks=[serf(m.CRITICAL)], service=service())
    story.register("y", id=A)
    assert names(story) == ["y"]
    assert (node(story, "y").id, node(story, "y").create_index) == (A, 1)
    assert story.instances("web") == [("y", "web")]
    assert story.store.node_services(B).value is None


@pytest.mark.parametrize("status", [m.PASSING, m.WARNING])
def test_renaming_to_a_name_whose_agent_is_alive_is_refused(story: Story, status: str) -> None:
    story.register("x", id=A)
    story.register("y", id=B, address="10.0.0.2", checks=[serf(status)])
    text = story.refused(registration("Y", "10.0.0.3", id=A))
    reserved = f"Node name Y is reserved by node {B} with name y (10.0.0.2)"
    assert text == f'failed inserting node: Error while renaming Node ID: "{A}" (10.0.0.3): {reserved}'
    assert names(story) == ["x", "y"]


def test_renaming_to_a_living_name_without_an_id_is_refused(story: Story) -> None:
    story.register("x", id=A)
    story.register("y", checks=[serf()])
    assert "is reserved by node  with name y" in story.refused(registration("y", id=A))


def test_a_new_id_for_a_living_name_is_refused(story: Story) -> None:
    story.register(id=A, address="10.8.0.3", checks=[serf()])
    reserved = f"Node name n1 is reserved by node {A} with name n1 (10.8.0.3)"
    assert story.refused(registration(id=B)) == f'failed inserting node: Error while renaming Node ID: "{B}": {reserved}'


@pytest.mark.parametrize("checks", [[], [serf(m.CRITICAL)], [check("other")]])
def test_a_new_id_for_a_name_that_is_not_alive_is_taken(story: Story, checks: list[m.HealthCheck]) -> None:
    story.register(id=A, checks=checks)
    story.register(id=B)
    assert (node(story, "n1").id, node(story, "n1").create_index) == (B, 1)


def test_nodes_are_found_by_id_and_by_the_start_of_one(story: Story) -> None:
    story.register("n1", id="AABB0000-0000-0000-0000-000000000001")
    story.register("n2", id="aacc0000-0000-0000-0000-000000000001", address="10.0.0.2")
    for text, name in (("aabb0000-0000-0000-0000-000000000001", "n1"), ("AABB", "n1"), ("aac", "n2")):
        assert node(story, text).node == name
    for text in ("aa", "a", "", "ff"):
        assert story.store.node_services(text).value is None


def test_a_name_goes_before_the_start_of_an_id(story: Story) -> None:
    story.register("n1", id="aabb0000-0000-0000-0000-000000000001")
    story.register("aa", "10.0.0.2")
    assert node(story, "AA").node == "aa"


def test_who_looked_for_the_start_of_an_id_is_woken_by_ids_that_begin_so(story: Story) -> None:
    story.register("n1", id="aabb0000-0000-0000-0000-000000000001")
    read = story.store.node_services("aab")
    watch = story.watch(*read.topics)
    story.register("n2", id="cc000000-0000-0000-0000-000000000001")
    assert not watch.fired
    story.register("n3", id="aabc0000-0000-0000-0000-000000000001")
    assert watch.fired
    assert story.store.node_services("aab").value is None
    assert story.store.node_services("aab").index == story.store.index


# --- services ----------------------------------------------------------------------------------------------------------


def test_service_defaults(story: Story) -> None:
    story.register(service=m.NodeService(service="web"))
    assert instance(story, "n1", "web") == m.NodeService(
        id="web", service="web", weights=m.Weights(1, 1), create_index=1, modify_index=1
    )


def test_the_same_service_again_changes_nothing(story: Story) -> None:
    story.register(
        service=service(tags=["a"], meta={"b": "1"}, weights=m.Weights(1, 1)), checks=[check("c", m.WARNING, service_id="web")]
    )
    before = story.store.service_dump().value
    story.register(service=service(tags=["a"], meta={"b": "1"}))
    assert story.store.service_dump().value == before


def test_a_service_changes_under_its_id_in_any_case(story: Story) -> None:
    story.register(service=service("web", id="ID"))
    story.register(service=service("db", id="id"))
    assert story.instances("web") == []
    assert story.instances("DB") == [("n1", "id")]
    assert instance(story, "n1", "id").create_index == 1


def test_services_tells_names_as_spelt_with_all_their_tags(story: Story) -> None:
    story.register(service=service("web", tags=["b", "a"]))
    story.register("n2", "10.0.0.2", service=service("Web", tags=["c", ""]))
    story.register("n3", "10.0.0.3", service=service("web", tags=["a"]), node_meta={"x": "1"})
    assert story.store.services().value == {"Web": ["", "c"], "web": ["a", "b"]}
    assert story.store.services({"x": "1"}).value == {"web": ["a"]}
    story.deregister("n1", service="web")
    assert story.store.services().value == {"Web": ["", "c"], "web": ["a"]}
    story.deregister("n3")
    assert story.store.services().value == {"Web": ["", "c"]}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (service("", id="x"), "Must provide service name with ID"),
        (m.NodeService(), "failed inserting service: failed inserting service: object missing primary index"),
        (service(address="0.0.0.0"), "Invalid service address"),
        (service(address="::"), "Invalid service address"),
        (service(address="[::]"), "Invalid service address"),
        (
            service(id="x", meta={"consul-y": "v"}),
            "failed inserting service: Invalid Service Meta for node n1 and serviceID x: "
            "Couldn't load metadata pair ('consul-y', 'v'): Key prefix 'consul-' is reserved for internal use",
        ),
        (
            service(kind="connect-proxy", port=0),
            "2 errors occurred:\n\t* Proxy.DestinationServiceName must be non-empty for Connect proxy services\n"
            "\t* Port must be set for a Connect proxy\n\n",
        ),
        (
            service(kind="connect-proxy", proxy=m.Proxy(destination_service_name="x"), connect=m.Connect(native=True)),
            "1 error occurred:\n\t* A Proxy cannot also be Connect Native, only typical services\n\n",
        ),
    ],
)
def test_service_refusals_leave_no_trace(story: Story, given: m.NodeService, text: str) -> None:
    assert story.refused(registration(service=given, checks=[check()])) == text
    assert (names(story), story.store.services().value) == ([], {})


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"": "v"}, "Couldn't load metadata pair ('', 'v'): Key cannot be blank"),
        ({"a b": "v"}, "Couldn't load metadata pair ('a b', 'v'): Key contains invalid characters"),
        ({"k" * 129: "v"}, f"Couldn't load metadata pair ('{'k' * 129}', 'v'): Key is too long (limit: 128 characters)"),
        ({"k": "v" * 513}, f"Couldn't load metadata pair ('k', '{'v' * 513}'): Value is too long (limit: 512 characters)"),
        ({str(number): "v" for number in range(65)}, "Node metadata cannot contain more than 64 key/value pairs"),
    ],
)
def test_meta_limits(story: Story, meta: dict[str, str], text: str) -> None:
    refusal = story.refused(registration(service=service(meta=meta)))
    assert refusal == f"failed inserting service: Invalid Service Meta for node n1 and serviceID web: {text}"


# --- checks ------------------------------------------------------------------------------------------------------------


def test_a_check_of_a_service_takes_its_name_and_tags(story: Story) -> None:
    story.register(service=service("web", id="w", tags=["a"]), checks=[check("c", service_id="W", service_name="x")])
    found = the_check(story, "n1", "c")
    assert (found.service_id, found.service_name, found.service_tags) == ("W", "web", ["a"])
    story.register(service=service("web", id="w", tags=["b"]))
    assert the_check(story, "n1", "c").service_tags == ["a"]


def test_check_defaults(story: Story) -> None:
    story.register(checks=[m.HealthCheck(check_id="c")])
    assert (the_check(story, "n1", "c").status, the_check(story, "n1", "c").node) == (m.CRITICAL, "n1")


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ({}, ""),
        ({"http": "x"}, ""),
        ({"http": "x", "tcp": "y", "interval": 1}, "http"),
        ({"tcp": "y", "interval": 1}, "tcp"),
        ({"grpc": "y", "http": "x", "interval": 1}, "grpc"),
        ({"ttl": 1}, "ttl"),
        ({"ttl": 1, "tcp": "x", "interval": 1}, "ttl"),
        ({"alias_service": "x"}, "alias"),
        ({"alias_node": "x"}, "alias"),
        ({"script_args": ["x"], "interval": 1}, "script"),
        ({"script_args": ["x"], "docker_container_id": "d", "interval": 1}, "docker"),
    ],
)
def test_the_type_follows_from_the_definition(story: Story, definition: dict[str, Any], kind: str) -> None:
    story.register(checks=[check("c", definition=m.CheckDefinition(**definition))])
    assert the_check(story, "n1", "c").type == kind
    story.register(checks=[check("c", type="mine", definition=m.CheckDefinition(**definition))])
    assert the_check(story, "n1", "c").type == "mine"


def test_the_single_check_comes_after_the_list(story: Story) -> None:
    story.register(check=check("c", m.PASSING), checks=[check("c", m.WARNING)])
    assert story.statuses("n1") == {"c": m.PASSING}


def test_any_word_is_a_status(story: Story) -> None:
    story.register(checks=[check("c", "odd")])
    assert [found.check_id for found in story.store.checks_in_state("odd").value] == ["c"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (check("c", node="n2"), 'check node "n2" does not match node "n1"'),
        (check("c", service_id="none"), 'failed inserting check: Missing service registration on node "n1"'),
        (check(""), 'failed inserting check: failed inserting check: object missing primary index on node "n1"'),
    ],
)
def test_check_refusals_leave_no_trace(story: Story, given: m.HealthCheck, text: str) -> None:
    watch = story.watch(("nodes",), ("services",), ("service", "web"))
    assert story.refused(registration(service=service(), checks=[check("first"), given])) == text
    assert (names(story), story.store.services().value, story.store.node_checks("n1").value) == ([], {}, [])
    assert not watch.fired


def test_a_refusal_does_not_take_back_the_command_before_it(story: Story) -> None:
    results = story.store.apply(
        [registration("n1"), c.KV("set", "k", b"1"), registration("n2", checks=[check("")]), c.KV("set", "l", b"1")]
    )
    assert [type(result).__name__ for result in results] == ["NoneType", "bool", "RequestFailed", "bool"]
    assert names(story) == ["n1"]
    assert story.store.kv_keys("", "").value == ["k", "l"]


# --- deregistration ----------------------------------------------------------------------------------------------------


def test_a_service_goes_with_its_checks_and_no_others(story: Story) -> None:
    story.register(service=service(), checks=[check("c", service_id="web"), check("own")])
    story.deregister("N1", service="WEB", check="own")
    assert story.instances("web") == []
    assert story.statuses("n1") == {"own": m.PASSING}


def test_a_check_goes_alone(story: Story) -> None:
    story.register(service=service(), checks=[check("c", service_id="web"), check("own")])
    story.deregister("n1", check="C")
    assert story.statuses("n1") == {"own": m.PASSING}
    assert story.instances("web") == [("n1", "web")]


def test_a_node_goes_with_all_that_is_on_it(story: Story) -> None:
    story.register(service=service(), checks=[check("c", service_id="web"), serf()])
    story.session(1)
    story.deregister("n1")
    assert (names(story), story.instances("web"), story.store.node_checks("n1").value, story.sessions()) == ([], [], [], [])


def test_a_check_register_may_rename_the_service_under_its_checks(story: Story) -> None:
    """The checks keep the name they were registered with, and are found by it, as with Consul."""
    story.register(service=service("web", id="w"), checks=[check("c", service_id="w")])
    story.register(service=service("db", id="w"))
    assert [found.check_id for found in story.store.service_checks("web").value] == ["c"]
    assert story.store.service_checks("db").value == []
    watch = story.watch(*story.store.service_checks("web").topics)
    story.deregister("n1", check="c")
    assert watch.fired
    assert story.store.service_checks("web").value == []


# --- idempotence -------------------------------------------------------------------------------------------------------


def test_is_registered_tells_whether_a_registration_would_change_anything(story: Story) -> None:
    request = registration(id=A, service=service(tags=["a"]), checks=[check("c", service_id="web")]).request
    assert not story.store.is_registered(request)
    assert names(story) == []
    story.do(c.Register(request))
    before = story.store.index, story.store.service_dump()
    assert story.store.is_registered(request)
    for other in (
        registration(id=A, service=service(tags=["b"])),
        registration(id=A, address="10.0.0.9"),
        registration(id=A, checks=[check("c", m.CRITICAL, service_id="web")]),
        registration(id=A, checks=[check("")]),
    ):
        assert not story.store.is_registered(other.request)
    assert (story.store.index, story.store.service_dump()) == before

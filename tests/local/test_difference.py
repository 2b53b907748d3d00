"""The table of what anti-entropy does, row by row."""

from collections.abc import Collection

import msgspec
import pytest

from discovery.local.difference import Belief, Identity, canonical_check, canonical_service, difference, overridden_tags
from discovery.local.entries import CheckEntry, ServiceEntry
from discovery.model.duration import Duration
from discovery.model.records import CheckDefinition, HealthCheck, Node, NodeService, ServiceAddress, Weights
from tests.local.rig import IDENTITY

NODE = Node(IDENTITY.id, IDENTITY.name, "127.0.0.1", "dc1", IDENTITY.tagged_addresses, IDENTITY.meta, 5, 6)
WEB = canonical_service(NodeService(id="web", service="web", port=80, tags=["a"]))
CHECK = canonical_check(HealthCheck(node="node1", check_id="c", name="c", status="passing", output="fine", service_id="web"))


def plan(
    services: list[NodeService],
    checks: list[HealthCheck],
    their_services: dict[str, NodeService | None],
    their_checks: dict[str, HealthCheck | None],
    *,
    node: Node | None = NODE,
    deferred: Collection[str] = (),
) -> dict[str, object]:
    found = difference(
        IDENTITY,
        {service.id: ServiceEntry(service, "", "remote") for service in services},
        {check.check_id: CheckEntry(check, None, "", "remote") for check in checks},
        Belief(node, their_services, their_checks),
        deferred,
    )
    return {key: value for key, value in msgspec.structs.asdict(found).items() if value}


@pytest.mark.parametrize(
    ("services", "theirs", "expected"),
    [
        ([WEB], {"web": WEB}, {}),
        ([WEB], {}, {"register_services": ["web"]}),
        ([WEB], {"web": None}, {"register_services": ["web"]}),
        ([WEB], {"web": msgspec.structs.replace(WEB, port=81)}, {"register_services": ["web"]}),
        ([WEB], {"web": msgspec.structs.replace(WEB, tags=["b"])}, {"register_services": ["web"]}),
        ([WEB], {"web": msgspec.structs.replace(WEB, weights=Weights(2, 1))}, {"register_services": ["web"]}),
        ([], {"web": WEB}, {"deregister_services": ["web"]}),
        ([], {"web": None}, {"deregister_services": ["web"]}),
        ([], {"consul": NodeService(id="consul", service="consul")}, {}),
    ],
)
def test_services(services: list[NodeService], theirs: dict[str, NodeService | None], expected: dict[str, object]) -> None:
    assert plan(services, [], theirs, {}) == expected


@pytest.mark.parametrize(
    ("checks", "theirs", "deferred", "expected"),
    [
        ([CHECK], {"c": CHECK}, set(), {}),
        ([CHECK], {}, set(), {"register_checks": ["c"]}),
        ([CHECK], {"c": None}, {"c"}, {"register_checks": ["c"]}),
        ([CHECK], {"c": msgspec.structs.replace(CHECK, status="critical")}, set(), {"register_checks": ["c"]}),
        ([CHECK], {"c": msgspec.structs.replace(CHECK, output="old")}, set(), {"register_checks": ["c"]}),
        ([CHECK], {"c": msgspec.structs.replace(CHECK, output="old")}, {"c"}, {}),
        ([CHECK], {"c": msgspec.structs.replace(CHECK, output="old", name="x")}, {"c"}, {"register_checks": ["c"]}),
        ([], {"c": CHECK}, set(), {"deregister_checks": ["c"]}),
        ([], {"serfHealth": HealthCheck(check_id="serfHealth")}, set(), {}),
    ],
)
def test_checks(
    checks: list[HealthCheck], theirs: dict[str, HealthCheck | None], deferred: set[str], expected: dict[str, object]
) -> None:
    assert plan([WEB], checks, {"web": WEB}, theirs, deferred=deferred) == expected


def test_checks_go_with_their_service() -> None:
    assert plan([], [], {"web": WEB}, {"c": CHECK}) == {"deregister_services": ["web"]}


@pytest.mark.parametrize(
    ("node", "differs"),
    [
        (NODE, False),
        (msgspec.structs.replace(NODE, address="10.9.9.9"), False),
        (None, True),
        (msgspec.structs.replace(NODE, id="other"), True),
        (msgspec.structs.replace(NODE, tagged_addresses=None), True),
        (msgspec.structs.replace(NODE, meta={"consul-network-segment": "", "k": "v"}), True),
    ],
)
def test_the_node(node: Node | None, differs: bool) -> None:
    assert plan([], [], {}, {}, node=node) == ({"register_node": True} if differs else {})


def test_a_node_without_meta_and_addresses_matches_null() -> None:
    bare = Identity("n", "i", "a", "dc1", {}, {})
    assert not difference(bare, {}, {}, Belief(Node("i", "n", "a", "dc1")))


def test_overridden_tags_are_adopted_only_where_allowed() -> None:
    allowed = msgspec.structs.replace(WEB, enable_tag_override=True)
    theirs = msgspec.structs.replace(allowed, tags=["theirs"])
    entries = {"web": ServiceEntry(allowed, "", "remote")}
    assert overridden_tags(entries, Belief(NODE, {"web": theirs})) == {"web": ["theirs"]}
    assert overridden_tags(entries, Belief(NODE, {"web": allowed})) == {}
    assert overridden_tags(entries, Belief(NODE, {"web": None})) == {}
    assert overridden_tags({"web": ServiceEntry(WEB, "", "remote")}, Belief(NODE, {"web": theirs})) == {}


def test_equal_records_are_equal_however_they_were_written() -> None:
    bare = NodeService(id="w", service="w", tags=[], weights=None, meta={}, tagged_addresses={}, create_index=3, modify_index=4)
    assert canonical_service(bare) == canonical_service(NodeService(id="w", service="w", weights=Weights(1, 1)))
    tagged = msgspec.structs.replace(bare, tagged_addresses={"lan": ServiceAddress("10.0.0.1", 1)})
    assert canonical_service(bare) != canonical_service(tagged)
    written = HealthCheck(check_id="c", service_tags=None, definition=CheckDefinition(interval=Duration(1)), modify_index=9)
    assert canonical_check(written) == canonical_check(HealthCheck(check_id="c", service_tags=[]))

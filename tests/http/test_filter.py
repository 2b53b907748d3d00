"""The filter language: grammar, kinds of fields, refusals."""

import pytest

from discovery.http.filter import FilterError, apply_filter, compile_filter
from discovery.model.agent import AgentService
from discovery.model.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    Proxy,
    ServiceAddress,
    ServiceNode,
    Upstream,
    Weights,
)

WEB = ServiceNode(
    node="n1",
    service_id="web-1",
    service_name="web",
    service_port=80,
    service_tags=["v1", "blue"],
    service_meta={"rack": "r1", "some-key": "x"},
    node_meta=None,
    service_weights=Weights(3, 1),
    service_enable_tag_override=True,
    service_tagged_addresses={"lan": ServiceAddress("10.0.0.1", 8080)},
    service_proxy=Proxy(upstreams=[Upstream(destination_name="db", local_bind_port=1), Upstream(destination_name="mq")]),
)
INSTANCE = CheckServiceNode(
    node=Node(node="n1", meta={"os": "linux"}),
    service=NodeService(id="w", service="w"),
    checks=[HealthCheck(check_id="a", status="passing", output='say "hi"'), HealthCheck(check_id="b", status="warning")],
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('Node == "n1"', True),
        ("Node == n1", True),
        ("Node == `n1`", True),
        ("Node==n1", True),
        ("Node != n1", False),
        ("ServicePort == 80", True),
        ("ServicePort == 81", False),
        ("ServicePort != 81", True),
        ("ServiceWeights.Passing == 3", True),
        ("ServiceEnableTagOverride == true", True),
        ("ServiceConnect.Native == false", True),
        ("v1 in ServiceTags", True),
        ('"v2" in ServiceTags', False),
        ("v2 not in ServiceTags", True),
        ("ServiceTags contains blue", True),
        ("ServiceTags not contains blue", False),
        ("ServiceTags is empty", False),
        ("ServiceTags is not empty", True),
        ("rack in ServiceMeta", True),
        ("ServiceMeta contains rack", True),
        ("ServiceMeta.rack == r1", True),
        ('ServiceMeta["some-key"] == x', True),
        ("ServiceMeta.none == x", False),
        ("ServiceMeta.none != x", True),
        ("x in ServiceMeta.none", False),
        ("x not in ServiceMeta.none", True),
        ("ServiceMeta.none matches x", True),
        ("ServiceMeta.none not matches x", True),
        ("NodeMeta is empty", True),
        ("NodeMeta.rack == r1", False),
        ("rack in NodeMeta", False),
        ("ServiceTaggedAddresses.lan.Port == 8080", True),
        ("ServiceTaggedAddresses.wan.Port == 8080", False),
        ("ServiceProxy.Upstreams.DestinationName == mq", True),
        ("ServiceProxy.Upstreams.DestinationName != db", True),
        ("ServiceProxy.Upstreams.DestinationName == none", False),
        ("ServiceProxy.Upstreams is not empty", True),
        ('ServiceID matches "^web-[0-9]$"', True),
        ("ServiceID matches eb", True),
        ('ServiceID not matches "^eb"', True),
        ("eb in ServiceName", True),
        ("ServiceName contains eb", True),
        ("not Node == n1", False),
        ("not not Node == n1", True),
        (r"Node matches `^n\d\z`", True),
        ("Node matches ``", True),
        ("not (Node == n1 and ServicePort == 81)", True),
        ("Node == x or Node == n1 and ServicePort == 80", True),
        ("(Node == n1 or Node == x) and ServicePort == 81", False),
        ("Node == n1 and not ServicePort == 81", True),
        ("  Node\t==\n n1  ", True),
        (r'ServiceName == "w\eb"', True),
    ],
)
def test_matches(expression: str, expected: bool) -> None:
    assert compile_filter(expression, ServiceNode)(WEB) is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Checks.Status == warning", True),
        ("Checks.Status == critical", False),
        ("Checks.Status != passing", True),
        ("Checks is empty", False),
        ("Node.Meta.os == linux", True),
        ("Service.Meta is empty", True),
        (r'Checks.Output contains "say \"hi\""', True),
    ],
)
def test_instances(expression: str, expected: bool) -> None:
    assert compile_filter(expression, CheckServiceNode)(INSTANCE) is expected


def test_no_element_matches_an_empty_list() -> None:
    empty = CheckServiceNode(node=Node(), service=NodeService(), checks=[])
    assert not compile_filter("Checks.Status == passing", CheckServiceNode)(empty)
    assert not compile_filter("Checks.Status != passing", CheckServiceNode)(empty)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("Foo == x", 'Selector "Foo" is not valid'),
        ("node == x", 'Selector "node" is not valid'),
        ("CreateIndex == 1", 'Selector "CreateIndex" is not valid'),
        ("Node.x == 1", 'Selector "Node.x" is not valid'),
        ("Node is not empty", 'Invalid match operator "Is Not Empty" for selector "Node"'),
        ("ServicePort == 99999999999999999999", "value out of range"),
        ("ServiceConnect.SidecarService is empty", 'Selector "ServiceConnect.SidecarService" is not valid'),
        ("ServiceMeta == x", 'Invalid match operator "Equal" for selector "ServiceMeta"'),
        ("Node is empty", 'Invalid match operator "Is Empty" for selector "Node"'),
        ("80 in ServicePort", 'Invalid match operator "In" for selector "ServicePort"'),
        (
            "ServicePort == abc",
            'Failed to coerce value "abc" for selector "ServicePort": strconv.ParseInt: parsing "abc": invalid syntax',
        ),
        ("Node", "1:5 (4): no match found, expected"),
        ("Node ==", "1:8 (7): no match found, expected"),
        ("Node == 'x'", "1:9 (8): no match found, expected"),
        ("Node == x and", "1:14 (13): no match found, expected"),
        ("Node == x y", "1:11 (10): no match found, expected"),
        ("(Node == x", '1:11 (10): no match found, expected: ")"'),
        ("Node == a\nor\n ==", "3:2 (14): no match found, expected"),
        ("", "1:1 (0): no match found, expected"),
        ('"x" == Node', "no match found, expected"),
        ('x in "Node"', "1:6 (5): no match found, expected: selector"),
        ('Node matches "["', 'Failed to compile regular expression "["'),
    ],
)
def test_refusals(expression: str, text: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(expression, ServiceNode)
    assert caught.value.text.startswith("Failed to create boolean expression evaluator: ")
    assert text in caught.value.text
    assert caught.value.status == 500


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*", "(a?b)+c", r"(\w*)*", "(?:a*){2}", "(.*)+"])
def test_patterns_that_could_take_exponential_time(pattern: str) -> None:
    with pytest.raises(FilterError, match="could take very long"):
        compile_filter(f"Node matches `{pattern}`", ServiceNode)


@pytest.mark.parametrize("pattern", ["^web-[0-9]+$", "(web|api)-1", "a+b*c?", r"[(+]+", r"\(a+\)+", "(abc)+"])
def test_harmless_patterns(pattern: str) -> None:
    compile_filter(f"Node matches `{pattern}`", ServiceNode)


def test_the_work_of_a_match_is_bounded() -> None:
    wanted = compile_filter("Node matches `.*.*.*.*x`", Node)
    assert wanted(Node(node="ax"))
    with pytest.raises(FilterError, match="could take too long"):
        wanted(Node(node="a" * 4096))


def test_nesting_and_length_are_bounded() -> None:
    with pytest.raises(FilterError, match="nested deeper"):
        compile_filter("(" * 1000 + "Node == x" + ")" * 1000, Node)
    with pytest.raises(FilterError, match="longer than"):
        compile_filter("Node == x" + " " * 10_000, Node)


def test_apply_filter() -> None:
    nodes = [Node(node="a"), Node(node="b")]
    assert apply_filter("Node == b", Node, nodes) == [nodes[1]]
    assert apply_filter("", Node, nodes) == nodes


def test_agent_services() -> None:
    assert compile_filter("p in Tags and Port == 1", AgentService)(AgentService(tags=["p"], port=1))

"""The filter language: grammar, kinds of fields, refusals."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.http.filter import apply_filter, compile_filter
from discovery.http.filter_syntax import FilterError
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
        ("Node == not", False),
        ("Node == or or Node == n1", True),
        ("((((Node == n1))))", True),
        ("not (((Node == n1)))", False),
        ("ServiceMeta[`rack`] == r1", True),
        ("contains in ServiceTags", False),
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


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*b", r"(\w*)*b", "(?:a*){20}b", "(.*)+b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """These take time exponential in the length of the text where a matcher tries one way after the other."""
    assert not compile_filter(f"Node matches `{pattern}$`", Node)(Node(node="a" * 4096 + "c"))


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)", "("])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(FilterError, match="error parsing regexp: "):
        compile_filter(f"Node matches `{pattern}`", Node)


def test_nesting_and_length_are_bounded() -> None:
    with pytest.raises(FilterError, match="nested deeper"):
        compile_filter("not (" * 1000 + "Node == x" + ")" * 1000, Node)
    with pytest.raises(FilterError, match="longer than"):
        compile_filter("Node == x" + " " * 10_000, Node)


def test_apply_filter() -> None:
    nodes = [Node(node="a"), Node(node="b")]
    assert apply_filter("Node == b", Node, nodes) == [nodes[1]]
    assert apply_filter("", Node, nodes) == nodes


def test_agent_services() -> None:
    assert compile_filter("p in Tags and Port == 1", AgentService)(AgentService(tags=["p"], port=1))


# --- whatever the expression ---------------------------------------------------------------------------------------

WORDS = [
    "Node", "ServicePort", "ServiceTags", "ServiceMeta.rack", "==", "!=", "not", "and", "or", "in", "is", "empty", "contains",
    "matches", "(", ")", "[", "]", '"x"', "`^a`", "80", "-1.5", ".", "x/y", '"',
]  # fmt: skip
NAMES = st.sampled_from(["a", "b", "ab", "not", "or", "a b", 'say "hi"', "", "x/y", "é"])


class Expression(NamedTuple):
    """An expression and what it means of a node."""

    text: str
    holds: Callable[[Node], bool]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def equals(value: str) -> Expression:
    return Expression(f"Node == {quoted(value)}", lambda node: node.node == value)


def contains(value: str) -> Expression:
    return Expression(f"Node not contains {quoted(value)}", lambda node: value not in node.node)


def has_key(value: str) -> Expression:
    return Expression(f"{quoted(value)} in Meta", lambda node: value in (node.meta or {}))


def entry_differs(value: str) -> Expression:
    return Expression(f"Meta[{quoted(value)}] != x", lambda node: (node.meta or {}).get(value) != "x")


COMPARISONS = st.one_of(*(st.builds(make, NAMES) for make in (equals, contains, has_key, entry_differs))) | st.just(
    Expression("Meta is empty", lambda node: not node.meta)
)


def negation(part: Expression) -> Expression:
    return Expression(f"not ({part.text})", lambda node: not part.holds(node))


def conjunction(left: Expression, right: Expression) -> Expression:
    return Expression(f"({left.text}) and ({right.text})", lambda node: left.holds(node) and right.holds(node))


def disjunction(left: Expression, right: Expression) -> Expression:
    return Expression(f"{left.text} or {right.text}", lambda node: left.holds(node) or right.holds(node))


EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda part: st.builds(negation, part) | st.builds(conjunction, part, part) | st.builds(disjunction, part, part),
    max_leaves=8,
)
NODES = st.builds(Node, node=NAMES, meta=st.none() | st.dictionaries(NAMES, st.sampled_from(["x", "y"]), max_size=3))


@settings(deadline=None)
@given(EXPRESSIONS, NODES)
def test_an_expression_means_what_its_parts_mean(expression: Expression, node: Node) -> None:
    assert compile_filter(expression.text, Node)(node) is expression.holds(node)


@settings(deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with suppress(FilterError):
        assert compile_filter(text, ServiceNode)(WEB) in (True, False)

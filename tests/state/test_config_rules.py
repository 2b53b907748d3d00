"""What is refused of a configuration entry by itself, and how it is kept. Refusals as told by Consul 1.8.7."""

from typing import Any

import pytest

from discovery.model.errors import RequestFailed
from discovery.state.config_rules import settled


def kept(kind: str, name: str = "w", **fields: Any) -> dict[str, Any]:
    return settled(kind, name, fields)[1]


def route(**http: Any) -> dict[str, Any]:
    return {"Routes": [{"Match": {"HTTP": http}}]}


def listener(*services: dict[str, Any], protocol: str = "http", port: int = 1) -> dict[str, Any]:
    return {"Port": port, "Protocol": protocol, "Services": list(services)}


def split(weight: float, service: str = "", **more: Any) -> dict[str, Any]:
    return {"Weight": weight, "Service": service, **more}


def test_names_that_are_fixed() -> None:
    assert settled("proxy-defaults", "other", {})[0] == "global"
    assert settled("mesh", "", {})[0] == "mesh"


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("service-defaults", {"Protocol": "HTTP2"}, {"Protocol": "http2"}),
        ("service-router", route(Methods=["get"]), {"Routes": [{"Match": {"HTTP": {"Methods": ["GET"]}}}]}),
        (
            "service-splitter",
            {"Splits": [split(33.3333, "a"), split(66.6667, "b")]},
            {"Splits": [{"Weight": 33.33, "Service": "a"}, {"Weight": 66.67, "Service": "b"}]},
        ),
        ("service-splitter", {"Splits": [split(100.0, "a")]}, {"Splits": [{"Weight": 100, "Service": "a"}]}),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a"}, protocol="")]},
            {"Listeners": [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "a", "Hosts": None}]}]},
        ),
        ("service-resolver", {"ConnectTimeout": "90s"}, {"ConnectTimeout": "1m30s"}),
    ],
)
def test_settled(kind: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    document = kept(kind, **given)
    assert {name: document[name] for name in expected} == expected
    assert (document["Kind"], document["Name"]) == (kind, "w")


SUBSET_RULE = (
    "must be 63 characters or fewer, begin or end with lower case alphanumeric characters, "
    "and contain lower case alphanumeric characters or '-' in between"
)


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("bogus", {}, "invalid config entry kind: bogus"),
        ("service-router", route(PathPrefix="a"), "Route[0] PathPrefix doesn't start with '/': \"a\""),
        ("service-router", route(PathExact="a"), "Route[0] PathExact doesn't start with '/': \"a\""),
        (
            "service-router",
            route(PathExact="/a", PathRegex="b"),
            "Route[0] should only contain at most one of PathExact, PathPrefix, or PathRegex",
        ),
        ("service-router", route(Header=[{}]), "Route[0] Header[0] missing required Name field"),
        (
            "service-router",
            route(Header=[{"Name": "h", "Present": True, "Exact": "x"}]),
            "Route[0] Header[0] should only contain one of Present, Exact, Prefix, Suffix, or Regex",
        ),
        ("service-router", route(QueryParam=[{}]), "Route[0] QueryParam[0] missing required Name field"),
        (
            "service-router",
            route(QueryParam=[{"Name": "q"}]),
            "Route[0] QueryParam[0] should only contain one of Present, Exact, or Regex",
        ),
        ("service-router", route(Methods=["get", "GET"]), 'Route[0] Methods contains "GET" more than once'),
        (
            "service-router",
            {"Routes": [{}, {"Destination": {"PrefixRewrite": "/"}}]},
            "Route[1] cannot make use of PrefixRewrite without configuring either PathExact or PathPrefix",
        ),
        ("service-splitter", {}, "no splits configured"),
        (
            "service-splitter",
            {"Splits": [split(50), split(50, "w")]},
            'split destination occurs more than once: service="w", subset="", namespace=""',
        ),
        ("service-splitter", {"Splits": [split(50)]}, "the sum of all split weights must be 100, not 50.000000"),
        (
            "service-splitter",
            {"Splits": [split(50, "a"), split(50, "a")]},
            'split destination occurs more than once: service="a", subset="", namespace=""',
        ),
        ("service-resolver", {"DefaultSubset": "v1"}, 'DefaultSubset "v1" is not a valid subset'),
        ("service-resolver", {"Subsets": {"": {}}}, "Subset defined with empty name"),
        ("service-resolver", {"Subsets": {"A_b": {}}}, f'Subset "A_b" is invalid: {SUBSET_RULE}'),
        (
            "service-resolver",
            {"Subsets": {"x" * 64: {}}},
            f'Subset "{"x" * 64}" is invalid: must be non-empty and 63 characters or fewer',
        ),
        ("service-resolver", {"Redirect": {}}, "Redirect is empty"),
        (
            "service-resolver",
            {"Redirect": {"ServiceSubset": "v1"}},
            "Redirect.ServiceSubset defined without Redirect.Service",
        ),
        ("service-resolver", {"Redirect": {"Namespace": "n"}}, "Redirect.Namespace defined without Redirect.Service"),
        (
            "service-resolver",
            {"Redirect": {"Service": "x"}, "Failover": {"*": {"Service": "y"}}},
            "Redirect and Failover cannot both be set",
        ),
        (
            "service-resolver",
            {"Failover": {"*": {}}},
            'Bad Failover["*"] one of Service, ServiceSubset, Namespace, or Datacenters is required',
        ),
        ("service-resolver", {"Failover": {"v9": {"Service": "x"}}}, 'Bad Failover["v9"]: not a valid subset'),
        (
            "service-resolver",
            {"Failover": {"*": {"ServiceSubset": "v1"}}},
            'Bad Failover["*"].ServiceSubset "v1" is not a valid subset of ""',
        ),
        (
            "service-resolver",
            {"Failover": {"*": {"Datacenters": ["dc1", ""]}}},
            'Bad Failover["*"].Datacenters: found empty datacenter',
        ),
        ("service-resolver", {"ConnectTimeout": "-5s"}, "Bad ConnectTimeout '-5s', must be >= 0"),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a"}), listener({"Name": "b"})]},
            "port 1 declared on two listeners",
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a"}, protocol="zap")]},
            "protocol must be 'tcp', 'http', 'http2', or 'grpc'. 'zap' is an unsupported protocol",
        ),
        ("ingress-gateway", {"Listeners": [listener()]}, "No service declared for listener with port 1"),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a"}, {"Name": "b"}, protocol="tcp")]},
            "Multiple services per listener are only supported for protocol = 'http' (listener on port 1)",
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "*"}, protocol="tcp")]},
            "Wildcard service name is only valid for protocol = 'http' (listener on port 1)",
        ),
        ("ingress-gateway", {"Listeners": [listener({"Name": ""})]}, "Service name cannot be blank (listener on port 1)"),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "*", "Hosts": ["x"]})]},
            "Associating hosts to a wildcard service is not supported (listener on port 1)",
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a", "Hosts": ["x"]}, protocol="tcp")]},
            "Associating hosts to a service is not supported for the tcp protocol (listener on port 1)",
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a", "Hosts": ["x", "x"]})]},
            "Hosts must be unique within a specific listener (listener on port 1)",
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a", "Hosts": ["a.*"]})]},
            'Host "a.*" is not valid, a wildcard specifier is only allowed as the leftmost label',
        ),
        (
            "ingress-gateway",
            {"Listeners": [listener({"Name": "a", "Hosts": ["a..b"]})]},
            'Host "a..b" must be a valid DNS hostname',
        ),
        (
            "ingress-gateway",
            {"TLS": {"Enabled": True}, "Listeners": [listener({"Name": "a", "Hosts": ["*"]})]},
            "Host '*' is not allowed when TLS is enabled, all hosts must be valid DNS records to add as a DNSSAN",
        ),
        ("terminating-gateway", {"Services": [{"Name": ""}]}, "Service name cannot be blank."),
        (
            "terminating-gateway",
            {"Services": [{"Name": "a"}, {"Name": "a"}]},
            'Service "a" was specified more than once within a namespace',
        ),
        (
            "terminating-gateway",
            {"Services": [{"Name": "a", "CertFile": "x"}]},
            'Service "a" must have a CertFile, CAFile, and KeyFile specified for TLS origination',
        ),
        ("service-intentions", {}, "At least one source is required"),
        ("service-intentions", {"Sources": [{"Action": "allow"}]}, "Sources[0].Name is required"),
        ("service-intentions", {"Sources": [{"Name": "a"}]}, "Sources[0] must set either Action or Permissions"),
        (
            "service-intentions",
            {"Sources": [{"Name": "a", "Action": "zap"}]},
            "Sources[0].Action must be set to 'allow' or 'deny'",
        ),
        (
            "service-intentions",
            {"Sources": [{"Name": "a", "Action": "deny"}, {"Name": "a", "Action": "allow"}]},
            'Sources[1] defines "a" more than once',
        ),
        ("exported-services", {}, 'exported-services Name must be "default"'),
    ],
)
def test_refused(kind: str, given: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestFailed) as refusal:
        kept(kind, **given)
    assert refusal.value.text == text


@pytest.mark.parametrize(
    ("services", "text"),
    [
        ([{"Name": ""}], "Services[0]: service name cannot be empty"),
        ([{"Name": "a"}], "Services[0]: must have at least one consumer"),
        ([{"Name": "a", "Consumers": [{}]}], "Services[0].Consumers[0]: must define exactly one of Peer or Partition"),
    ],
)
def test_exported_services_refused(services: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(RequestFailed) as refusal:
        kept("exported-services", "default", Services=services)
    assert refusal.value.text == text


@pytest.mark.parametrize("kind", ["service-router", "service-splitter", "service-resolver", "service-intentions"])
def test_a_name_is_needed(kind: str) -> None:
    with pytest.raises(RequestFailed, match="Name is required"):
        kept(kind, "")

"""Validation and defaults; the texts are those that Consul 1.8.7 answers."""

import pytest

from discovery.local import definitions as d
from discovery.local.settings import Settings
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError, InvalidRequest
from discovery.model.records import Connect, Proxy, ServiceAddress, Weights

SECOND = Duration.from_seconds(1)
META = "Invalid Service Meta: Couldn't load metadata pair "


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (ServiceSpec(id="x"), "Missing service name"),
        (ServiceSpec(name="x", address="0.0.0.0"), "Invalid service address"),
        (ServiceSpec(name="x", address="::"), "Invalid service address"),
        (ServiceSpec(name="x", weights=Weights(0, 1)), "Invalid Weights: Passing must be greater than 0"),
        (ServiceSpec(name="x", weights=Weights(1, -1)), "Invalid Weights: Warning must be greater or equal than 0"),
        (ServiceSpec(name="x", weights=Weights(70000, 1)), "Invalid Weights: DNS Weight must be between 0 and 65535"),
        (ServiceSpec(name="x", meta={"": "1"}), META + "('', '1'): Key cannot be blank"),
        (ServiceSpec(name="x", meta={"a b": "v"}), META + "('a b', 'v'): Key contains invalid characters"),
        (
            ServiceSpec(name="x", meta={"consul-x": "1"}),
            META + "('consul-x', '1'): Key prefix 'consul-' is reserved for internal use",
        ),
        (ServiceSpec(name="x", meta={"k" * 129: "v"}), META + f"('{'k' * 129}', 'v'): Key is too long (limit: 128 characters)"),
        (ServiceSpec(name="x", meta={"k": "v" * 513}), META + f"('k', '{'v' * 513}'): Value is too long (limit: 512 characters)"),
        (
            ServiceSpec(name="x", meta={f"k{i}": "v" for i in range(65)}),
            "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs",
        ),
        (
            ServiceSpec(name="x", kind="connect-proxy"),
            "2 errors occurred:\n\t* Proxy.DestinationServiceName must be non-empty for Connect proxy services\n"
            "\t* Port must be set for a Connect proxy\n\n",
        ),
        (
            ServiceSpec(name="x", kind="mesh-gateway", port=1, proxy=Proxy(destination_service_name="a")),
            "1 error occurred:\n\t* The Proxy.DestinationServiceName configuration is invalid for a mesh-gateway\n\n",
        ),
        (
            ServiceSpec(
                name="x", kind="connect-proxy", port=1, proxy=Proxy(destination_service_name="a"), connect=Connect(native=True)
            ),
            "1 error occurred:\n\t* A Proxy cannot also be Connect Native, only typical services\n\n",
        ),
    ],
)
def test_bad_services_are_refused(spec: ServiceSpec, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        d.check_service(spec, d.REMOTE)
    assert (caught.value.text, caught.value.status) == (text, 400)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (CheckSpec(notes="hi"), "TTL must be > 0 for TTL checks"),
        (CheckSpec(interval=SECOND), "TTL must be > 0 for TTL checks"),
        (CheckSpec(ttl=Duration(-5)), "TTL must be > 0 for TTL checks"),
        (CheckSpec(http="http://a/"), "Interval must be > 0 for Script, HTTP, or TCP checks"),
        (CheckSpec(grpc="a:1"), "Interval must be > 0 for Script, HTTP, or TCP checks"),
        (CheckSpec(args=["true"]), "Interval must be > 0 for Script, HTTP, or TCP checks"),
        (CheckSpec(http="http://a/", ttl=SECOND, interval=SECOND), "Interval and TTL cannot both be specified"),
        (CheckSpec(ttl=SECOND, output_max_size=-1), "MaxOutputMaxSize must be positive"),
    ],
)
def test_bad_checks_are_refused(check: CheckSpec, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^Invalid check: ") as caught:
        d.check_checks([check], d.REMOTE)
    assert caught.value.text == f"Invalid check: {text}"


@pytest.mark.parametrize(
    "check",
    [
        CheckSpec(ttl=SECOND),
        CheckSpec(ttl=SECOND, interval=Duration(-1)),
        CheckSpec(alias_service="web"),
        CheckSpec(http="http://a/", tcp="a:1", interval=SECOND),
        CheckSpec(docker_container_id="c", args=["true"], interval=SECOND),
    ],
)
def test_good_checks_pass(check: CheckSpec) -> None:
    assert d.check_problem(check) == ""


def test_an_unknown_status_is_refused_from_the_api_only() -> None:
    check = CheckSpec(ttl=SECOND, status="blue")
    with pytest.raises(InvalidRequest, match="Status for checks must 'passing', 'warning', 'critical'"):
        d.check_checks([check], d.REMOTE)
    with pytest.raises(InvalidRequest, match="Bad check status"):
        d.check_standalone(CheckSpec(name="c", ttl=SECOND, status="blue"), d.REMOTE)
    d.check_checks([check], d.FILE)


REMOTE_REFUSED = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
FILE_REFUSED = (
    "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
)


@pytest.mark.parametrize(
    ("source", "anywhere", "files", "refused"),
    [
        (d.REMOTE, False, False, REMOTE_REFUSED),
        (d.REMOTE, False, True, REMOTE_REFUSED),
        (d.REMOTE, True, False, None),
        (d.FILE, False, False, FILE_REFUSED),
        (d.FILE, False, True, None),
        (d.FILE, True, False, None),
    ],
)
@pytest.mark.parametrize("check", [CheckSpec(args=["x"]), CheckSpec(script_args=["x"]), CheckSpec(docker_container_id="c")])
def test_scripts_need_permission(check: CheckSpec, source: str, anywhere: bool, files: bool, refused: str | None) -> None:
    settings = Settings(node_name="n", enable_script_checks=anywhere, enable_local_script_checks=files)
    if refused is None:
        d.check_scripts_allowed(check, source, settings)
        return
    with pytest.raises(DiscoveryError) as caught:
        d.check_scripts_allowed(check, source, settings)
    assert (caught.value.text, caught.value.status) == (refused, 500)


def test_one_check_is_named_after_its_service_several_are_numbered() -> None:
    ttl = CheckSpec(ttl=SECOND)
    assert [c.check_id for c in d.checks_of(ServiceSpec(id="w1", name="w", check=ttl))] == ["service:w1"]
    several = d.checks_of(ServiceSpec(name="w", check=ttl, checks=[CheckSpec(ttl=SECOND, check_id="own", name="mine"), ttl]))
    assert [(c.check_id, c.name) for c in several] == [
        ("service:w:1", "Service 'w' check"),
        ("own", "mine"),
        ("service:w:3", "Service 'w' check"),
    ]
    assert {c.service_id for c in several} == {"w"}


def test_an_empty_check_counts_as_none_but_not_in_the_list() -> None:
    assert d.checks_of(ServiceSpec(name="w", check=CheckSpec())) == []
    assert len(d.checks_of(ServiceSpec(name="w", checks=[CheckSpec()]))) == 1


@pytest.mark.parametrize(
    ("address", "given", "expected"),
    [
        ("", None, None),
        ("host.x", None, None),
        ("10.0.0.1", None, {"lan_ipv4": ("10.0.0.1", 80), "wan_ipv4": ("10.0.0.1", 80)}),
        ("fe80::1", None, {"lan_ipv6": ("fe80::1", 80), "wan_ipv6": ("fe80::1", 80)}),
        ("10.0.0.9", {"lan_ipv4": ("1.2.3.4", 5)}, {"lan_ipv4": ("1.2.3.4", 5), "wan_ipv4": ("10.0.0.9", 80)}),
    ],
)
def test_an_ip_address_gives_tagged_addresses(
    address: str, given: dict[str, tuple[str, int]] | None, expected: dict[str, tuple[str, int]] | None
) -> None:
    tagged = {key: ServiceAddress(*value) for key, value in given.items()} if given else None
    service = d.service_of(ServiceSpec(name="w", port=80, address=address, tagged_addresses=tagged))
    found = service.tagged_addresses
    shown = {key: (value.address, value.port) for key, value in found.items()} if found else None
    assert shown == expected


def test_weights_default_to_one_each_but_given_parts_stand() -> None:
    assert d.service_of(ServiceSpec(name="w")).weights == Weights(1, 1)
    assert d.service_of(ServiceSpec(name="w", weights=Weights(5))).weights == Weights(5, 0)

"""Real resolvers in front of a real agent: what applications see who never heard of port 8600."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest

from tests.cluster.agents import DNS_PORT, Agent, until
from tests.dns.resolvers import ISOLATED, RESOLVERS, Resolver, SystemdResolved, isolated

SIZES = (1, 50, 500)
CONFIG = "dns_config { enable_truncate = true }"


def register(agent: Agent, service: str, number: int) -> None:
    address = f"10.{number // 250}.1.{number % 250 + 1}"
    service_part = {"ID": f"{service}-{number}", "Service": service, "Port": 1000 + number}
    agent.http("PUT", "/v1/catalog/register", {"Node": f"n{number}", "Address": address, "Service": service_part})


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """A server whose catalog outlives it, with services of 1, 50 and 500 instances, and one for IPv6."""
    started = Agent(tmp_path_factory.mktemp("agent"), "s1", "-server", "-bootstrap-expect=1", f"-hcl={CONFIG}")
    try:
        started.start().ready()
        for size in SIZES:
            for number in range(size):
                register(started, f"of-{size}", number)
        six = {"Node": "six", "Address": "2001:db8::6", "Service": {"Service": "six", "Port": 6}}
        started.http("PUT", "/v1/catalog/register", six)
        yield started
    finally:
        started.kill()


@pytest.fixture(scope="module", params=sorted(RESOLVERS))
def resolver(request: pytest.FixtureRequest, agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolver]:
    kind = RESOLVERS[request.param]
    if kind.path() is None:
        pytest.skip(f"{kind.program} is not installed (Debian package {kind.package})")
    made = kind(tmp_path_factory.mktemp(kind.program), f"{agent.address}:{DNS_PORT}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def ask(resolver: Resolver, name: str, kind: str = "A", *, edns: int = 1232) -> dns.message.Message:
    """As a stub resolver does: UDP first, TCP for what was cut off."""
    query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=edns)
    reply, _ = dns.query.udp_with_fallback(query, resolver.address, timeout=10, port=resolver.port)
    assert not reply.flags & dns.flags.TC
    return reply


def found(reply: dns.message.Message) -> list[str]:
    return sorted(str(record) for records in reply.answer for record in records)


@pytest.mark.parametrize("edns", [0, 1232])
@pytest.mark.parametrize("size", SIZES)
def test_addresses_are_complete(resolver: Resolver, size: int, edns: int) -> None:
    reply = ask(resolver, f"of-{size}.service.consul", edns=edns)
    assert reply.rcode() == dns.rcode.NOERROR
    assert found(reply) == sorted(f"10.{number // 250}.1.{number % 250 + 1}" for number in range(size))


@pytest.mark.parametrize("edns", [0, 1232])
@pytest.mark.parametrize("size", SIZES)
def test_srv_records_are_complete(resolver: Resolver, size: int, edns: int) -> None:
    if size > resolver.most_srv:
        pytest.skip(f"{resolver.program} can't pass on more than about {resolver.most_srv} SRV records")
    for name in (f"of-{size}.service.consul", f"_of-{size}._tcp.service.consul"):
        reply = ask(resolver, name, "SRV", edns=edns)
        assert found(reply) == sorted(f"1 1 {1000 + number} n{number}.node.dc1.consul." for number in range(size))


def test_targets_of_srv_records_resolve(resolver: Resolver) -> None:
    target = ask(resolver, "of-1.service.consul", "SRV").answer[0][0].target
    assert found(ask(resolver, str(target))) == ["10.0.1.1"]


def test_ipv6(resolver: Resolver) -> None:
    assert found(ask(resolver, "six.service.consul", "AAAA")) == ["2001:db8::6"]
    other = ask(resolver, "six.service.consul", "A")
    assert (other.rcode(), other.answer) == (dns.rcode.NOERROR, [])


def test_mixed_case(resolver: Resolver) -> None:
    for name in ("Of-1.SERVICE.consul", "of-1.service.CONSUL", "oF-1.sErViCe.cOnSuL"):
        reply = ask(resolver, name)
        assert str(reply.question[0].name) == f"{name}."
        assert found(reply) == ["10.0.1.1"]


def test_unknown_names(resolver: Resolver) -> None:
    for name in ("nope.service.consul", "nope.node.consul", "nope.query.consul", "of-1.service.nowhere.consul", "odd.consul"):
        for kind in ("A", "AAAA"):
            reply = ask(resolver, name, kind)
            assert (reply.rcode(), reply.answer) == (dns.rcode.NXDOMAIN, []), (name, kind)


def test_reverse_names(resolver: Resolver) -> None:
    name = dns.reversename.from_address("10.0.1.1")
    assert found(ask(resolver, str(name), "PTR")) == ["n0.node.dc1.consul."]


def test_what_comes_and_goes_is_seen(resolver: Resolver, agent: Agent) -> None:
    """BIND keeps even records with a TTL of 0 for what is left of a second."""
    name = f"fleeting-{resolver.program}.service.consul"
    assert ask(resolver, name).rcode() == dns.rcode.NXDOMAIN
    register(agent, name.partition(".")[0], 7)
    assert until(lambda: found(ask(resolver, name)), "the new instance", 3) == ["10.0.1.8"]
    agent.http("PUT", "/v1/catalog/deregister", {"Node": "n7", "ServiceID": f"fleeting-{resolver.program}-7"})
    until(lambda: ask(resolver, name).rcode() == dns.rcode.NXDOMAIN, "the instance to go", 3)


def test_an_agent_that_was_stopped_is_used_again_and_nothing_is_denied_meanwhile(resolver: Resolver, agent: Agent) -> None:
    agent.kill()
    try:
        query = dns.message.make_query("of-1.service.consul", "A")
        try:
            reply = dns.query.udp(query, resolver.address, 3, resolver.port)
            assert reply.rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED)
        except dns.exception.Timeout:
            pass
    finally:
        agent.start().ready()
    until(lambda: found(ask(resolver, "of-50.service.consul")) and True, f"{resolver.program} to ask the agent again")
    assert len(found(ask(resolver, "of-50.service.consul"))) == 50


@pytest.mark.skipif(ISOLATED in os.environ, reason="it is what runs these tests")
def test_systemd_resolved() -> None:
    """All of the above, with systemd-resolved."""
    if SystemdResolved.path() is None:
        pytest.skip(f"{SystemdResolved.program} is not installed (Debian package {SystemdResolved.package})")
    if os.getuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("systemd-resolved needs namespaces of its own: root, unshare and ip")
    environment = os.environ | {ISOLATED: "yes"}
    run = subprocess.run(isolated(__file__), env=environment, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert "passed" in run.stdout

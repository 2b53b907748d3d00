"""Two datacenters that know each other through the WAN pool."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agents import Agent, fresh_address, until

FIRST_KEY, SECOND_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
RAFT = "-hcl=performance { raft_multiplier = 1 }"


@pytest.fixture
def datacenters(tmp_path: Path) -> Iterator[tuple[Agent, Agent, Agent]]:
    """A server of dc1, a server of dc2, and a client of dc1; all of their gossip is encrypted."""
    addresses = [fresh_address(), fresh_address()]
    with contextlib.ExitStack() as stack:
        servers = [
            Agent(
                tmp_path,
                f"s{number}",
                *("-server", "-bootstrap", f"-datacenter=dc{number}", f"-encrypt={FIRST_KEY}", RAFT),
                *(f"-retry-join-wan={addresses[0]}", "-retry-interval-wan=1s"),
                address=address,
            )
            for number, address in enumerate(addresses, 1)
        ]
        client = Agent(tmp_path, "c1", f"-retry-join={addresses[0]}", "-retry-interval=1s", f"-encrypt={FIRST_KEY}")
        for agent in (*servers, client):
            stack.callback(agent.kill)
            agent.start()
        for agent in (*servers, client):
            agent.ready()
        for server in servers:
            until(lambda server=server: len(server.http("GET", "/v1/catalog/datacenters")) == 2, "the other datacenter")
        yield servers[0], servers[1], client


def test_every_agent_reaches_every_datacenter(datacenters: tuple[Agent, Agent, Agent]) -> None:
    near, far, client = datacenters
    assert near.http("GET", "/v1/catalog/datacenters") == ["dc1", "dc2"]
    assert far.http("GET", "/v1/catalog/datacenters") == ["dc2", "dc1"]
    assert client.http("PUT", "/v1/kv/a?dc=dc2", b"far") is True
    assert far.get("a") == b"far"
    assert near.get("a") is None
    assert near.get("a", "&dc=dc2") == client.get("a", "&dc=dc2") == b"far"
    assert {member["Name"] for member in near.http("GET", "/v1/agent/members?wan=1")} == {"s1.dc1", "s2.dc2"}
    assert client.http("GET", "/v1/agent/members?wan=1") is None


def test_names_resolve_across_datacenters(datacenters: tuple[Agent, Agent, Agent]) -> None:
    near, far, client = datacenters
    far.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
    for agent in (near, client):
        until(lambda agent=agent: agent.dns("web.service.dc2.consul").rr, f"{agent.name} to resolve the far service")
        assert str(agent.dns("s2.node.dc2.consul").rr[0].rdata) == far.address
        assert not agent.dns("web.service.consul").rr


def test_a_prepared_query_fails_over_to_another_datacenter(datacenters: tuple[Agent, Agent, Agent]) -> None:
    near, far, client = datacenters
    query = {"Name": "web-anywhere", "Service": {"Service": "web", "Failover": {"Datacenters": ["nowhere", "dc2"]}}}
    client.http("POST", "/v1/query", query)

    def executed(agent: Agent) -> tuple[str, int, list[str]]:
        found = agent.http("GET", "/v1/query/web-anywhere/execute")
        return found["Datacenter"], found["Failovers"], [node["Node"]["Node"] for node in found["Nodes"]]

    assert executed(client) == ("dc2", 1, [])
    far.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
    for agent in (near, client):
        until(lambda agent=agent: executed(agent) == ("dc2", 1, ["s2"]), f"{agent.name} to find the far service")
        assert str(agent.dns("web-anywhere.query.consul").rr[0].rdata) == far.address
    near.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
    until(lambda: executed(client) == ("dc1", 0, ["s1"]), "the near service to be found")


def test_an_unknown_datacenter_is_told(datacenters: tuple[Agent, Agent, Agent]) -> None:
    for agent in datacenters:
        status, _, body = agent.status_of("GET", "/v1/kv/a?dc=nowhere")
        assert status == 500
        assert body.endswith(b"No path to datacenter")


def test_a_key_rotation_reaches_all_pools_and_loses_no_member(datacenters: tuple[Agent, Agent, Agent]) -> None:
    near, far, client = datacenters

    def change(method: str, key: str) -> None:
        near.http(method, "/v1/operator/keyring", {"Key": key}, timeout=60)

    change("POST", SECOND_KEY)
    change("PUT", SECOND_KEY)
    change("DELETE", FIRST_KEY)
    rings = near.http("GET", "/v1/operator/keyring", timeout=60)
    assert {(ring["WAN"], ring["Datacenter"]) for ring in rings} == {(True, "dc1"), (False, "dc1"), (False, "dc2")}
    assert all(list(ring["Keys"]) == [SECOND_KEY] for ring in rings)
    for agent, members in ((near, {"s1": 1, "c1": 1}), (far, {"s2": 1}), (client, {"s1": 1, "c1": 1})):
        assert {member["Name"]: member["Status"] for member in agent.http("GET", "/v1/agent/members")} == members
    client.kill()
    client.start().ready()
    assert client.put("after/rotation", b"1"), "the new key was remembered"


def test_a_key_that_is_none_is_refused_before_it_is_stored(datacenters: tuple[Agent, Agent, Agent]) -> None:
    near = datacenters[0]
    status, _, body = near.status_of("POST", "/v1/operator/keyring", {"Key": base64.b64encode(b"short").decode()})
    assert status == 500
    assert b"key size must be 16, 24 or 32 bytes" in body
    assert all(list(ring["Keys"]) == [FIRST_KEY] for ring in near.http("GET", "/v1/operator/keyring", timeout=60))

"""`check run`, `services drain` and `services zombies`: what Consul's program does not have."""

import json
from pathlib import Path
from typing import Any

import pytest

from discovery.cli.zombies import CriticalCheck, critical_checks, find, since
from tests.cluster.agents import Agent, until

from .programs import PretendedAgent, run, start


def entry(service: str, service_id: str, node: str, address: str, port: int, *checks: tuple[str, str]) -> dict[str, Any]:
    return {
        "Node": {"Node": node, "Address": "10.0.0.1"},
        "Service": {"Service": service, "ID": service_id, "Address": address, "Port": port},
        "Checks": [
            {"Node": node, "CheckID": check_id, "Status": status, "ServiceID": "" if check_id == "serfHealth" else service_id}
            for check_id, status in checks
        ],
    }


ALIVE, FAILED = ("serfHealth", "passing"), ("serfHealth", "critical")


# --- zombies ---------------------------------------------------------------------------------------------------------


def test_what_is_a_zombie() -> None:
    entries = [
        entry("web", "web-1", "n1", "", 80, ALIVE, ("c", "passing")),
        entry("web", "web-2", "n2", "", 81, FAILED, ("c", "passing")),
        entry("old", "old-1", "n3", "10.9.9.9", 90, ALIVE),
        entry("new", "new-1", "n4", "10.9.9.9", 90, ALIVE),
        entry("ill", "ill-1", "n5", "10.9.9.8", 91, ALIVE, ("c", "critical")),
        entry("ill", "ill-2", "n5", "10.9.9.7", 91, ALIVE, ("d", "critical")),
        entry("none", "none-1", "n6", "2001:db8::1", 0, ALIVE),
        entry("none", "none-2", "n6", "2001:db8::1", 0, ALIVE),
    ]
    found = find(entries, dead={CriticalCheck("n5", "ill-1", "c")})
    assert [(zombie.id, zombie.node, zombie.address, zombie.reason) for zombie in found] == [
        ("ill-1", "n5", "10.9.9.8:91", "critical"),
        ("new-1", "n4", "10.9.9.9:90", "duplicate"),
        ("old-1", "n3", "10.9.9.9:90", "duplicate"),
        ("web-2", "n2", "10.0.0.1:81", "dead-node"),
    ]
    assert found[1].why == "same address and port as old-1 on n3"


def test_since_when_a_check_is_critical() -> None:
    check = CriticalCheck("n5", "ill-1", "c")
    entries = [entry("ill", "ill-1", "n5", "", 91, FAILED, ("c", "critical"), ("w", "warning"))]
    assert critical_checks(entries) == {check}
    first = since({check}, {}, 100.0)
    assert since({check}, first, 200.0) == {check: 100.0}
    assert since({check}, since(set(), first, 150.0), 200.0) == {check: 200.0}, "it was well in between"


def test_zombies_are_listed(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/catalog/services", {"web": [], "consul": []})
    pretended.answer("GET /v1/health/service/consul", [])
    pretended.answer("GET /v1/health/service/web", [entry("web", "w", "n1", "10.0.0.9", 80, FAILED)])
    result = pretended.run("services", "zombies")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "Service  ID  Node  Address      Why",
        "web      w   n1    10.0.0.9:80  its node has failed",
    ]
    listed = json.loads(pretended.run("services", "zombies", "-format=json").out)
    expected = {"Service": "web", "ID": "w", "Node": "n1", "Address": "10.0.0.9:80", "Reason": "dead-node"}
    assert [{key: each[key] for key in expected} for each in listed] == [expected]


def test_critical_for_long_is_remembered_between_calls(pretended: PretendedAgent, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    pretended.answer("GET /v1/catalog/services", {"web": []})
    pretended.answer("GET /v1/health/service/web", [entry("web", "w", "n1", "", 80, ALIVE, ("c", "critical"))])
    arguments = ("services", "zombies", "-critical-for=1h", f"-memory={memory}", "-format=json")
    assert json.loads(pretended.run(*arguments).out) == []
    kept = json.loads(memory.read_text())
    memory.write_text(json.dumps([{**each, "Since": each["Since"] - 3600} for each in kept]))
    assert [each["Reason"] for each in json.loads(pretended.run(*arguments).out)] == ["critical"]
    memory.write_text("nonsense")
    broken = pretended.run(*arguments)
    assert broken.code == 1
    assert "holds no memory of checks" in broken.err


def test_critical_for_long_is_looked_on_at(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/catalog/services", {"web": []})
    pretended.answer("GET /v1/health/service/web", [entry("web", "w", "n1", "", 80, ALIVE, ("c", "critical"))])
    result = pretended.run("services", "zombies", "-critical-for=300ms", "-format=json")
    assert [each["Reason"] for each in json.loads(result.out)] == ["critical"]
    assert pretended.lines.count("GET /v1/health/service/web") >= 2


# --- with a real agent -----------------------------------------------------------------------------------------------


def passing(agent: Agent, service: str) -> list[str]:
    return [each["Service"]["ID"] for each in agent.http("GET", f"/v1/health/service/{service}?passing")]


@pytest.mark.parametrize("order", [("-wait=1s", "web"), ("web", "-wait", "1s")])
def test_a_service_is_drained(agent: Agent, address: str, order: tuple[str, ...]) -> None:
    for service_id in ("w1", "w2"):
        agent.http("PUT", "/v1/agent/service/register", {"ID": service_id, "Name": "web", "Port": 80})
    until(lambda: passing(agent, "web") == ["w1", "w2"], "both instances")
    process = start("services", "drain", *order, address=address)
    until(lambda: passing(agent, "web") == [], "both instances to be out of use")
    assert not agent.dns("web.service.consul").rr
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-2:] == ["Deregistered service: w1", "Deregistered service: w2"]
    assert agent.http("GET", "/v1/agent/services") == {}
    unknown = run("services", "drain", "web", address=address)
    assert (unknown.code, unknown.err.strip()) == (1, 'The agent has no service "web"')


def test_draining_goes_on_without_the_command(agent: Agent, address: str) -> None:
    agent.http("PUT", "/v1/agent/service/register", {"Name": "api", "Port": 80})
    result = run("services", "drain", "-wait=1s", "-detach", "-format=json", "api", address=address)
    assert json.loads(result.out) == [{"ID": "api", "Deregistered": False}]
    assert "api" in agent.http("GET", "/v1/agent/services")
    until(lambda: "api" not in agent.http("GET", "/v1/agent/services"), "the service to go")


def test_a_check_is_run(agent: Agent, address: str) -> None:
    body = {"Name": "tcp", "TCP": f"{agent.address}:8500", "Interval": "1h"}
    agent.http("PUT", "/v1/agent/check/register", body)
    found = run("check", "run", "tcp", address=address)
    assert (found.code, found.out) == (0, f"tcp: passing\nTCP connect {agent.address}:8500: Success\n")
    assert agent.http("GET", "/v1/agent/checks")["tcp"]["Status"] == "passing"
    agent.http("PUT", "/v1/agent/check/register", {**body, "TCP": f"{agent.address}:1", "FailuresBeforeCritical": 5})
    bad = run("check", "run", "tcp", address=address)
    assert bad.code == 2
    assert bad.out.startswith("tcp: critical\n")
    again = run("check", "run", "tcp", address=address)
    assert again.code == 2
    unknown = run("check", "run", "nope", address=address)
    assert unknown.code == 1
    assert 'Unknown check "nope"' in unknown.err


def test_a_service_of_another_node_is_deregistered_everywhere(pretended: PretendedAgent) -> None:
    pretended.answer("PUT /v1/catalog/deregister-everywhere", True)
    result = pretended.run("services", "deregister", "-id=web-1", "-node=n7")
    assert (result.code, result.out) == (0, "Deregistered service: web-1\n")
    assert json.loads(pretended.asked[0].body) == {"Node": "n7", "ServiceID": "web-1"}

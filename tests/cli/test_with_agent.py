"""Commands against a real agent of ours; the output is what Consul 1.8.7 prints against an agent of its own in the same state."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.agents import HTTP_PORT, Agent, until

from .programs import Result, run


def done(out: str) -> Result:
    return Result(0, out, "")


def test_members_and_info(agent: Agent, address: str) -> None:
    host = agent.address
    node = f"{host}:8301".ljust(15)
    heading = "Node   Address".ljust(7 + len(node)) + "  Status  Type    Build  Protocol  DC   Segment\n"
    assert run("members", address=address) == done(f"{heading}node1  {node}  alive   server  1.8.7  2         dc1  <all>\n")
    detailed = run("members", "-detailed", address=address).out.splitlines()[1]
    assert re.fullmatch(rf"node1  {node}  alive   acls=0,.*build=1\.8\.7:.*,dc=dc1,.*role=consul,.*segment=<all>,.*", detailed)
    wan = run("members", "-wan", address=address).out.splitlines()[1]
    assert wan.startswith(f"node1.dc1  {host}:8302")
    info = run("info", address=address).out
    sections = re.findall(r"^(\w+):$", info, re.MULTILINE)
    assert sections == ["agent", "build", "consul", "raft", "runtime", "serf_lan", "serf_wan"]
    assert "consul:\n\tacl = disabled\n" in info
    assert f"\tleader_addr = {host}:8300\n\tserver = true\n" in info


def test_join_and_force_leave(agent: Agent, address: str) -> None:
    joined = done("Successfully joined cluster by contacting 1 nodes.\n")
    assert run("join", agent.address, address=address) == joined
    assert run("join", "-wan", agent.address, address=address) == joined
    refused = run("force-leave", "x", address=address)
    assert refused == (1, "", "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'x')\n")


def test_keys_from_put_to_delete(address: str) -> None:
    def kv(*arguments: str, stdin: str = "") -> Result:
        return run("kv", *arguments, address=address, stdin=stdin)

    assert kv("put", "t/a", "1") == done("Success! Data written to: t/a\n")
    assert kv("put", "-flags=42", "t/b/c", "-", stdin="two\n") == done("Success! Data written to: t/b/c\n")
    assert kv("put", "t/empty") == done("Success! Data written to: t/empty\n")
    assert kv("get", "t/a") == done("1\n")
    assert kv("get", "t/empty") == done("\n")
    assert kv("get", "-keys", "t/") == done("t/a\nt/b/\nt/empty\n")
    assert kv("get", "-keys", "-separator=", "t/b") == done("t/b/c\n")
    assert kv("get", "-recurse", "-base64", "t") == done("t/a:MQ==\nt/b/c:dHdvCg==\nt/empty:\n")
    detailed = kv("get", "-detailed", "t/b/c").out
    shape = r"CreateIndex      (\d+)\nFlags            42\nKey              t/b/c\nLockIndex        0\nModifyIndex      \1\n"
    assert re.fullmatch(shape + r"Session          -\nValue            two\n\n", detailed)
    index = json.loads(kv("get", "-format=json", "t/a").out)["ModifyIndex"]
    assert kv("put", "-cas", "-modify-index=1", "t/a", "x") == (1, "", "Error! Did not write to t/a: CAS failed\n")
    assert kv("put", "-cas", f"-modify-index={index}", "t/a", "x") == done("Success! Data written to: t/a\n")
    exported = kv("export", "t/")
    assert kv("delete", "-recurse", "t/") == done("Success! Deleted keys with prefix: t/\n")
    assert kv("get", "t/a") == (1, "", "Error! No key exists at: t/a\n")
    assert kv("import", "-", stdin=exported.out) == done("Imported: t/a\nImported: t/b/c\nImported: t/empty\n")
    assert kv("export", "t/") == exported
    kv("delete", "-recurse", "t/")


def test_a_lock_on_a_key(agent: Agent, address: str) -> None:
    session = agent.http("PUT", "/v1/session/create", {"LockDelay": "0s"})["ID"]
    other = agent.http("PUT", "/v1/session/create", {})["ID"]

    def put(*flags: str) -> Result:
        return run("kv", "put", *flags, "lk", "v", address=address)

    assert put("-acquire", f"-session={session}") == done("Success! Lock acquired on: lk\n")
    assert put("-acquire", f"-session={other}") == (1, "", "Error! Did not acquire lock\n")
    assert put("-release", f"-session={other}") == (1, "", "Error! Did not release lock\n")
    assert put("-release", f"-session={session}") == done("Success! Lock released on: lk\n")
    invalid = put("-acquire", "-session=x")
    reason = "failed session lookup: index error: UUID must be 36 characters"
    assert invalid == (1, "", f"Error! Failed writing data: Unexpected response code: 500 ({reason})\n")
    for one in (session, other):
        agent.http("PUT", f"/v1/session/destroy/{one}")
    agent.http("DELETE", "/v1/kv/lk")


def test_services_and_the_catalog(agent: Agent, address: str, tmp_path: Path) -> None:
    (tmp_path / "web.hcl").write_text('service { id = "web1" name = "web" port = 80 tags = ["v2", "v1"] check { ttl = "10m" } }')
    registered = run("services", "register", "web.hcl", address=address, folder=tmp_path)
    assert registered == done("Registered service: web\n")
    assert agent.http("GET", "/v1/agent/services")["web1"]["Port"] == 80
    until(lambda: "web" in agent.http("GET", "/v1/catalog/services"), "the service to reach the catalog")
    assert run("catalog", "services", address=address) == done("consul\nweb\n")
    assert run("catalog", "services", "-tags", address=address) == done("consul      \nweb         v1,v2\n")
    assert run("catalog", "services", "-node=node1", address=address) == done("consul\nweb\n")
    assert run("catalog", "datacenters", address=address) == done("dc1\n")
    node_id = agent.http("GET", "/v1/agent/self")["Config"]["NodeID"]
    width = len(agent.address)
    expected = f"Node   ID        {'Address'.ljust(width)}  DC\nnode1  {node_id[:8]}  {agent.address}  dc1\n"
    assert run("catalog", "nodes", address=address) == done(expected)
    assert run("catalog", "nodes", "-service=web", address=address) == done(expected)
    nothing = "No nodes match the given query - try expanding your search.\n"
    assert run("catalog", "nodes", "-service=zz", address=address) == (0, "", nothing)
    refused = run("catalog", "nodes", "-filter=[", address=address)
    assert refused.code == 1
    assert refused.err.startswith("Error listing nodes: Unexpected response code: 500 (Failed to create boolean expression")
    assert run("services", "deregister", "-id=web1", address=address) == done("Deregistered service: web1\n")
    assert "web1" not in agent.http("GET", "/v1/agent/services")


def test_maintenance(agent: Agent, address: str) -> None:
    assert run("services", "register", "-name=m", address=address).code == 0
    assert run("maint", address=address) == done("")
    assert run("maint", "-enable", "-reason=because", address=address) == done("Node maintenance is now enabled\n")
    assert run("maint", "-enable", "-service=m", address=address) == done('Service maintenance is now enabled for "m"\n')
    assert run("maint", address=address) == done(
        "Node:\n  Name:   node1\n  Reason: because\n\n"
        "Service:\n  ID:     m\n  Reason: Maintenance mode is enabled for this service, but no reason was provided. "
        "This is a default message.\n\n"
    )
    assert run("maint", "-disable", address=address) == done("Node maintenance is now disabled\n")
    assert run("maint", "-disable", "-service=m", address=address) == done('Service maintenance is now disabled for "m"\n')
    unknown = run("maint", "-enable", "-service=nope", address=address)
    text = 'Error enabling service maintenance: Unexpected response code: 404 (No service registered with ID "nope")\n'
    assert unknown == (1, "", text)
    agent.http("PUT", "/v1/agent/service/deregister/m")


def test_events(address: str) -> None:
    result = run("event", "-name=deploy", "payload", address=address)
    assert re.fullmatch(r"Event ID: [0-9a-f-]{36}\n", result.out)
    assert (result.code, result.err) == (0, "")


def test_raft_and_autopilot(agent: Agent, address: str) -> None:
    node_id = agent.http("GET", "/v1/agent/self")["Config"]["NodeID"]
    server = f"{agent.address}:8300"
    heading = f"Node   {'ID'.ljust(36)}  {'Address'.ljust(len(server))}  State   Voter  RaftProtocol\n"
    peers = done(f"{heading}node1  {node_id}  {server}  leader  true   3\n")
    assert run("operator", "raft", "list-peers", address=address) == peers
    assert run("operator", "raft", "list-peers", "-stale", address=address) == peers
    refused = run("operator", "raft", "remove-peer", "-address=1.2.3.4:8300", address=address)
    reason = 'address "1.2.3.4:8300" was not found in the Raft configuration'
    assert refused == (1, "", f"Error removing peer: Unexpected response code: 500 ({reason})\n")
    set_config = ("operator", "autopilot", "set-config")
    assert run(*set_config, "-max-trailing-logs=99", "-last-contact-threshold=300ms", address=address) == done(
        "Configuration updated!\n"
    )
    assert run("operator", "autopilot", "get-config", address=address) == done(
        "CleanupDeadServers = true\nLastContactThreshold = 300ms\nMaxTrailingLogs = 99\nMinQuorum = 0\n"
        'ServerStabilizationTime = 10s\nRedundancyZoneTag = ""\nDisableUpgradeMigration = false\nUpgradeVersionTag = ""\n'
    )
    health = run("operator", "autopilot", "health", address=address)
    assert (health.code, health.out.splitlines()[0]) == (0, "Healthy: true")


def test_a_snapshot_there_and_back(address: str, tmp_path: Path) -> None:
    assert run("kv", "put", "kept", "1", address=address).code == 0
    saved = run("snapshot", "save", "s.snap", address=address, folder=tmp_path)
    assert re.fullmatch(r"Saved and verified snapshot to index \d+\n", saved.out)
    index = saved.out.split()[-1]
    shown = run("snapshot", "inspect", "s.snap", folder=tmp_path).out
    assert re.fullmatch(
        rf"ID           \d+-{index}-\d+\nSize         \d+\nIndex        {index}\nTerm         \d+\nVersion      1\n\n", shown
    )
    assert run("kv", "put", "kept", "2", address=address).code == 0
    assert run("snapshot", "restore", "s.snap", address=address, folder=tmp_path) == done("Restored snapshot\n")
    assert run("kv", "get", "kept", address=address) == done("1\n")
    (tmp_path / "bad.snap").write_bytes(b"no snapshot")
    bad = run("snapshot", "restore", "bad.snap", address=address, folder=tmp_path)
    reason = "failed to decompress snapshot: gzip: invalid header"
    assert bad == (1, "", f"Error restoring snapshot: Unexpected response code: 500 ({reason})\n")


def test_config_entries(address: str, tmp_path: Path) -> None:
    def config(*arguments: str) -> Result:
        return run("config", *arguments, address=address, folder=tmp_path)

    which = ("-kind=service-defaults", "-name=web")
    (tmp_path / "e.hcl").write_text('Kind = "service-defaults"\nName = "web"\nProtocol = "http"\n')
    assert config("write", "e.hcl") == done("Config entry written: service-defaults/web\n")
    assert json.loads(config("read", *which).out)["Protocol"] == "http"
    assert config("list", "-kind=service-defaults") == done("web\n")
    assert config("write", "-cas", "-modify-index=1", "e.hcl") == (1, "", "Config entry not updated: service-defaults/web\n")
    assert config("delete", *which) == done("Config entry deleted: service-defaults/web\n")
    missing = 'Config entry not found for "service-defaults" / "web"'
    text = f"Error reading config entry service-defaults/web: Unexpected response code: 404 ({missing})\n"
    assert config("read", *which) == (1, "", text)


def test_intentions(address: str) -> None:
    def intention(*arguments: str) -> Result:
        return run("intention", *arguments, address=address)

    assert intention("create", "-meta=a=b", "web", "db") == done("Created: web => db (allow)\n")
    again = intention("create", "web", "db")
    assert again.code == 1
    assert again.err.startswith(
        'Error creating intention "web => db (allow)": Unexpected response code: 500 (duplicate intention found: '
        "ALLOW default/web => default/db (ID: "
    )
    assert intention("check", "web", "db") == done("Allowed\n")
    assert intention("create", "-replace", "-deny", "web", "db") == done("")
    assert intention("create", "*", "db") == done("Created: * => db (allow)\n")
    assert intention("check", "web", "db") == (1, "Denied\n", "")
    assert intention("match", "db") == done("web => db (deny)\n* => db (allow)\n")
    shown = intention("get", "web", "db").out.splitlines()
    assert shown[:3] == ["Source:       web", "Destination:  db", "Action:       deny"]
    assert shown[-1] == time.strftime("Created At:   %A, %d-%b-%y") + shown[-1][-13:]
    for source in ("web", "*"):
        assert intention("delete", source, "db") == done("Intention deleted.\n")
    gone = 'Error: Intention with source "web" and destination "db" not found.\n'
    assert intention("delete", "web", "db") == (1, "", gone)


def test_keys_of_gossip_where_it_is_not_encrypted(address: str) -> None:
    result = run("keyring", "-list", address=address)
    assert (result.code, result.out) == (1, "==> Gathering installed encryption keys...\n")
    assert result.err == (
        "error: Unexpected response code: 500 (4 errors occurred:\n\t* WAN error: 1/1 nodes reported failure\n"
        "\t* node1.dc1: Keyring is empty (encryption not enabled)\n\t* dc1 (LAN) error: 1/1 nodes reported failure\n"
        "\t* node1: Keyring is empty (encryption not enabled)\n\n)\n"
    )


def test_access_control_is_off(address: str) -> None:
    text = "Failed to retrieve the token list: Unexpected response code: 401 (ACL support disabled)\n"
    assert run("acl", "token", "list", address=address) == (1, "", text)


def test_another_datacenter_is_not_known(address: str) -> None:
    text = "Error listing nodes: Unexpected response code: 500 (No path to datacenter)\n"
    assert run("catalog", "nodes", "-datacenter=dc9", address=address) == (1, "", text)


def test_reload(address: str) -> None:
    assert run("reload", address=address) == done("Configuration reload triggered\n")


def test_rtt_of_an_agent_with_itself(agent: Agent, address: str) -> None:
    until(lambda: agent.http("GET", "/v1/coordinate/nodes"), "the node's coordinate", 60)
    result = run("rtt", "node1", address=address)
    assert re.fullmatch(r"Estimated node1 <-> node1 rtt: \d+\.\d{3} ms \(using LAN coordinates\)\n", result.out)
    assert run("rtt", "node1", "nope", address=address) == (1, "", 'Could not find a coordinate for node "nope"\n')


@pytest.mark.parametrize("way", ["command", "signal"])
def test_leave_ends_the_agent(way: str, tmp_path: Path) -> None:
    other = Agent(tmp_path, "leaving", "-dev", "-hcl=leave_on_terminate = true").start()
    try:
        other.ready()
        if way == "command":
            assert run("leave", address=f"{other.address}:{HTTP_PORT}") == done("Graceful leave complete\n")
        else:
            other.signal(signal.SIGTERM)
        assert other.wait() == 0
    finally:
        other.kill()


def test_validate(tmp_path: Path) -> None:
    (tmp_path / "good.hcl").write_text(f'data_dir = "{tmp_path}/data"\nbind_addr = "127.0.0.1"\n')
    result = run("validate", "good.hcl", folder=tmp_path)
    assert (result.code, result.out) == (0, "Configuration is valid!\n")
    assert run("validate") == (1, "", "Must specify at least one config file or directory\n")

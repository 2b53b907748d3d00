"""The command line of a real Consul against an agent of ours."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from ..cluster.agents import HTTP_PORT, Agent, until
from ..transport.peers import find, needs

CONSUL = find("consul")
PATIENCE = 30.0
HOLD = "echo held; while [ ! -e end ]; do sleep 0.05; done"
pytestmark = needs("consul")


class CommandLine:
    """Calls of the program in one folder."""

    def __init__(self, agent: Agent, folder: Path) -> None:
        self.agent = agent
        self.folder = folder
        self._environment = {"CONSUL_HTTP_ADDR": f"{agent.address}:{HTTP_PORT}", "PATH": "/usr/bin:/bin"}

    def start(self, *words: str, output: int | IO[bytes] = subprocess.PIPE) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(CONSUL), *words],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fails(self, *words: str) -> tuple[int, str]:
        """The exit status and all output."""
        process = self.start(*words)
        out, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, out

    def __call__(self, *words: str) -> str:
        status, out = self.fails(*words)
        assert status == 0, out
        return out

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    agent = Agent(tmp_path_factory.mktemp("agent"), "n1", "-dev").start()
    try:
        agent.ready()
        until(lambda: agent.http("GET", "/v1/health/state/passing"), "the agent to be in its catalog")
        yield agent
    finally:
        agent.kill()


@pytest.fixture
def consul(agent: Agent, tmp_path: Path) -> CommandLine:
    return CommandLine(agent, tmp_path)


def test_keys(consul: CommandLine) -> None:
    assert consul("kv", "put", "a/b", "c") == "Success! Data written to: a/b\n"
    assert consul("kv", "put", "-flags=42", "a/sp ace/100%", "ü") == "Success! Data written to: a/sp ace/100%\n"
    assert consul("kv", "get", "a/sp ace/100%") == "ü\n"
    assert "Flags            42\n" in consul("kv", "get", "-detailed", "a/sp ace/100%")
    assert consul("kv", "get", "-keys", "a/") == "a/b\na/sp ace/\n"
    assert consul.fails("kv", "put", "-cas", "-modify-index=1", "a/b", "x") == (1, "Error! Did not write to a/b: CAS failed\n")
    exported = consul("kv", "export", "a/")
    assert consul("kv", "delete", "-recurse", "a/") == "Success! Deleted keys with prefix: a/\n"
    assert consul.fails("kv", "get", "a/b") == (1, "Error! No key exists at: a/b\n")
    assert consul("kv", "import", "@" + consul.write("keys.json", exported)) == "Imported: a/b\nImported: a/sp ace/100%\n"
    assert consul("kv", "export", "a/") == exported


def test_services_and_catalog(consul: CommandLine) -> None:
    service = 'service { name = "web" id = "web-1" tags = ["v1"] check { ttl = "10m" } connect { sidecar_service {} } }'
    assert consul("services", "register", consul.write("web.hcl", service)) == "Registered service: web\n"
    until(lambda: "web-sidecar-proxy" in consul.agent.http("GET", "/v1/catalog/services"), "the service and its sidecar")
    tags = [line.split() for line in consul("catalog", "services", "-tags").splitlines()]
    assert tags == [["consul"], ["web", "v1"], ["web-sidecar-proxy", "v1"]]
    assert re.search(
        rf"^n1 +[0-9a-f]{{8}} +{consul.agent.address} +dc1$", consul("catalog", "nodes", "-service=web"), re.MULTILINE
    )
    assert consul("catalog", "datacenters") == "dc1\n"
    assert consul("maint", "-service=web-1", "-enable", "-reason=repair") == 'Service maintenance is now enabled for "web-1"\n'
    assert "Reason: repair" in consul("maint")
    assert consul("services", "deregister", "web.hcl") == "Deregistered service: web-1\n"


def test_members_and_operator(consul: CommandLine) -> None:
    assert re.search(rf"^n1 +{consul.agent.address}:8301 +alive +server ", consul("members"), re.MULTILINE)
    assert f"leader_addr = {consul.agent.address}:8300" in consul("info")
    peers = consul("operator", "raft", "list-peers").splitlines()
    assert peers[1].split()[2:] == [f"{consul.agent.address}:8300", "leader", "true", "3"]
    assert consul("operator", "autopilot", "set-config", "-max-trailing-logs=300") == "Configuration updated!\n"
    assert "MaxTrailingLogs = 300\n" in consul("operator", "autopilot", "get-config")
    place = {"Vec": [0.0] * 8, "Error": 1.5, "Adjustment": 0.0, "Height": 1e-5}
    consul.agent.http("PUT", "/v1/coordinate/update", {"Node": "n1", "Coord": place})
    until(lambda: consul.agent.http("GET", "/v1/coordinate/node/n1"), "the coordinate")
    assert consul("rtt", "n1") == "Estimated n1 <-> n1 rtt: 0.020 ms (using LAN coordinates)\n"
    assert consul("reload") == "Configuration reload triggered\n"
    status, out = consul.fails("force-leave", "nobody")
    assert (status, "No node found with name 'nobody'" in out) == (1, True)


def test_a_snapshot_there_and_back(consul: CommandLine) -> None:
    consul("kv", "put", "kept", "before")
    assert consul("snapshot", "save", "backup.snap").startswith("Saved and verified snapshot to index ")
    inspected = consul("snapshot", "inspect", "backup.snap")
    assert re.search(r"^Index +[1-9]", inspected, re.MULTILINE)
    consul("kv", "put", "kept", "after")
    assert consul("snapshot", "restore", "backup.snap") == "Restored snapshot\n"
    assert consul("kv", "get", "kept") == "before\n"
    status, out = consul.fails("snapshot", "restore", consul.write("junk.snap", "junk"))
    assert (status, "failed to decompress snapshot" in out) == (1, True)
    assert consul("kv", "get", "kept") == "before\n"


def test_config_entries_and_intentions(consul: CommandLine) -> None:
    entry = consul.write("api.hcl", 'Kind = "service-defaults"\nName = "api"\nProtocol = "http"\n')
    assert consul("config", "write", entry) == "Config entry written: service-defaults/api\n"
    assert json.loads(consul("config", "read", "-kind=service-defaults", "-name=api"))["Protocol"] == "http"
    assert consul("config", "list", "-kind=service-defaults") == "api\n"
    assert consul("config", "delete", "-kind=service-defaults", "-name=api") == "Config entry deleted: service-defaults/api\n"
    assert consul("intention", "create", "-deny", "web", "db") == "Created: web => db (deny)\n"
    assert consul.fails("intention", "check", "web", "db") == (1, "Denied\n")
    assert consul("intention", "match", "db") == "web => db (deny)\n"
    assert consul("intention", "delete", "web", "db") == "Intention deleted.\n"
    assert consul("intention", "check", "web", "db") == "Allowed\n"


def test_a_watch_runs_its_handler_at_each_change_and_at_nothing_else(consul: CommandLine) -> None:
    consul("kv", "put", "watched", "1")
    watch = consul.start("watch", "-type=key", "-key=watched", "cat")
    try:
        assert watch.stdout is not None
        values = []
        for value in ("1", "2", "3"):
            values.append(json.loads(watch.stdout.readline())["Value"])
            consul("kv", "put", "other", value)
            consul("kv", "put", "watched", str(int(value) + 1))
        values.append(json.loads(watch.stdout.readline())["Value"])
        assert values == ["MQ==", "Mg==", "Mw==", "NA=="]
    finally:
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=PATIENCE)


def test_a_lock_is_held_for_as_long_as_its_command_runs(consul: CommandLine) -> None:
    holder = consul.start("lock", "held", HOLD)
    try:
        assert until(lambda: consul.agent.http("GET", "/v1/kv/held/.lock")[0].get("Session"), "the lock to be held")
        status, out = consul.fails("lock", "-try=300ms", "held", "echo never")
        assert (status, "never" in out) == (1, False)
    finally:
        consul.write("end", "")
    out, _ = holder.communicate(timeout=PATIENCE)
    assert (holder.returncode, out) == (0, "held\n")
    assert consul("lock", "held", "echo again") == "again\n"


def test_two_of_three_hold_a_semaphore(consul: CommandLine) -> None:
    holders = [consul.start("lock", "-n=2", "shared", HOLD) for _ in range(2)]
    try:
        until(lambda: len(holders_of(consul.agent)) == 2, "both to hold it")
        status, out = consul.fails("lock", "-n=2", "-try=300ms", "shared", "echo never")
        assert (status, "never" in out) == (1, False)
    finally:
        consul.write("end", "")
    assert [holder.communicate(timeout=PATIENCE)[0] for holder in holders] == ["held\n", "held\n"]
    assert consul("lock", "-n=2", "shared", "echo again") == "again\n"


def holders_of(agent: Agent) -> dict[str, bool]:
    """As the semaphore's own key has them."""
    value = agent.get("shared/.lock")
    return json.loads(value)["Holders"] if value else {}


def test_events_and_logs(consul: CommandLine) -> None:
    log = consul.folder / "log"
    with log.open("wb") as output:
        monitor = consul.start("monitor", "-log-level=debug", output=output)
    try:
        until(lambda: consul.agent.http("PUT", "/v1/agent/reload") or log.read_text(), "a line of the log")
    finally:
        monitor.send_signal(signal.SIGINT)
        monitor.wait(PATIENCE)
    assert consul("event", "-name=deploy", "v2").startswith("Event ID: ")
    until(lambda: consul.agent.http("GET", "/v1/event/list?name=deploy"), "the event")
    assert json.loads(consul("watch", "-type=event", "-name=deploy"))[0]["Payload"] == "djI="


def test_an_archive_for_debugging(consul: CommandLine) -> None:
    captures = [f"-capture={part}" for part in ("agent", "host", "cluster", "metrics")]
    consul("debug", "-duration=10s", "-interval=5s", *captures, "-output=archive")
    assert (consul.folder / "archive.tar.gz").stat().st_size > 0


def test_a_leave_ends_the_agent(tmp_path: Path) -> None:
    agent = Agent(tmp_path, "leaving", "-dev").start()
    try:
        agent.ready()
        assert CommandLine(agent, tmp_path)("leave") == "Graceful leave complete\n"
        assert agent.wait() == 0
    finally:
        agent.kill()

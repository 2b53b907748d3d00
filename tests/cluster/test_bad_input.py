"""Mistakes and garbage get a clear answer or log line; the agent stays up, and nothing acknowledged is lost."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agents import DNS_PORT, HTTP_PORT, SERF_PORT, SERVER_PORT, Agent, until

RAFT = "-hcl=performance { raft_multiplier = 1 }"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    started = Agent(tmp_path, "n1", "-server", "-bootstrap", RAFT).start()
    try:
        yield started.ready()
    finally:
        started.kill()


def refusal(agent: Agent) -> str:
    """What an agent that can't start says last."""
    result = subprocess.run(agent.command(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    return result.stderr.splitlines()[-1]


def test_a_second_agent_is_kept_out_of_the_data_directory(agent: Agent, tmp_path: Path) -> None:
    second = Agent(tmp_path, "n1", "-server", "-bootstrap")
    assert f"data_dir {agent.data_dir} is in use by another running agent" in refusal(second)
    assert agent.put("still", b"1")


def test_a_port_in_use_is_named(agent: Agent, tmp_path: Path) -> None:
    second = Agent(tmp_path, "n2", "-server", "-bootstrap", address=agent.address)
    assert f"can't open RPC on {agent.address}:{SERVER_PORT}: Address already in use" in refusal(second)


def test_the_data_directory_of_another_node_is_refused(agent: Agent, tmp_path: Path) -> None:
    held = (agent.data_dir / "node-id").read_text()
    agent.kill()
    other = "11111111-1111-1111-1111-111111111111"
    impostor = Agent(tmp_path, "n1", "-server", "-bootstrap", f"-node-id={other}")
    assert f"belongs to node {held}, not to the configured node_id {other}" in refusal(impostor)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("servr = true", "invalid config key servr ({file}:1:1; nearest known key: server)"),
        ('server = "maybe"', "'server' expected type 'bool'"),
        ("server = true\nserver = false", "'server' is set twice"),
        ("server = ", "{file}:1"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "bad.hcl"
    file.write_text(text)
    agent = Agent(tmp_path, "n1", f"-config-file={file}")
    result = subprocess.run(agent.command(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert complaint.format(file=file) in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("PUT", "/v1/agent/service/register", b"{bad", 400, b"Request decode failed: invalid character"),
        ("PUT", "/v1/kv/big", bytes(600_000), 413, b"too large"),
        ("GET", "/v1/nothing", None, 404, b""),
        ("PUT", "/v1/catalog/nodes", b"", 405, b"method PUT not allowed"),
    ],
)
def test_bad_requests_get_the_right_status(
    agent: Agent, method: str, path: str, body: bytes | None, status: int, text: bytes
) -> None:
    found, headers, data = agent.status_of(method, path, body)
    assert (found, text in data) == (status, True)
    if status == 405:
        assert headers["Allow"] == "OPTIONS,GET"


def test_garbage_on_every_port_changes_nothing(agent: Agent) -> None:
    agent.put("kept", b"1")
    for _ in range(20):
        for port in (DNS_PORT, SERVER_PORT, SERF_PORT, HTTP_PORT):
            send_stream(agent.address, port, os.urandom(4000))
        for port in (DNS_PORT, SERF_PORT):
            send_packet(agent.address, port, os.urandom(1200))
    assert agent.get("kept") == b"1"
    assert agent.put("more", b"1")
    until(lambda: agent.dns("n1.node.consul").rr, "DNS to answer")
    log = agent.log()
    assert "Traceback" not in log
    assert "bad packet" in log
    assert "refusing connection" in log


def send_stream(host: str, port: int, data: bytes) -> None:
    with socket.create_connection((host, port), timeout=10) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def send_packet(host: str, port: int, data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, (host, port))

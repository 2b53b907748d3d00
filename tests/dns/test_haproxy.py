"""HAProxy finds its backends by SRV records (`server-template`); every agent is restarted, and no request fails."""

import http.server
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster.agents import DNS_PORT, Agent, Cluster, running, until
from tests.dns.resolvers import HOST, free_port

BACKEND_PORT = 9000


class _Backend(http.server.BaseHTTPRequestHandler):
    """Says on which address it was reached."""

    def do_GET(self) -> None:
        body = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Quiet."""


@contextmanager
def backend(agent: Agent) -> Iterator[None]:
    """An application beside an agent, and registered there."""
    server = http.server.ThreadingHTTPServer((agent.address, BACKEND_PORT), _Backend)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    check = {"HTTP": f"http://{agent.address}:{BACKEND_PORT}/", "Interval": "1s"}
    agent.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": BACKEND_PORT, "Check": check})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def haproxy(folder: Path, agents: list[Agent]) -> Iterator[str]:
    """Its address."""
    port = free_port()
    nameservers = "\n".join(f"    nameserver {agent.name} {agent.address}:{DNS_PORT}" for agent in agents)
    config = folder / "haproxy.cfg"
    config.write_text(f"""
global
    maxconn 200
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    retries 3
    option redispatch
resolvers agents
{nameservers}
    accepted_payload_size 4096
    resolve_retries 3
    timeout resolve 200ms
    timeout retry 200ms
    hold valid 200ms
    hold timeout 30s
    hold refused 30s
    hold other 30s
frontend front
    bind {HOST}:{port}
    default_backend web
backend web
    balance roundrobin
    server-template web 10 _web._tcp.service.consul resolvers agents init-addr none check inter 500ms
""")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stdout=log, stderr=log)
    try:
        yield f"{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


class Load(threading.Thread):
    """Asks without end, one request after the other."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._url = f"http://{address}/"
        self._over = threading.Event()
        self.served: dict[str, int] = {}
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=10) as response:
                    backend = response.read().decode()
                    self.served[backend] = self.served.get(backend, 0) + 1
            except (OSError, urllib.error.HTTPError) as error:
                self.failed.append(str(error))

    def stop(self) -> None:
        self._over.set()
        self.join()


def offered(agent: Agent) -> int:
    return len(agent.dns("_web._tcp.service.consul", "SRV").rr)


@pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin:/sbin:/bin") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_request_fails_while_every_agent_is_restarted(tmp_path: Path, number: signal.Signals) -> None:
    with running(Cluster(tmp_path, 3, clients=3)) as cluster, ExitStack() as stack:
        for client in cluster.clients:
            stack.enter_context(backend(client))
        for agent in cluster.agents:
            until(lambda agent=agent: offered(agent) == 3, f"{agent.name} to offer all three")
        address = stack.enter_context(haproxy(tmp_path, cluster.agents))
        until(lambda: urllib.request.urlopen(f"http://{address}/", timeout=5).status == 200, "HAProxy to serve")
        load = Load(address)
        load.start()
        until(lambda: len(load.served) == 3, "all backends to serve")
        for agent in cluster.agents:
            agent.signal(number)
            agent.wait()
            agent.start().ready()
            until(lambda agent=agent: offered(agent) == 3, f"{agent.name} to offer all three again")
        load.served.clear()
        until(lambda: len(load.served) == 3, "all backends to serve again")
        load.stop()
        assert load.failed == []

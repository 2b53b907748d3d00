"""Real agents on loopback for tests: processes of this interpreter, each on an address of its own, with default ports."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dnslib import DNSRecord

HTTP_PORT, DNS_PORT, SERVER_PORT, SERF_PORT = 8500, 8600, 8300, 8301
PATIENCE = 30.0

T = TypeVar("T")
_numbers = itertools.count(1)


def fresh_address() -> str:
    """A loopback address that no other test of this run uses."""
    block, number = divmod(next(_numbers), 250)
    return f"127.{16 + os.getpid() % 64}.{number + 1}.{block + 1}"


def until(probe: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """The first true result of `probe`; connection and HTTP errors count as not yet."""
    deadline = time.monotonic() + patience
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = probe()
            if last:
                return last  # type: ignore[return-value]
        except (OSError, ValueError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"waited {patience:.0f} s for {what}; last seen: {last!r}")


class Agent:
    """One agent process; `kill` is SIGKILL, `start` after it starts the same agent again."""

    def __init__(self, folder: Path, name: str, *flags: str, address: str | None = None) -> None:
        self.name = name
        self.address = address or fresh_address()
        self.data_dir = folder / name
        self.log_file = folder / f"{name}.log"
        self.flags = flags
        self.program = [sys.executable, "-m", "discovery"]
        self.prefix: list[str] = []
        """What the command begins with, such as a way into another network."""
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        return [
            *(*self.program, "agent", f"-node={self.name}", f"-bind={self.address}"),
            *(f"-client={self.address}", f"-data-dir={self.data_dir}", *self.flags),
        ]

    def start(self) -> "Agent":
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([*self.prefix, *self.command()], stdout=log, stderr=log)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status once the process has ended."""
        assert self.process is not None
        status = self.process.wait(patience)
        self.process = None
        return status

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def http(self, method: str, path: str, body: object = None, *, timeout: float = 15.0) -> Any:
        """The JSON (or raw, for anything else) answer; raises `urllib.error.HTTPError`."""
        _, _, data = self.exchange(method, path, body, timeout=timeout)
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data

    def exchange(
        self, method: str, path: str, body: object = None, *, timeout: float = 15.0
    ) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}:{HTTP_PORT}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, dict(response.headers), response.read()

    def status_of(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
        """As `exchange`, with error statuses returned."""
        try:
            return self.exchange(method, path, body)
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def put(self, key: str, value: bytes) -> bool:
        return self.http("PUT", f"/v1/kv/{key}", value) is True

    def get(self, key: str, query: str = "") -> bytes | None:
        status, _, data = self.status_of("GET", f"/v1/kv/{key}?raw{query}")
        return data if status == 200 else None

    def dns(self, name: str, kind: str = "A", *, tcp: bool = False) -> DNSRecord:
        return DNSRecord.parse(DNSRecord.question(name, kind).send(self.address, DNS_PORT, tcp=tcp, timeout=5))

    def leader(self) -> str:
        """The host of the leader as this agent sees it, empty if there is none."""
        return str(self.http("GET", "/v1/status/leader")).rsplit(":", 1)[0]

    def ready(self) -> "Agent":
        until(self.leader, f"{self.name} to see a leader; log:\n{self.log()[-3000:]}")
        return self


class Cluster:
    """`size` servers and as many clients as asked for."""

    def __init__(
        self, folder: Path, size: int, *, clients: int = 0, flags: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> None:
        addresses = addresses or [fresh_address() for _ in range(size)]
        common = [*(f"-retry-join={address}" for address in addresses), "-retry-interval=1s", "-log-level=debug"]
        common += ["-hcl=performance { raft_multiplier = 1 }", *flags]
        self.servers = [
            Agent(folder, f"s{number}", "-server", f"-bootstrap-expect={size}", *common, address=address)
            for number, address in enumerate(addresses, 1)
        ]
        self.clients = [Agent(folder, f"c{number}", *common) for number in range(1, clients + 1)]

    @property
    def agents(self) -> list[Agent]:
        return [*self.servers, *self.clients]

    def start(self) -> "Cluster":
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            agent.ready()
        return self

    def stop(self) -> None:
        for agent in self.agents:
            agent.kill()

    def leader(self) -> Agent:
        """The server that all running servers call their leader."""

        def agreed() -> Agent | None:
            named = {server.leader() for server in self.servers if server.process is not None}
            running = (server for server in self.servers if server.process is not None)
            return next((server for server in running if {server.address} == named), None)

        found = until(agreed, "the servers to agree on a leader")
        assert found is not None
        return found

    def followers(self) -> list[Agent]:
        leader = self.leader()
        return [server for server in self.servers if server is not leader and server.process is not None]


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster.start()
    finally:
        cluster.stop()

"""Three servers and a client on loopback, a real HTTP service with a check, resolved through DNS, before and after the leader
is killed. Everything it starts ends with it."""

import http.server
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dnslib import QTYPE, DNSRecord

SERVERS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
CLIENT = "127.0.0.14"
HTTP_PORT, DNS_PORT, WEB_PORT = 8500, 8600, 8080
PATIENCE = 30.0


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def call(method: str, address: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}:{HTTP_PORT}{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read()
    return json.loads(text) if text else None


def until(what: str, probe: Callable[[], Any]) -> Any:
    """The first true answer of `probe`; the demo ends in words if there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if answer := probe():
                return answer
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    sys.exit(f"==> gave up after {PATIENCE:.0f} s waiting for {what}")


def resolve(address: str, name: str, kind: str) -> list[str]:
    reply = DNSRecord.parse(DNSRecord.question(name, kind).send(address, DNS_PORT, timeout=2))
    return [str(record.rdata) for record in reply.rr if QTYPE[record.rtype] == kind]


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def web_service() -> Iterator[None]:
    server = http.server.ThreadingHTTPServer((CLIENT, WEB_PORT), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()


@contextmanager
def agent(folder: Path, name: str, address: str, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "discovery", "agent", f"-node={name}", f"-bind={address}", f"-client={address}"]
    command += [f"-data-dir={folder / name}", "-hcl=performance { raft_multiplier = 1 }", "-log-level=info", *flags]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def demo(folder: Path, stack: ExitStack) -> None:
    started = time.monotonic()
    join = [f"-retry-join={address}" for address in SERVERS]
    say(f"starting three servers on {', '.join(SERVERS)} and a client on {CLIENT} (logs and data in {folder})")
    servers = {
        address: stack.enter_context(agent(folder, f"server{n}", address, "-server", "-bootstrap-expect=3", *join))
        for n, address in enumerate(SERVERS, 1)
    }
    stack.enter_context(agent(folder, "client1", CLIENT, *join))
    leader = until("a leader", lambda: call("GET", SERVERS[0], "/v1/status/leader")).rsplit(":", 1)[0]
    say(f"the servers elected {leader} after {time.monotonic() - started:.1f} s")

    stack.enter_context(web_service())
    until("the client agent", lambda: call("GET", CLIENT, "/v1/status/leader"))
    check = {"HTTP": f"http://{CLIENT}:{WEB_PORT}/", "Interval": "1s"}
    service = {"Name": "web", "Port": WEB_PORT, "Address": CLIENT, "Tags": ["demo"], "Check": check}
    say(f"registering the service `web` (http://{CLIENT}:{WEB_PORT}/) with an HTTP check at the client agent")
    call("PUT", CLIENT, "/v1/agent/service/register", service)
    answer = until("web.service.consul", lambda: resolve(CLIENT, "web.service.consul", "A"))
    say(f"the client agent resolves: web.service.consul A {', '.join(answer)}")
    answer = until("the SRV record", lambda: resolve(SERVERS[1], "web.service.consul", "SRV"))
    say(f"server2 resolves:          web.service.consul SRV {', '.join(answer)}")

    say(f"killing the leader {leader} with SIGKILL")
    killed = time.monotonic()
    servers[leader].send_signal(signal.SIGKILL)
    survivors = [address for address in SERVERS if address != leader]
    until("a write through a survivor", lambda: call("PUT", survivors[0], "/v1/kv/demo/after", "still here"))
    say(f"a survivor acknowledged a write {time.monotonic() - killed:.1f} s later")
    new_leader = call("GET", survivors[0], "/v1/status/leader").rsplit(":", 1)[0]
    answer = until("web.service.consul", lambda: resolve(CLIENT, "web.service.consul", "A"))
    say(f"the new leader is {new_leader}, and the client agent resolves: web.service.consul A {', '.join(answer)}")
    say("done; everything that was started is being stopped")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="discovery-demo-") as folder, ExitStack() as stack:
        demo(Path(folder), stack)


if __name__ == "__main__":
    main()

"""The program as a process, and an agent that only pretends: it answers as told and remembers what it was asked."""

import http.server
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

PROGRAM = (sys.executable, "-m", "discovery")
PATIENCE = 30.0


class Result(NamedTuple):
    code: int
    out: str
    err: str


def environment(address: str = "", variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what could point a command elsewhere."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    return {**inherited, **({"CONSUL_HTTP_ADDR": address} if address else {}), **(variables or {})}


def start(
    *arguments: str, address: str = "", variables: Mapping[str, str] | None = None, folder: Path | None = None
) -> "subprocess.Popen[str]":
    """A command that goes on: `communicate` or `wait` on it."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(address, variables),
    )


def run(
    *arguments: str,
    address: str = "",
    stdin: str = "",
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Result:
    process = start(*arguments, address=address, variables=variables, folder=folder)
    out, err = process.communicate(stdin, PATIENCE)
    return Result(process.returncode, out, err)


class Asked(NamedTuple):
    line: str
    """Method and target."""
    body: bytes
    headers: Mapping[str, str]


class PretendedAgent:
    """`answers` is by method and target; what is not there is answered with 404."""

    def __init__(self, host: str, *, tls: ssl.SSLContext | None = None, socket_path: Path | None = None) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[Asked] = []
        self.held_back: dict[str, threading.Event] = {}
        """What is answered only once its event is set."""
        if socket_path is not None:
            self._server: socketserver.BaseServer = socketserver.ThreadingUnixStreamServer(str(socket_path), self._handler())
            self.address = f"unix://{socket_path}"
        else:
            server = http.server.ThreadingHTTPServer((host, 0), self._handler())
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            self._server, self.address = server, f"{host}:{server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, line: str, body: Any, status: int = 200) -> None:
        """`body` is sent as it is if it is bytes, else as JSON."""
        self.answers[line] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())

    @property
    def lines(self) -> list[str]:
        return [one.line for one in self.asked]

    def run(self, *arguments: str, stdin: str = "", folder: Path | None = None) -> Result:
        return run(*arguments, address=self.address, stdin=stdin, folder=folder)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                line = f"{self.command} {self.path}"
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                agent.asked.append(Asked(line, body, dict(self.headers)))
                if line in agent.held_back:
                    agent.held_back[line].wait(PATIENCE)
                status, answer = agent.answers.get(line, (404, b"nothing here"))
                self.send_response(status)
                self.send_header("X-Consul-Index", "7")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST = do_DELETE = _any

            def log_message(self, format: str, *values: object) -> None:
                """Quiet: what was asked is in `asked`."""

        return Handler

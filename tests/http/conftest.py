"""A server on a loopback port, with fakes behind it, and a plain client before it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from discovery.http.options import HttpOptions, Listener
from discovery.http.server import HttpServer
from tests.http.fakes import FakeAgent, FakeDelegate, FakeMetrics, FakeServices


class Response(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, HTTP by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self, *, body: bool = True) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        data = await self.reader.readexactly(int(headers.get("Content-Length", "0"))) if body else b""
        return Response(int(head[0].split()[1]), headers, data)

    async def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        self.send(encode(method, target, body, headers))
        return await self.receive(body=method != "HEAD")

    async def closed(self) -> bool:
        return await self.reader.read(1) == b""


def encode(method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class World:
    """The server under test, the fakes behind it, and connections to it."""

    def __init__(self, options: HttpOptions, delegate: FakeDelegate | None = None) -> None:
        self.delegate = delegate or FakeDelegate()
        self.services = FakeServices()
        self.agent = FakeAgent()
        self.metrics = FakeMetrics()
        self.server = HttpServer(self.delegate, self.services, self.agent, self.metrics, options)
        self._clients: list[Client] = []

    async def start(self) -> None:
        await self.server.start([Listener(host="127.0.0.1")])

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.server.addresses[0]))
        self._clients.append(client)
        return client

    async def request(self, method: str, target: str, body: bytes | Any = b"", **headers: str) -> Response:
        """Over the first connection. A body that is not bytes goes as JSON."""
        client = self._clients[0] if self._clients else await self.connect()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.request(method, target, data, **headers)

    async def get(self, target: str, **headers: str) -> Response:
        return await self.request("GET", target, **headers)

    async def put(self, target: str, body: bytes | Any = b"", **headers: str) -> Response:
        return await self.request("PUT", target, body, **headers)

    async def stop(self) -> None:
        for client in self._clients:
            client.writer.close()
        await self.server.stop()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that agents run on: its transports are not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A signal can't interrupt a test that waits in uvloop, so a thread ends what takes too long."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(method="thread"))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(HttpOptions())
    await world.start()
    yield world
    await world.stop()

"""Fills real agents over HTTP, as fast as they take it."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator

from .agents import HTTP_PORT

OPERATIONS = 64
"""Consul's limit for one transaction."""
REGISTRATIONS = 2000
"""Instances in one bulk registration."""

Ask = Callable[[str, str, bytes], Awaitable[int]]
"""Method, path and body; returns the bytes of the answer, or raises RuntimeError if it is not a 200."""


async def connect(address: str) -> Ask:
    reader, writer = await asyncio.open_connection(address, HTTP_PORT, limit=1 << 20)

    async def ask(method: str, path: str, body: bytes) -> int:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"{method} {path}: {head.decode()}{(await reader.readexactly(left)).decode()}")
        while left:
            chunk = await reader.read(min(left, 1 << 20))
            if not chunk:
                raise ConnectionResetError(f"{method} {path} was cut short")
            left -= len(chunk)
        return length

    return ask


async def write_many(address: str, keys: int) -> None:
    """`many/0000000` and so on, in transactions."""
    value = base64.b64encode(b"a small value").decode()

    def bodies() -> Iterator[bytes]:
        for start in range(0, keys, OPERATIONS):
            rows = range(start, min(start + OPERATIONS, keys))
            yield json.dumps([{"KV": {"Verb": "set", "Key": f"many/{row:07d}", "Value": value}} for row in rows]).encode()

    await _send_all(address, "/v1/txn", bodies())


async def register_many(address: str, instances: int) -> None:
    """Ten to a node, a hundred to a service, each with a check."""

    def one(number: int) -> dict[str, object]:
        node, service = f"node-{number // 10}", f"service-{number // 100}"
        check = {"CheckID": f"check-{number}", "Name": "alive", "Status": "passing", "ServiceID": f"instance-{number}"}
        instance = {"ID": f"instance-{number}", "Service": service, "Port": 8000 + number % 1000}
        return {"Node": node, "Address": "10.0.0.1", "Service": instance, "Check": check}

    def bodies() -> Iterator[bytes]:
        for start in range(0, instances, REGISTRATIONS):
            yield json.dumps([one(number) for number in range(start, min(start + REGISTRATIONS, instances))]).encode()

    await _send_all(address, "/v1/catalog/register/bulk", bodies(), connections=2)


async def _send_all(address: str, path: str, bodies: Iterator[bytes], *, connections: int = 32) -> None:
    async def send() -> None:
        ask = await connect(address)
        for body in bodies:
            await ask("PUT", path, body)

    await asyncio.gather(*(send() for _ in range(connections)))

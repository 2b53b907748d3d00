"""What a run of a check yields, and how its output is kept small."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from discovery.model.records import CRITICAL, PASSING, WARNING


class Result(NamedTuple):
    status: str
    output: str


Publish = Callable[[str, str], None]
"""Takes a new status and output."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Begins a task that the agent waits for when it ends, so that what a cancelled check still has to clear away is cleared."""


def passing(output: str) -> Result:
    return Result(PASSING, output)


def warning(output: str) -> Result:
    return Result(WARNING, output)


def critical(output: str) -> Result:
    return Result(CRITICAL, output)


class Probe(Protocol):
    """One way to find out how something is."""

    async def run(self) -> Result:
        """Find out; has its own time limit, and never raises for what it looks at being unwell."""


class Tail:
    """The last `limit` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        self._kept += data
        if len(self._kept) > self._limit:
            del self._kept[: -self._limit]

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def captured(self) -> str:
        """The text, with a note before it if something is missing."""
        if self.total <= self._limit:
            return self.text
        return f"Captured {self._limit} of {self.total} bytes\n...\n{self.text}"


def head(text: str, limit: int) -> str:
    """The first `limit` bytes, with a note behind if something is missing."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    return f"{data[:limit].decode('utf-8', 'ignore')} ... (captured {limit} of {len(data)} bytes)"

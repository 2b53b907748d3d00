"""What the tests of gossip pools on real sockets share: pools, waiting for what they tell, processes of members."""

import asyncio
import json
import logging
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from discovery.telemetry import Metrics
from discovery.transport.membership import (
    LOCAL,
    Event,
    KeyringChanged,
    Member,
    MemberJoined,
    Membership,
    MemberStatus,
    PoolOptions,
    UserEvent,
)

PATIENCE = 60.0


async def eventually(condition: Callable[[], bool]) -> None:
    """For what no event tells of: another process, or a number that changes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


class Pool:
    """A membership and what it told; `until` waits for an event instead of sleeping."""

    def __init__(self, options: PoolOptions, metrics: Metrics | None = None) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self.membership = Membership(
            options,
            on_event=self._on_event,
            rng=random.SystemRandom(),
            log=logging.getLogger(options.name),
            metrics=metrics,
        )

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, accept: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events:
                    if accept(event):
                        return event
                self._changed.clear()
                await self._changed.wait()

    async def until_about(self, kind: type, name: str) -> Member:
        event = await self.until(lambda event: isinstance(event, kind) and about(event).name == name)
        return about(event)

    @property
    def address(self) -> str:
        me = self.membership.local_member()
        return f"[{me.address}]:{me.port}" if ":" in me.address else f"{me.address}:{me.port}"

    def statuses(self) -> dict[str, MemberStatus]:
        return {member.name: member.status for member in self.membership.members()}


def about(event: Event) -> Member:
    assert not isinstance(event, UserEvent | KeyringChanged), f"about no member: {event}"
    return event.member


class Pools:
    """Starts pools and stops them all at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, name: str, *, metrics: Metrics | None = None, **changes: object) -> Pool:
        options = PoolOptions(name=name, bind_address="127.0.0.1", port=0, profile=LOCAL, leave_propagate_delay=0.2)
        pool = Pool(replace(options, **changes), metrics)  # type: ignore[arg-type]
        await pool.membership.start()
        self._stack.push_async_callback(pool.membership.stop)
        return pool

    async def start_joined(self, *names: str, **changes: object) -> list[Pool]:
        pools = [await self.start(name, **changes) for name in names]
        for pool in pools[1:]:
            assert await pool.membership.join([pools[0].address]) == 1
        for pool in pools:
            for name in names:
                await pool.until_about(MemberJoined, name)
        return pools


def free_port(host: str) -> int:
    """One that is free for both UDP and TCP."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind((host, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((host, port))
        return port


class MemberProcess:
    """A pool's member in a process of its own (see `pool_process`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[list[Any]] = []

    @classmethod
    @asynccontextmanager
    async def run(cls, **options: Any) -> AsyncIterator["MemberProcess"]:
        """Started and joined; killed at the end if it still runs."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.transport.pool_process", json.dumps(options),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        member = cls(process)
        try:
            await member.until("ready")
            yield member
        finally:
            await member.signal(signal.SIGKILL)

    async def until(self, *words: Any) -> list[Any]:
        """What it says (or said) that begins with these words."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.said:
                    if line[: len(words)] == list(words):
                        return line
                assert self._process.stdout is not None
                text = await self._process.stdout.readline()
                assert text, f"it ended after {self.said[-3:]}"
                self.said.append(json.loads(text))

    async def next(self, *words: Any) -> list[Any]:
        """As `until`, of what it has not said yet."""
        self.said = [line for line in self.said if line[: len(words)] != list(words)]
        return await self.until(*words)

    async def tell(self, *command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def signal(self, number: int) -> None:
        """Send a signal; after one that ends it, wait for the end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            await self._process.wait()

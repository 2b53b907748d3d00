"""A pool of real processes on loopback at LAN timings: how fast all see all, how fast deaths are known, what it costs to send.

To be run by `scripts/live-gossip`; a figure that is worse than its bound makes it fail.
"""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

from .pools import MemberProcess

HOST = "127.0.25"
ALL_SEE_ALL_WITHIN = 10.0
DEATHS_KNOWN_WITHIN = 10.0
_QUIET_FIRST = 65.0
_MEASURED = 60.0


class LivePool:
    """So many members, each in a process and at an address of its own."""

    def __init__(self, stack: AsyncExitStack, size: int, port: int) -> None:
        self._stack = stack
        self._size = size
        self._port = port
        self.members: dict[str, MemberProcess] = {}

    async def start(self) -> float:
        """All at once, each knowing only the first; seconds from then until all see all."""
        first = f"{HOST}.1:{self._port}"
        options = [self._options(number, [first] if number > 1 else []) for number in range(1, self._size + 1)]
        started = await asyncio.gather(*(self._stack.enter_async_context(MemberProcess.run(**one)) for one in options))
        self.members = {one["name"]: member for one, member in zip(options, started, strict=True)}
        began = time.monotonic()
        for member in started:
            await member.tell("go")
        for member in started:
            for name in self.members:
                await member.until("MemberJoined", name)
        return time.monotonic() - began

    def _options(self, number: int, join: list[str]) -> dict[str, Any]:
        tags = {"role": "node", "dc": "dc1", "segment": "", "vsn": "2", "vsn_min": "2", "vsn_max": "3", "build": "1.8.7:"}
        return {
            "name": f"m{number}", "bind_address": f"{HOST}.{number}", "port": self._port, "profile": "LAN", "tags": tags,
            "join": join, "wait": True,
        }  # fmt: skip

    async def bytes_per_second(self) -> tuple[float, float]:
        """What one member sends while nothing happens, on average: in packets, and in exchanges of all state."""
        await asyncio.sleep(_QUIET_FIRST)
        before = await self._sent()
        await asyncio.sleep(_MEASURED)
        packets, streams = (after - earlier for after, earlier in zip(await self._sent(), before, strict=True))
        return packets / _MEASURED / len(self.members), streams / _MEASURED / len(self.members)

    async def _sent(self) -> tuple[float, float]:
        packets = streams = 0.0
        for member in self.members.values():
            await member.tell("sent")
            _, in_packets, in_streams = await member.next("sent")
            packets += in_packets
            streams += in_streams
        return packets, streams

    async def kill(self, count: int) -> float:
        """Seconds until every survivor knows that the last so many are dead."""
        names = list(self.members)[-count:]
        victims = [self.members.pop(name) for name in names]
        began = time.monotonic()
        await asyncio.gather(*(victim.signal(signal.SIGKILL) for victim in victims))
        for member in self.members.values():
            for name in names:
                await member.until("MemberFailed", name)
        return time.monotonic() - began

    async def pause(self, seconds: float) -> tuple[int, int]:
        """One member stands still: how many suspected it then, and how many took any member for dead."""
        paused = next(iter(self.members.values()))
        others = [member for member in self.members.values() if member is not paused]
        suspicions = await self._count(others, "suspect messages")
        failures = await self._failures()
        await paused.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        await paused.signal(signal.SIGCONT)
        await asyncio.sleep(3 * seconds)
        suspected = await self._count(others, "suspect messages") - suspicions
        return suspected, await self._failures() - failures

    async def _count(self, members: list[MemberProcess], counter: str) -> int:
        total = 0
        for member in members:
            await member.tell("counters")
            total += (await member.next("counters"))[1].get(counter, 0)
        return total

    async def _failures(self) -> int:
        """Events of failure that the members told."""
        total = 0
        for member in self.members.values():
            await member.tell("members")
            await member.next("members")
            total += sum(line[0] == "MemberFailed" for line in member.said)
        return total


async def run(size: int, port: int) -> dict[str, float]:
    """The figures of one pool. Raises AssertionError where one is worse than its bound."""
    async with AsyncExitStack() as stack:
        pool = LivePool(stack, size, port)
        together = await pool.start()
        packets, streams = await pool.bytes_per_second()
        suspected, failed = await pool.pause(5.0)
        deaths = await pool.kill(size // 6)
    figures = {
        "members": size,
        "all see all, s": round(together, 1),
        "bytes/s that one sends in packets": round(packets),
        "bytes/s that one sends in exchanges": round(streams),
        "suspicions heard while one is paused for 5 s": suspected,
        "failures told because of it": failed,
        f"{size // 6} killed at once known to all, s": round(deaths, 1),
    }
    assert together <= ALL_SEE_ALL_WITHIN, figures
    assert failed == 0, figures
    assert suspected > 0, figures
    assert deaths <= DEATHS_KNOWN_WITHIN, figures
    return figures

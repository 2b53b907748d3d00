"""Asking other servers: names that are not ours, reverse lookups we miss, and the addresses behind aliases.

A question goes to the recursors one after the other until one gives an answer that settles it. Every attempt has a socket, a
port and an id of its own, and only a reply with that id and that question is believed (RFC 5452).
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Sequence
from typing import Final

from .options import DnsOptions, recursor_address
from .rare_log import RareLog
from .wire import HEADER, NOERROR, NXDOMAIN, A, Malformed, Name, Record, parse_answers, plain_query, replies_to

_log = logging.getLogger(__name__)
_rarely = RareLog(_log)

Address = tuple[str, int]

MAX_IN_FLIGHT: Final = 1024
"""Questions waiting for other servers."""
RANDOM: Final = "random"


class NoAnswer(Exception):
    """No recursor answered in time, or none with an answer that settles the question."""


class Recursors:
    """`rng` chooses the order where the strategy is `random`."""

    def __init__(self, options: DnsOptions, rng: random.Random) -> None:
        self._servers: list[Address] = list(dict.fromkeys(map(recursor_address, options.recursors)))
        self._timeout = options.recursor_timeout / 1e9
        self._shuffled = options.recursor_strategy == RANDOM
        self._rng = rng
        self._in_flight = 0
        self._forwarding: dict[tuple[bool, bytes], asyncio.Task[bytes | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._servers)

    def avoid(self, own: Sequence[Address]) -> None:
        """Never ask ourselves."""
        for address in own:
            if address in self._servers:
                _log.warning("recursor %s:%d is this agent itself; it is left out", *address)
                self._servers.remove(address)

    async def forward(self, packet: bytes, *, tcp: bool) -> bytes:
        """The reply to the client's `packet`, as it came but for the id; raises `NoAnswer`.

        Equal questions share one attempt. That also ends a circle of agents that are each other's recursors.
        """
        key = tcp, packet[2:]
        task = self._forwarding.get(key)
        if task is None:
            task = self._forwarding[key] = asyncio.create_task(self._try_each(packet[2:], tcp=tcp))
            task.add_done_callback(lambda _: self._forwarding.pop(key))
        reply = await asyncio.shield(task)
        if reply is None:
            raise NoAnswer
        return packet[:2] + reply[2:]

    def close(self) -> None:
        """Give up on what is under way."""
        for task in self._forwarding.values():
            task.cancel()

    async def _try_each(self, question: bytes, *, tcp: bool) -> bytes | None:
        for server in self._order():
            try:
                reply = await self._ask(server, question, tcp=tcp)
            except (OSError, TimeoutError, EOFError) as error:
                _rarely.warning("recursor %s:%d did not answer: %s", *server, error or type(error).__name__)
                continue
            if reply[3] & 0xF in (NOERROR, NXDOMAIN):
                return reply
        return None

    async def addresses(self, name: Name) -> list[Record]:
        """What the first recursor that answers at all says about the IPv4 addresses of `name`; empty if none does."""
        question = plain_query(0, name, A)
        for server in self._order():
            try:
                reply = await self._ask(server, question[2:], tcp=False)
                return parse_answers(reply)
            except (OSError, TimeoutError, EOFError, Malformed) as error:
                _rarely.warning("recursor %s:%d did not answer: %s", *server, error or type(error).__name__)
        return []

    def _order(self) -> list[Address]:
        return self._rng.sample(self._servers, len(self._servers)) if self._shuffled else list(self._servers)

    async def _ask(self, server: Address, question: bytes, *, tcp: bool) -> bytes:
        if self._in_flight >= MAX_IN_FLIGHT:
            raise OSError(f"{MAX_IN_FLIGHT} questions are already waiting for recursors")
        asked = secrets.token_bytes(2) + question
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await (_over_tcp if tcp else _over_udp)(server, asked)
        finally:
            self._in_flight -= 1


class _Exchange(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers `asked`; others are ignored."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.reply.done() and replies_to(data, self._asked):
            self.reply.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _over_udp(server: Address, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(asked), remote_addr=server)
    try:
        transport.sendto(asked)
        return await exchange.reply
    finally:
        transport.close()


async def _over_tcp(server: Address, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(asked).to_bytes(2) + asked)
        while True:
            size = int.from_bytes(await reader.readexactly(2))
            reply = await reader.readexactly(size)
            if size >= HEADER.size and replies_to(reply, asked):
                return reply
    finally:
        writer.close()

"""Queries: questions to many nodes, each of which answers straight to the one that asked.

We pass all queries on, acknowledge those that ask for it, and answer Serf's own (`_serf_…`): the ones about keys, and who we
think holds a name.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import re2

from . import keys
from .codec import MalformedMessage, unpack, unpack_leading, unpack_plain
from .events import Member
from .lamport import LamportRing
from .members import Address, ip_bytes, ip_text
from .security import Protection, check_key
from .serf_messages import (
    ConflictResponse,
    KeyRequest,
    Query,
    QueryResponse,
    RelayAddress,
    RelayHeader,
    TagFilter,
    encode,
    encode_relayed,
)
from .timers import Timers

FLAG_ACK: Final = 1
_NO_BROADCAST: Final = 2
_BY_NAME, _BY_TAG = 0, 1

_SIZE_LIMIT: Final = 1024
_TIMEOUT_MULT: Final = 16
_MAX_EXPRESSION: Final = 256

_QUIETLY: Final = re2.Options()
_QUIETLY.log_errors = False


class Group(Protocol):
    """What queries need of the group around them."""

    def local_member(self) -> Member: ...
    def member(self, name: str) -> Member | None: ...
    def alive_count(self) -> int: ...
    def relays(self, count: int) -> list[Member]: ...
    def send(self, message: bytes, destination: Address, name: str) -> None: ...
    def spread_query(self, message: bytes, now: float) -> None: ...
    def keyring_changed(self) -> None: ...


@dataclass(slots=True)
class _Asked:
    """A query of ours: who answered, and what to do at the end."""

    expected: int
    answers: dict[str, bytes] = field(default_factory=dict)
    finished: Callable[[dict[str, bytes]], None] = lambda _: None


class Queries:
    """This node's part in queries."""

    def __init__(self, group: Group, protection: Protection, timers: Timers, rng: random.Random, gossip_interval: float) -> None:
        self.ring: LamportRing[int] = LamportRing()
        self._group = group
        self._protection = protection
        self._timers = timers
        self._rng = rng
        self._gossip_interval = gossip_interval
        self._asked: dict[tuple[int, int], _Asked] = {}

    def ask(
        self, name: str, payload: bytes, finished: Callable[[dict[str, bytes]], None], now: float, relay_factor: int = 0
    ) -> None:
        """Ask all nodes. `finished` gets the answers by node, when all are in or time is up. Raises ValueError when too large.

        `relay_factor` is by way of how many other nodes each answer is sent a second time.
        """
        me = self._group.local_member()
        timeout = self._gossip_interval * _TIMEOUT_MULT * math.ceil(math.log10(self._group.alive_count() + 1))
        query = Query(
            l_time=self.ring.clock.tick(),
            id=self._rng.getrandbits(32),
            addr=ip_bytes(me.address),
            port=me.port,
            source_node=me.name,
            relay_factor=relay_factor,
            timeout=int(timeout * 1e9),
            name=name,
            payload=payload,
        )
        message = encode(query)
        if len(message) > _SIZE_LIMIT:
            raise ValueError(f"query exceeds limit of {_SIZE_LIMIT} bytes")
        asked = (query.l_time, query.id)
        self._asked[asked] = _Asked(self._group.alive_count(), finished=finished)
        self._timers.at(now + timeout, lambda _: self._finish(asked))
        self.receive_query(query, message, now)

    def ask_about_keys(
        self, operation: str, key: bytes, finished: Callable[[keys.KeyResult], None], now: float, relay_factor: int
    ) -> None:
        """Have every node do `operation`, one of `keys.OPERATIONS`. Raises `KeyRefused` before anybody is asked."""
        if operation == keys.INSTALL:
            check_key(key)
        nodes = self._group.alive_count()

        def collect(answers: dict[str, bytes]) -> None:
            result = keys.KeyResult(nodes)
            for node, answer in answers.items():
                result.add(node, answer)
            finished(result)

        self.ask(operation, encode(KeyRequest(key)), collect, now, relay_factor)

    def receive_query(self, query: Query, message: bytes, now: float) -> None:
        """A query, with the bytes as they are passed on."""
        if not self.ring.admit(query.l_time, query.id):
            return
        if not query.flags & _NO_BROADCAST:
            self._group.spread_query(message, now)
        if not self._concerns_us(query):
            return
        if query.flags & FLAG_ACK:
            self._answer(query, None, FLAG_ACK)
        if query.name in keys.OPERATIONS:
            self._answer(query, self._key_answer(query), 0)
        elif query.name == "_serf_conflict":
            self._answer_about_conflict(query)

    def _concerns_us(self, query: Query) -> bool:
        return all(self._matches(condition) for condition in query.filters or [])

    def _matches(self, condition: bytes) -> bool:
        me = self._group.local_member()
        kind, body = condition[:1], condition[1:]
        if kind == bytes((_BY_NAME,)):
            names = unpack_plain(body)
            return isinstance(names, list) and me.name.encode() in names
        if kind == bytes((_BY_TAG,)):
            wanted = unpack(body, TagFilter)
            return _matches_expression(wanted.expr, me.tags.get(wanted.tag, ""))
        raise MalformedMessage(f"a query with filter {condition[:1]!r}")

    def _key_answer(self, query: Query) -> bytes:
        before = self._keys()
        response = keys.perform(query.name, query.payload or b"", self._protection)
        if self._keys() != before:
            self._group.keyring_changed()
        return keys.encode_within(response, _SIZE_LIMIT - len(encode(self._response(query, b"", 0))) - 3)

    def _keys(self) -> list[bytes]:
        return self._protection.keyring.keys if self._protection.keyring is not None else []

    def _answer_about_conflict(self, query: Query) -> None:
        name = (query.payload or b"").decode(errors="replace")
        member = self._group.member(name)
        if name == self._group.local_member().name or member is None:
            return
        self._answer(query, encode(_conflict_response(member)), 0)

    def _response(self, query: Query, payload: bytes | None, flags: int) -> QueryResponse:
        return QueryResponse(query.l_time, query.id, self._group.local_member().name, flags, payload)

    def _answer(self, query: Query, payload: bytes | None, flags: int) -> None:
        me = self._group.local_member()
        response = self._response(query, payload, flags)
        destination = (ip_text(query.addr), query.port)
        if destination == (me.address, me.port):
            self.receive_response(response)
        else:
            message = encode(response)
            self._group.send(message, destination, query.source_node)
            self._answer_by_relays(query, message)

    def _answer_by_relays(self, query: Query, message: bytes) -> None:
        if not query.relay_factor:
            return
        relayed = encode_relayed(RelayHeader(RelayAddress(query.addr, query.port), query.source_node), message)
        if len(relayed) <= _SIZE_LIMIT:
            for relay in self._group.relays(query.relay_factor):
                self._group.send(relayed, (relay.address, relay.port), relay.name)

    def receive_response(self, response: QueryResponse) -> None:
        """An answer to a query of ours; each node counts once, and acks do not."""
        key = (response.l_time, response.id)
        asked = self._asked.get(key)
        if asked is None or response.flags & FLAG_ACK:
            return
        asked.answers.setdefault(response.from_, response.payload or b"")
        if len(asked.answers) >= asked.expected:
            self._finish(key)

    def _finish(self, key: tuple[int, int]) -> None:
        asked = self._asked.pop(key, None)
        if asked is not None:
            asked.finished(asked.answers)

    def relay(self, body: bytes) -> None:
        """Somebody's answer that travels through us, lest it be lost on the straight way."""
        header, message = unpack_leading(body, RelayHeader)
        self._group.send(message, (ip_text(header.dest_addr.ip), header.dest_addr.port), header.dest_name)


def _matches_expression(expression: str, value: str) -> bool:
    """Whether a tag's value contains a match. The library, as Go's, needs no more than linear time for any expression."""
    if len(expression) > _MAX_EXPRESSION:
        raise MalformedMessage(f"a tag filter of {len(expression)} characters")
    try:
        return re2.compile(expression, _QUIETLY).search(value) is not None
    except re2.error as error:
        raise MalformedMessage(f"a tag filter that is no regular expression: {error}") from error


def _conflict_response(member: Member) -> ConflictResponse:
    return ConflictResponse(
        name=member.name,
        addr=ip_bytes(member.address),
        port=member.port,
        tags=member.tags,
        status=member.status,
        protocol_min=member.protocol_min,
        protocol_max=member.protocol_max,
        protocol_cur=member.protocol_cur,
        delegate_min=member.delegate_min,
        delegate_max=member.delegate_max,
        delegate_cur=member.delegate_cur,
    )

"""Answers of servers that an agent may keep although it can't watch the store they came from.

A server's own answers come with a watch. A client agent's come from some server, as do answers from other datacenters; asking
anew for each DNS question is a round trip for each. So a lookup that is repeated is *followed*: a blocking query for it stays
open at the server, and its reply is good until that query returns. A change in the catalog ends it as soon as the server's
word of it arrives, and the new reply stands ready then. The blocking queries are short: a server that has gone silent is
noticed within `LONGEST_SILENCE`, as its reply is no longer good then.

Only lookups that any server may answer (stale reads, Consul's default for DNS) are followed: their replies come from followers
that may be a little behind anyway.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from discovery.model.delegate import Answer, Delegate
from discovery.model.errors import DiscoveryError
from discovery.model.requests import QueryOptions

FOLLOWED: Final = frozenset({"Health.ServiceNodes", "Catalog.NodeServices"})
HOT: Final = 1.0
"""Seconds within which a lookup has to be repeated to be followed."""
IDLE: Final = 10.0
"""Seconds after which a lookup that nobody repeats is followed no more."""
CONFIRM: Final = 2.0
"""Seconds after which a server tells that nothing has changed, about."""
_GRACE: Final = 1.0
LONGEST_SILENCE: Final = CONFIRM * 17 / 16 + _GRACE
"""Seconds: servers add up to a sixteenth to waits."""
MAX_FOLLOWED: Final = 512
_MAX_REMEMBERED: Final = 2048


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=int)
"""Durations are numbers here."""


def lookup_key(method: str, request: QueryOptions) -> bytes:
    """Equal for equal lookups."""
    return method.encode() + _encoder.encode(request)


class Still:
    """The watch over a followed reply."""

    __slots__ = ("fired",)

    def __init__(self) -> None:
        self.fired = False


class FollowedAnswer(msgspec.Struct, gc=False):
    """See `model.delegate.Answer`."""

    reply: Any
    watch: Still


class _Follow:
    """One lookup that is followed. `used` is when it was last asked for."""

    __slots__ = ("answer", "task", "used")

    def __init__(self, reply: Any, now: float) -> None:
        self.answer = FollowedAnswer(reply, Still())
        self.used = now
        self.task: asyncio.Task[None] | None = None


class Following:
    """Asks the delegate, and follows what is asked again and again. To be used on one event loop; `clock` is its time."""

    def __init__(self, delegate: Delegate, clock: Callable[[], float]) -> None:
        self._delegate = delegate
        self._clock = clock
        self._follows: dict[bytes, _Follow] = {}
        self._asked: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._follows)

    async def ask(self, method: str, request: QueryOptions) -> Answer:
        """Raises `DiscoveryError`."""
        if method not in FOLLOWED or not request.allow_stale:
            return await self._delegate.ask(method, request)
        key = lookup_key(method, request)
        now = self._clock()
        follow = self._follows.get(key)
        if follow is not None and not follow.answer.watch.fired:
            follow.used = now
            return follow.answer
        hot = self._is_hot(key, now)
        answer = await self._delegate.ask(method, request)
        if answer.watch is None and hot and key not in self._follows and len(self._follows) < MAX_FOLLOWED:
            return self._follow(key, method, request, answer.reply)
        return answer

    def close(self) -> None:
        """Follow nothing any more."""
        for follow in self._follows.values():
            if follow.task is not None:
                follow.task.cancel()

    def _is_hot(self, key: bytes, now: float) -> bool:
        before = self._asked.pop(key, -HOT)
        self._asked[key] = now
        if len(self._asked) > _MAX_REMEMBERED:
            self._asked.popitem(last=False)
        return now - before < HOT

    def _follow(self, key: bytes, method: str, request: QueryOptions, reply: Any) -> Answer:
        follow = self._follows[key] = _Follow(reply, self._clock())
        follow.task = asyncio.create_task(self._keep_asking(key, follow, method, request))
        return follow.answer

    async def _keep_asking(self, key: bytes, follow: _Follow, method: str, request: QueryOptions) -> None:
        try:
            while self._clock() - follow.used < IDLE:
                await self._await_news(follow, method, request)
        except (DiscoveryError, TimeoutError):
            # Whoever asks next is told what is wrong.
            pass
        finally:
            del self._follows[key]
            follow.answer.watch.fired = True

    async def _await_news(self, follow: _Follow, method: str, request: QueryOptions) -> None:
        known = follow.answer
        blocking = msgspec.structs.replace(request, min_query_index=max(1, known.reply.index), max_query_time=int(CONFIRM * 1e9))
        asked = self._clock()
        async with asyncio.timeout(LONGEST_SILENCE):
            reply = (await self._delegate.ask(method, blocking)).reply
        if reply.index == known.reply.index:
            if self._clock() - asked < CONFIRM / 2:
                raise DiscoveryError("the server doesn't wait for news")
            known.reply = reply
            return
        follow.answer = FollowedAnswer(reply, Still())
        known.watch.fired = True

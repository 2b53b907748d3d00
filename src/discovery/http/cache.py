"""The agent's cache of reads (`?cached`).

Two kinds, as in Consul. *Refreshed*: after the first read the cache follows the answer with a blocking query of its own, so
that hits are as fresh as a watch; any server may be asked, and callers who want one thing share one answer, whatever consistency
they name. *Simple*: an answer is kept until a caller's `Cache-Control` finds it too old.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError
from discovery.model.requests import QueryOptions

_log = logging.getLogger(__name__)

MAX_ENTRIES: Final = 1024
MAX_AGE: Final = 3 * 86400.0
"""Seconds that a simple answer is kept (Consul's three days)."""
IDLE_LIMIT: Final = 3600.0
"""Seconds after which an answer that nobody asked for is no longer followed."""
REFRESH_WAIT: Final = 600 * 10**9
RETRY_PAUSE: Final = 5.0
_IDLE_PAUSE: Final = 1.0
"""Seconds from question to question while nothing is new: a server that does not wait must not be asked in a circle."""
_DEFAULT_WAIT: Final = 300.0


class Cached(msgspec.Struct, frozen=True):
    """`age` is seconds, None for an answer that the caller had to wait for."""

    reply: Any
    age: int | None

    def headers(self) -> bytes:
        return b"X-Cache: MISS\r\n" if self.age is None else b"X-Cache: HIT\r\nAge: %d\r\n" % self.age


class _Entry:
    def __init__(self, reply: Any, now: float) -> None:
        self.reply = reply
        self.fetched_at = now
        self.lost_at: float | None = None
        """Since when it can't be followed."""
        self.used_at = now
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def replace(self, reply: Any) -> None:
        self.reply = reply
        self.lost_at = None
        self.changed.set()
        self.changed = asyncio.Event()


class ReadCache:
    """`clock` is seconds."""

    def __init__(self, delegate: Delegate, clock: Callable[[], float] = time.monotonic) -> None:
        self._delegate = delegate
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    async def refreshed(self, method: str, request: QueryOptions) -> Cached:
        """The answer to `request`, followed from now on. Blocks where the request asks for a newer index."""
        plain = msgspec.structs.replace(_plain(request), allow_stale=True, max_stale_duration=0)
        key = _key(method, plain)
        entry = self._entries.get(key)
        age = None
        if entry is None:
            entry = _Entry(await self._delegate.call(method, plain), self._clock())
            entry = self._keep(key, entry)
            if entry.task is None:
                entry.task = asyncio.create_task(self._follow(key, entry, method, plain))
        else:
            self._entries.move_to_end(key)
            age = 0 if entry.lost_at is None else int(self._clock() - entry.lost_at)
        entry.used_at = self._clock()
        if 0 < request.min_query_index >= entry.reply.index:
            await _await_index(entry, request)
            age = None
        level = "stale" if request.allow_stale else "leader"
        return Cached(msgspec.structs.replace(entry.reply, consistency_level=level), age)

    async def simple(self, method: str, request: Any) -> Cached:
        """The answer to `request`, kept from before if it is young enough."""
        plain = _plain(request)
        key = _key(method, plain)
        entry = self._entries.get(key)
        limit = request.max_age / 1e9 if request.max_age else MAX_AGE
        age = self._clock() - entry.fetched_at if entry is not None else 0.0
        if entry is not None and not request.must_revalidate and age <= limit:
            return Cached(entry.reply, int(age))
        try:
            reply = await self._delegate.call(method, plain)
        except DiscoveryError:
            if entry is not None and age <= request.stale_if_error / 1e9:
                return Cached(entry.reply, int(age))
            raise
        self._keep(key, _Entry(reply, self._clock()), replace=True)
        return Cached(reply, None)

    def close(self) -> None:
        """Stop following."""
        while self._entries:
            self._drop(next(iter(self._entries)))

    def _keep(self, key: bytes, entry: _Entry, *, replace: bool = False) -> _Entry:
        if not replace and key in self._entries:
            return self._entries[key]
        self._entries[key] = entry
        if len(self._entries) > MAX_ENTRIES:
            self._drop(next(iter(self._entries)))
        return entry

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        entry.changed.set()
        if entry.task is not None:
            entry.task.cancel()

    async def _follow(self, key: bytes, entry: _Entry, method: str, request: QueryOptions) -> None:
        while self._clock() - entry.used_at < IDLE_LIMIT:
            asked = msgspec.structs.replace(request, min_query_index=entry.reply.index or 1, max_query_time=REFRESH_WAIT)
            asked_at = self._clock()
            try:
                reply = await self._delegate.call(method, asked)
            except DiscoveryError as error:
                _log.info("cached %s is not followed for %s s: %s", method, RETRY_PAUSE, error)
                entry.lost_at = entry.lost_at or self._clock()
                await asyncio.sleep(RETRY_PAUSE)
                continue
            newer = reply.index != asked.min_query_index
            entry.replace(reply)
            if not newer:
                await asyncio.sleep(asked_at + _IDLE_PAUSE - self._clock())
        if self._entries.get(key) is entry:
            del self._entries[key]


def _plain(request: Any) -> Any:
    return msgspec.structs.replace(
        request, min_query_index=0, max_query_time=0, use_cache=False, max_age=0, must_revalidate=False, stale_if_error=0
    )


def _key(method: str, request: Any) -> bytes:
    return method.encode() + msgspec.json.encode(request, order="deterministic")


async def _await_index(entry: _Entry, request: QueryOptions) -> None:
    """Until there is a newer index, or a lower one, after a restore."""
    known = entry.reply.index
    wait = request.max_query_time / 1e9 if request.max_query_time > 0 else _DEFAULT_WAIT
    try:
        async with asyncio.timeout(wait):
            while request.min_query_index >= entry.reply.index >= known:
                await entry.changed.wait()
    except TimeoutError:
        pass

"""Reads that `?cached` may answer from the agent's cache."""

from typing import Any

import msgspec

from discovery.model.delegate import CallingWatch
from discovery.model.requests import QueryOptions

from .call import Call
from .encoding import Reply


class Answered(msgspec.Struct, frozen=True):
    """`cache_headers` where the cache was asked; `watch` where the answer may be kept."""

    call: Call
    reply: Any
    cache_headers: bytes = b""
    watch: CallingWatch | None = None

    async def render(self, value: Any) -> Reply:
        """`value`, taken from the reply, with the headers of the read."""
        return await self.call.list_reply(value, self.reply, consistency=True, extra=self.cache_headers, watch=self.watch)


async def read_cached(call: Call, method: str, request: QueryOptions) -> Answered:
    if request.use_cache:
        cached = await call.api.cache.refreshed(method, request)
        return Answered(call, call.without_peers(cached.reply), cached.headers())
    reply, watch = await call.ask_read(method, request)
    return Answered(call, reply, b"", watch)

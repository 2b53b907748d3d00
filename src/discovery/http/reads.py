"""Reads that `?cached` may answer from the agent's cache."""

from typing import Any

import msgspec

from discovery.model.requests import QueryOptions

from .call import Call
from .encoding import Reply
from .freshness import Terms


class Answered(msgspec.Struct, frozen=True):
    """`cache_headers` where the cache was asked; `terms` where the answer may be kept."""

    call: Call
    reply: Any
    cache_headers: bytes = b""
    terms: Terms | None = None

    async def render(self, value: Any) -> Reply:
        """`value`, taken from the reply, with the headers of the read."""
        return await self.call.list_reply(value, self.reply, consistency=True, extra=self.cache_headers, terms=self.terms)


async def read_cached(call: Call, method: str, request: QueryOptions) -> Answered:
    if request.use_cache:
        cached = await call.api.cache.refreshed(method, request)
        return Answered(call, call.without_peers(cached.reply), cached.headers())
    reply, terms = await call.ask_read(method, request)
    return Answered(call, reply, b"", terms)

"""`GET /v1/events/stream`: catalog, health and KV changes as they happen, as server-sent events. Ours, not Consul's.

Every event tells what is so now of one thing: a key, a node, a service, a check. Its id is the state index at which the thing
last changed; of things that changed together the last one carries it, so that none is lost when the connection breaks between
them. Who comes back with the last id goes on from there, at any server. If too much has happened since, the event `reset` says
so: what is so must then be read anew. Source of the format: HTML standard, "Server-sent events".
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import msgspec
from aiohttp.web import StreamResponse

from discovery.model.errors import DiscoveryError, InvalidRequest, RequestFailed
from discovery.model.requests import Change, ChangesReply, ChangesRequest

from .call import Call
from .encoding import to_json
from .operation import COMMON, CONSISTENCY, describes
from .params import consistency_options, parse_uint

KINDS: Final = ("key", "node", "service", "check")
_QUIET: Final = 15 * 10**9
"""Nanoseconds after which a comment shows that the connection is alive."""
_AT_ONCE: Final = 1
_RETRY_PAUSE: Final = 1.0
"""Seconds."""


@describes(
    "Follows changes of keys, nodes, services and checks.",
    params=(*COMMON, *CONSISTENCY, "index", "kind", "prefix", "node", "service"),
    reply="text/event-stream",
)
async def stream(call: Call) -> StreamResponse:
    request = _request(call)
    began = request.min_query_index
    reply: ChangesReply = await call.ask("Internal.Changes", msgspec.structs.replace(request, max_query_time=_AT_ONCE))
    response = await call.stream("text/event-stream", {"Cache-Control": "no-cache"})
    if not began:
        await response.write(_event("ready", {"Index": reply.index}, reply.index))
    while True:
        for part in _told(reply, began):
            await response.write(part)
        began = reply.index
        reply = await _following(call, msgspec.structs.replace(request, min_query_index=began), response)


def _request(call: Call) -> ChangesRequest:
    kinds = call.params.all("kind")
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidRequest(f"Invalid kind '{kind}', must be one of: {', '.join(KINDS)}")
    return ChangesRequest(
        kinds=kinds,
        key_prefix=call.params.get("prefix"),
        node=call.params.get("node"),
        service=call.params.get("service"),
        min_query_index=_begin(call),
        max_query_time=_QUIET,
        **consistency_options(call.params, "", use_cache=False, max_stale=0),
        **call.scope(),
    )


def _begin(call: Call) -> int:
    """The index after which changes are wanted, 0 for now. The header is what a browser sends when it comes back."""
    text = call.request.headers.get("Last-Event-ID", "") or call.params.get("index")
    try:
        return parse_uint(text) if text else 0
    except RequestFailed:
        raise InvalidRequest("Invalid index") from None


async def _following(call: Call, request: ChangesRequest, response: StreamResponse) -> ChangesReply:
    """What comes next. While no server can tell, the client is kept waiting, and told why."""
    while True:
        try:
            reply: ChangesReply = await call.ask("Internal.Changes", request)
            return reply
        except DiscoveryError as error:
            await response.write(b": %s\n\n" % error.text.replace("\n", " ").encode())
            await asyncio.sleep(_RETRY_PAUSE)


def _told(reply: ChangesReply, began: int) -> Iterator[bytes]:
    if began and not reply.complete:
        yield _event("reset", {"Index": reply.index}, None if reply.changes else reply.index)
    elif began and not reply.changes:
        yield b":\n\n"
    for place, change in enumerate(reply.changes, 1):
        last = place == len(reply.changes) or reply.changes[place].index != change.index
        yield _event(change.kind, change, change.index if last else None)


def _event(name: str, data: Change | dict[str, int], index: int | None) -> bytes:
    number = b"" if index is None else b"id: %d\n" % index
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), number, to_json(data))

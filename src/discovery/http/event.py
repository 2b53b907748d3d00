"""`/v1/event/`: user events, sent by gossip."""

import asyncio
from typing import Final

from discovery.model.agent import UserEvent
from discovery.model.errors import DiscoveryError, RequestFailed
from discovery.model.patterns import InvalidPattern, compile_pattern

from .agent import wait_seconds
from .call import Call
from .encoding import Reply
from .operation import BLOCKING, COMMON, describes
from .params import blocking_options

_MAX_PAYLOAD: Final = 65536
"""Bytes read of a payload; the gossip layer allows far less and says so in its own words."""


@describes(
    "Sends a user event to all agents.", rest="{name}", params=(*COMMON, "node", "service", "tag"), body=bytes, reply=UserEvent
)
async def fire(call: Call) -> Reply:
    name = call.need("Missing name")
    filters = {kind: call.params.get(kind) for kind in ("node", "service", "tag")}
    if filters["tag"] and not filters["service"]:
        raise RequestFailed("Cannot provide tag filter without service filter")
    for kind, pattern in filters.items():
        _check_pattern(kind, pattern)
    event = UserEvent(
        name=name,
        payload=await call.body(_MAX_PAYLOAD) or None,
        node_filter=filters["node"],
        service_filter=filters["service"],
        tag_filter=filters["tag"],
        version=1,
    )
    return call.json(await call.api.agent.fire_event(event, datacenter=call.datacenter))


def _check_pattern(kind: str, pattern: str) -> None:
    try:
        compile_pattern(pattern)
    except InvalidPattern as error:
        raise RequestFailed(f"Invalid {kind} filter: {error}") from None


@describes("Lists the newest events that this agent received.", params=("pretty", *BLOCKING, "name"), reply=list[UserEvent])
async def list_all(call: Call) -> Reply:
    wanted_index = _wanted_index(call)
    events, index = _matching(call)
    if wanted_index and index == wanted_index:
        try:
            async with asyncio.timeout(wait_seconds(call)):
                while index == wanted_index:
                    await call.api.agent.event_arrived()
                    events, index = _matching(call)
        except TimeoutError:
            pass
    return call.json(events, extra=b"X-Consul-Index: %d\r\n" % index)


def _wanted_index(call: Call) -> int:
    found = blocking_options(call.params).get("min_query_index", 0)
    assert isinstance(found, int)
    return found


def _matching(call: Call) -> tuple[list[UserEvent], int]:
    """The events that the parameters select, and the index that stands for the newest of them."""
    name = call.params.get("name")
    events = [event for event in call.api.agent.events() if not name or event.name == name]
    return events, index_of(events[-1].id) if events else 1


def index_of(event_id: str) -> int:
    """A number that differs from event to event: the two halves of the id, folded."""
    digits = event_id.replace("-", "")
    try:
        return (int(digits[:16], 16) ^ int(digits[16:32], 16)) or 1
    except ValueError:
        raise DiscoveryError(f"event id {event_id} is no UUID") from None

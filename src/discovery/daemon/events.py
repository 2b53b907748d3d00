"""User events: what is gossiped, which of them concern this agent, and the newest of them for `event/list`.

Source: Consul documentation of events; the payload format is the one Consul agents gossip.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgpack
import msgspec

from discovery.model.agent import UserEvent
from discovery.model.errors import RequestFailed
from discovery.model.patterns import InvalidPattern, compile_pattern

PREFIX: Final = "consul:event:"
_KEPT: Final = 256
_VERSION: Final = 1


class ServiceView(msgspec.Struct, frozen=True):
    """What event filters look at."""

    id: str
    tags: Sequence[str]


class UserEvents:
    """The events this agent received. `services` gives its own services."""

    def __init__(self, node_name: str, services: Callable[[], Iterable[ServiceView]]) -> None:
        self._node_name = node_name
        self._services = services
        self._received: deque[UserEvent] = deque(maxlen=_KEPT)
        self._waiting: list[asyncio.Future[None]] = []

    def events(self) -> Sequence[UserEvent]:
        return list(self._received)

    async def arrived(self) -> None:
        """Return when the next event has been received."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def receive(self, name: str, payload: bytes, l_time: int) -> None:
        """A gossiped user event; those that are not ours to keep, or not addressed to this agent, are left."""
        if not name.startswith(PREFIX):
            return
        event = decode(payload)
        if event is None or not self._concerns_us(event):
            return
        self._received.append(msgspec.structs.replace(event, l_time=l_time))
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _concerns_us(self, event: UserEvent) -> bool:
        if event.node_filter and not _matches(event.node_filter, [self._node_name]):
            return False
        if not event.service_filter:
            return True
        for service in self._services():
            if _matches(event.service_filter, [service.id]) and (
                not event.tag_filter or _matches(event.tag_filter, service.tags)
            ):
                return True
        return False


def new_event(event: UserEvent) -> UserEvent:
    """The event as it will be gossiped: checked and given an id."""
    if event.tag_filter and not event.service_filter:
        raise RequestFailed("Cannot provide tag filter without service filter")
    for kind, expression in (("node", event.node_filter), ("service", event.service_filter), ("tag", event.tag_filter)):
        try:
            compile_pattern(expression)
        except InvalidPattern as error:
            raise RequestFailed(f"Invalid {kind} filter: {error}") from None
    return msgspec.structs.replace(event, id=str(uuid.uuid4()), version=_VERSION)


def encode(event: UserEvent) -> bytes:
    document: dict[str, object] = {"ID": event.id, "n": event.name}
    if event.payload:
        document["p"] = event.payload
    for key, value in (("nf", event.node_filter), ("sf", event.service_filter), ("tf", event.tag_filter)):
        if value:
            document[key] = value
    document["v"] = event.version
    return bytes(msgpack.packb(document, use_bin_type=True))


def decode(data: bytes) -> UserEvent | None:
    """None for what is no event of this format."""
    try:
        document = msgpack.unpackb(data, raw=False, max_map_len=64)
        payload = document.get("p")
        return UserEvent(
            id=document["ID"],
            name=document["n"],
            payload=payload.encode() if isinstance(payload, str) else payload,
            node_filter=document.get("nf", ""),
            service_filter=document.get("sf", ""),
            tag_filter=document.get("tf", ""),
            version=document.get("v", 0),
        )
    except (ValueError, KeyError, AttributeError, msgpack.UnpackException):
        return None


def _matches(expression: str, candidates: Collection[str]) -> bool:
    try:
        pattern = compile_pattern(expression)
    except InvalidPattern:
        return False
    return any(pattern.search(candidate) for candidate in candidates)

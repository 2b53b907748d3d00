"""What the cluster said last, for the time when it can't be asked (`serve_stale_for`, off by default).

Source of the idea and its rules: RFC 8767, "Serving Stale Data to Improve DNS Resiliency". Only replies that name somebody are
remembered: "there is no such service" would be a lie once it is old.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from discovery.model.delegate import Answer
from discovery.model.errors import DiscoveryError
from discovery.model.requests import (
    IndexedCheckServiceNodes,
    IndexedNodeServices,
    PreparedQueryExecuteResponse,
    QueryOptions,
)

from .following import lookup_key

MAX_REMEMBERED: Final = 4096
PATIENCE: Final = 1.8
"""Seconds that a client is kept waiting before it gets an old answer (RFC 8767 section 5)."""
PAUSE: Final = 1.0
"""Seconds for which the cluster isn't tried again after it did not answer, where there is an old answer."""


class Asker(Protocol):
    async def ask(self, method: str, request: QueryOptions) -> Answer: ...


class NotRemembered(DiscoveryError):
    """There is no old answer."""


class OldAnswer(msgspec.Struct, gc=False):
    """See `model.delegate.Answer`."""

    reply: Any
    watch: None = None


class LastKnown:
    """Passes questions on and remembers the replies; `recall` is another asker, of the memory alone."""

    def __init__(self, asker: Asker, clock: Callable[[], float]) -> None:
        self._asker = asker
        self._keep_for = 0.0
        self._clock = clock
        self._replies: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()
        self.recall = _Memory(self._recall)

    def keep_for(self, seconds: float) -> None:
        """How old a remembered reply may be; 0 is the beginning, and remembers nothing."""
        self._keep_for = seconds
        if not seconds:
            self._replies.clear()

    async def ask(self, method: str, request: QueryOptions) -> Answer:
        """Raises `DiscoveryError`."""
        answer = await self._asker.ask(method, request)
        if self._keep_for:
            self._remember(method, request, answer)
        return answer

    def _remember(self, method: str, request: QueryOptions, answer: Answer) -> None:
        key = _key(method, request)
        self._replies.pop(key, None)
        if _names_somebody(answer.reply):
            self._replies[key] = self._clock(), answer.reply
            if len(self._replies) > MAX_REMEMBERED:
                self._replies.popitem(last=False)

    def _recall(self, method: str, request: QueryOptions) -> Any:
        at, reply = self._replies.get(_key(method, request), (0.0, None))
        if reply is None or self._clock() - at > self._keep_for:
            raise NotRemembered(f"{method} has no old answer")
        return reply


class _Memory:
    def __init__(self, recall: Callable[[str, QueryOptions], Any]) -> None:
        self._recall = recall

    async def ask(self, method: str, request: QueryOptions) -> Answer:
        """Raises `NotRemembered`."""
        return OldAnswer(self._recall(method, request))


def _key(method: str, request: QueryOptions) -> bytes:
    """Whether the leader or any server was asked makes no difference."""
    return lookup_key(method, msgspec.structs.replace(request, allow_stale=True))


def _names_somebody(reply: Any) -> bool:
    if isinstance(reply, IndexedCheckServiceNodes | PreparedQueryExecuteResponse):
        return bool(reply.nodes)
    return isinstance(reply, IndexedNodeServices) and reply.node_services is not None and reply.node_services.node is not None

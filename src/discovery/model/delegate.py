"""The one seam between the doors (HTTP, DNS, checks) and the cluster: a server answers it from its own store, a client agent
by asking a server. Nothing above it knows which."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from .records import Record
from .requests import QueryMeta


class Watch(Protocol):
    """Tells whether what was read is still so. `fired` turns true once, when any of it changes, and stays true."""

    @property
    def fired(self) -> bool: ...


class CallingWatch(Watch, Protocol):
    """A watch that need not be looked at."""

    def on_fire(self, callback: Callable[[], object]) -> None:
        """Call `callback` once it has fired, at once if it has."""

    def cancel(self) -> None:
        """Call nobody any more."""


class Answer(Protocol):
    """A reply together with the watch over what it was read from, where there is one.

    `watch` is None where freshness cannot be told locally (an answer from another server): such an answer may not be kept.
    """

    @property
    def reply(self) -> Any: ...
    @property
    def watch(self) -> Watch | None: ...


class WatchedAnswer(Answer, Protocol):
    @property
    def watch(self) -> CallingWatch | None: ...


class LeaderContact(msgspec.Struct, frozen=True, gc=False):
    """`known`: whether there is a leader as far as this server knows; `age`: nanoseconds since it was heard of."""

    known: bool
    age: int


class Delegate(Protocol):
    """Answers RPC methods by name (`model.methods.METHODS`)."""

    async def call(self, method: str, request: Record) -> Any:
        """The reply, of the method's `reply_type`; raises `model.errors.DiscoveryError`."""

    async def ask(self, method: str, request: Record) -> WatchedAnswer:
        """As `call`, with a watch over the answer, for callers that keep encoded answers."""

    def leads(self) -> bool:
        """Whether a kept answer may be served for a default (leader) read right now, that is: we lead and hold the lease."""

    def contact(self) -> LeaderContact | None:
        """What a kept answer may say of the leader right now, when given again for a stale read; None: it may not be given."""

    async def confirm(self) -> bool:
        """Whether a quorum confirms that we lead, asked after this call: a kept answer may then be served for a consistent
        read, if its watch has not fired by the time this returns."""

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        """A snapshot archive (gzip'd tar) and the `QueryMeta` that goes with it."""

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        """Replace the whole state by an archive's; refused before anything changes if it does not verify."""

"""Asking servers: how a client agent answers everything, and how a follower reaches its leader.

A request goes to one server; when that one can't be reached the next is asked. What may have been executed is never sent
twice: after the connection broke, reads are asked again, writes are not. "No cluster leader" is waited out up to the hold
time. Source: Consul's documented client behaviour (server rotation, RPC hold time). Other datacenters: see `datacenters`.
"""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from discovery.model.errors import (
    DiscoveryError,
    NoLeader,
    NoServers,
    NotFound,
    OutcomeUnknown,
    RemoteError,
    RequestFailed,
)
from discovery.model.methods import METHODS
from discovery.model.records import Record

from .rpc_client import ConnectionLost, RpcError, RpcPool

T = TypeVar("T")

_CALL_TIMEOUT: Final = 60.0
"""Seconds until an unanswered call counts as lost, if it is no blocking query."""
_CALL_MARGIN: Final = 10.0
"""Seconds beyond a blocking query's wait before it counts as lost."""
_DEFAULT_WAIT: Final = 300.0
_LONGEST_WAIT: Final = 600.0
_SHORTEST_WAIT: Final = 0.001

_NOT_FOUND_TEXTS: Final = ("Query not found", "Intention not found")


class ServerList:
    """The servers a client agent knows, in the order in which they are asked. `rng` shuffles newcomers in."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._addresses: list[str] = []

    def __len__(self) -> int:
        return len(self._addresses)

    def update(self, addresses: Sequence[str]) -> None:
        """Keep the order of those that stay, so that a change elsewhere does not move us to another server."""
        wanted = set(addresses)
        kept = [address for address in self._addresses if address in wanted]
        for address in sorted(wanted - set(kept)):
            kept.insert(self._rng.randint(min(1, len(kept)), len(kept)), address)
        self._addresses = kept

    def without(self, addresses: Sequence[str]) -> list[str]:
        """Those listed that are not among `addresses`."""
        return [address for address in self._addresses if address not in addresses]

    def first(self) -> str | None:
        return self._addresses[0] if self._addresses else None

    def failed(self, address: str) -> None:
        """Ask the next one from now on."""
        if self._addresses and self._addresses[0] == address:
            self._addresses.append(self._addresses.pop(0))

    def rebalance(self) -> None:
        """Shuffle, so that clients spread over servers that came back. Called every few minutes."""
        self._rng.shuffle(self._addresses)


class ForwardedAnswer(msgspec.Struct, gc=False):
    """See `model.delegate.Answer`: another server's answer can't be watched from here."""

    reply: Any
    watch: None = None


class Forwarder:
    """A client agent's side of the seam. `hold_time` is seconds.

    Every server is tried once without delay; then the list is gone through again, with pauses, until the hold time is over.
    A blocking query that its server's death cut short goes on at the next one for what is left of its wait.
    """

    def __init__(self, pool: RpcPool, servers: ServerList, rng: random.Random, *, datacenter: str, hold_time: float) -> None:
        self._pool = pool
        self._servers = servers
        self._rng = rng
        self._datacenter = datacenter
        self._hold_time = hold_time

    def leads(self) -> bool:
        return False

    def server_failed(self, address: str) -> None:
        """Gossip says that a server is dead: what it was asked fails now, instead of when time is up, and moves on."""
        self._servers.failed(address)
        self._pool.drop(address)

    async def ask(self, method: str, request: Any) -> ForwardedAnswer:
        return ForwardedAnswer(await self.call(method, request))

    async def call(self, method: str, request: Any) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._hold_time
        request = with_datacenter(request, self._datacenter)
        tried: set[str] = set()
        while True:
            address = self._servers.first()
            if address is None:
                raise NoServers
            asked = loop.time()
            try:
                return await self._call(address, method, request)
            except _Retry as retry:
                self._servers.failed(address)
                tried.add(address)
                if _is_blocking(request) and not retry.pause:
                    deadline += loop.time() - asked
                    request = _with_less_wait(request, loop.time() - asked)
                if retry.pause or self._servers.first() in tried:
                    if loop.time() >= deadline:
                        raise retry.error from None
                    await asyncio.sleep(self._hold_time / 16 * self._rng.uniform(0.05, 1))

    async def _call(self, address: str, method: str, request: Any) -> Any:
        try:
            return await self._pool.call(address, method, request, timeout=call_timeout(request))
        except RpcError as error:
            refusal = refusal_of(error.text)
            if isinstance(refusal, NoLeader):
                raise _Retry(RemoteError(error.text), pause=True) from None
            raise refusal from None
        except ConnectionLost as lost:
            if METHODS[method].write and lost.sent:
                raise OutcomeUnknown(f"rpc error making call: {lost}") from None
            raise _Retry(RequestFailed(f"rpc error getting client: {lost}"), pause=False) from None


class LeaderForwarder:
    """A follower's link to its leader (see `server.endpoints.LeaderLink`)."""

    def __init__(self, pool: RpcPool, *, datacenter: str) -> None:
        self._pool = pool
        self._datacenter = datacenter

    async def call(self, address: str, method: str, request: Any) -> Any:
        request = with_datacenter(request, self._datacenter)
        try:
            return await self._pool.call(address, method, request, timeout=call_timeout(request))
        except RpcError as error:
            raise refusal_of(error.text) from None
        except ConnectionLost as lost:
            if METHODS[method].write and lost.sent:
                raise OutcomeUnknown(f"rpc error making call: {lost}") from None
            raise NoLeader(f"the leader at {address} can't be reached: {lost}") from None


class _Retry(Exception):
    """Nothing was done, or nothing that may not be done again. `pause`: asking at once would bring the same answer."""

    def __init__(self, error: DiscoveryError, *, pause: bool) -> None:
        super().__init__(error.text)
        self.error = error
        self.pause = pause


def with_datacenter(request: Any, datacenter: str) -> Any:
    """Every request on the wire names its datacenter."""
    if isinstance(request, Record) and getattr(request, "datacenter", None) == "":
        return msgspec.structs.replace(request, datacenter=datacenter)
    return request


def call_timeout(request: Any) -> float:
    """Seconds until an unanswered call counts as lost; blocking queries may take their whole wait and its jitter."""
    return _wait_of(request) * 17 / 16 + _CALL_MARGIN if _is_blocking(request) else _CALL_TIMEOUT


def _is_blocking(request: Any) -> bool:
    return getattr(request, "min_query_index", 0) > 0


def _wait_of(request: Any) -> float:
    """Seconds which a blocking query may wait for news, as servers bound them."""
    return float(min(request.max_query_time / 1e9 or _DEFAULT_WAIT, _LONGEST_WAIT))


def _with_less_wait(request: Any, waited: float) -> Any:
    left = max(_wait_of(request) - waited, _SHORTEST_WAIT)
    return msgspec.structs.replace(request, max_query_time=int(left * 1e9))


def refusal_of(text: str) -> DiscoveryError:
    """The error behind a text that came over RPC, possibly wrapped more than once."""
    for ending in _NOT_FOUND_TEXTS:
        if text.endswith(ending):
            return NotFound(ending)
    if "No cluster leader" in text:
        return NoLeader()
    return RemoteError(text)


async def told_plainly(asking: Awaitable[T]) -> T:
    """The result of an exchange with another server, its failures as `DiscoveryError`."""
    try:
        return await asking
    except RpcError as error:
        raise refusal_of(error.text) from None
    except ConnectionLost as lost:
        raise RequestFailed(f"rpc error getting client: {lost}") from None

"""Asking other datacenters: a server passes what is meant for another one to some server of it, which it knows from the WAN pool.

A server that can't be reached is moved to the end of its datacenter's list and the next one is tried, each once: the far
servers wait for their own leader. Source: Consul's documented multi-datacenter behaviour.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from discovery.model.errors import NoLeader, NoPathToDatacenter, OutcomeUnknown, RemoteError, RequestFailed
from discovery.model.methods import METHODS
from discovery.model.requests import QueryMeta

from .dialer import Dialer
from .forwarder import ServerList, call_timeout, refusal_of
from .rpc_client import ConnectionLost, RpcError, RpcPool
from .snapshot_rpc import restore_snapshot, save_snapshot

T = TypeVar("T")


class DatacenterForwarder:
    """The servers of other datacenters, with a pool of connections for each datacenter. `rng` spreads us over its servers."""

    def __init__(self, dialer: Dialer, rng: random.Random, *, on_call: Callable[[], None] = lambda: None) -> None:
        """`on_call` is called for every request that goes to another datacenter."""
        self._dialer = dialer
        self._rng = rng
        self._on_call = on_call
        self._routes: dict[str, _Route] = {}

    def update(self, servers: Mapping[str, Sequence[str]]) -> None:
        """The `ip:port` of all living servers by datacenter, our own left out. Calls under way to those gone are lost."""
        for datacenter, addresses in servers.items():
            route = self._routes.get(datacenter)
            if route is None:
                route = self._routes[datacenter] = _Route(self._dialer.towards(datacenter), self._rng)
            route.update(addresses)
        for datacenter, route in self._routes.items():
            if datacenter not in servers:
                route.update([])

    def datacenters(self) -> list[str]:
        """Those to which there is a way, by name."""
        return sorted(datacenter for datacenter, route in self._routes.items() if len(route.servers))

    def server(self, datacenter: str) -> str | None:
        """The server that would be asked next; None if there is no way."""
        route = self._routes.get(datacenter)
        return route.servers.first() if route is not None else None

    def rebalance(self) -> None:
        """Move to other servers, as clients do: called every few minutes."""
        for route in self._routes.values():
            route.servers.rebalance()

    async def call(self, datacenter: str, method: str, request: Any) -> Any:
        """The reply of another datacenter. Raises `DiscoveryError`, `NoPathToDatacenter` among others."""
        self._on_call()
        route = self._route(datacenter)
        timeout = call_timeout(request)

        def ask(address: str) -> Awaitable[Any]:
            return route.pool.call(address, method, request, timeout=timeout)

        return await self._try_each(route, ask, repeatable=not METHODS[method].write)

    async def save_snapshot(self, datacenter: str, *, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        """As `model.delegate.Delegate.save_snapshot`."""
        route = self._route(datacenter)

        def ask(address: str) -> Awaitable[tuple[bytes, QueryMeta]]:
            return save_snapshot(route.dialer, address, datacenter=datacenter, token=token, stale=stale)

        return await self._try_each(route, ask, repeatable=True)

    async def restore_snapshot(self, archive: bytes, datacenter: str, *, token: str) -> None:
        """As `model.delegate.Delegate.restore_snapshot`."""
        route = self._route(datacenter)

        def ask(address: str) -> Awaitable[None]:
            return restore_snapshot(route.dialer, address, archive, datacenter=datacenter, token=token)

        await self._try_each(route, ask, repeatable=False)

    async def close(self) -> None:
        await asyncio.gather(*(route.pool.close() for route in self._routes.values()))

    def _route(self, datacenter: str) -> "_Route":
        route = self._routes.get(datacenter)
        if route is None or not len(route.servers):
            raise NoPathToDatacenter
        return route

    async def _try_each(self, route: "_Route", ask: Callable[[str], Awaitable[T]], *, repeatable: bool) -> T:
        tried: set[str] = set()
        while True:
            address = route.servers.first()
            if address is None:
                raise NoPathToDatacenter
            try:
                return await ask(address)
            except RpcError as error:
                refusal = refusal_of(error.text)
                # The far datacenter's want of a leader is not ours: nobody here may wait for it.
                raise RemoteError(error.text) if isinstance(refusal, NoLeader) else refusal from None
            except ConnectionLost as lost:
                if lost.sent and not repeatable:
                    raise OutcomeUnknown(f"rpc error making call: {lost}") from None
                route.servers.failed(address)
                tried.add(address)
                if route.servers.first() in tried:
                    raise RequestFailed(f"rpc error getting client: {lost}") from None


class _Route:
    """The way to one datacenter."""

    def __init__(self, dialer: Dialer, rng: random.Random) -> None:
        self.dialer = dialer
        self.pool = RpcPool(METHODS, dialer)
        self.servers = ServerList(rng)

    def update(self, addresses: Sequence[str]) -> None:
        for address in self.servers.without(addresses):
            self.pool.drop(address)
        self.servers.update(addresses)

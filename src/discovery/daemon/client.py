"""A client agent's share: which servers it knows, and asking them."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final

from discovery.model.delegate import WatchedAnswer
from discovery.model.errors import DiscoveryError, NoServers, RateExceeded
from discovery.model.methods import METHODS
from discovery.model.records import Record
from discovery.model.requests import QueryMeta
from discovery.server.members import ALIVE, FAILED, Member, as_server, servers_of
from discovery.telemetry import Metrics
from discovery.transport.dialer import Dialer
from discovery.transport.forwarder import Forwarder, ServerList, told_plainly
from discovery.transport.rpc_client import RpcPool
from discovery.transport.snapshot_rpc import restore_snapshot, save_snapshot
from discovery.transport.tls import Tls

from .rate_limit import TokenBucket

_REBALANCE: Final = (120.0, 180.0)
"""Seconds between moves to another server, drawn anew each time."""


class Client:
    """The delegate of a client agent's doors."""

    def __init__(
        self, *, datacenter: str, tls: Tls | None, rng: random.Random, hold_time: float, limit: TokenBucket, metrics: Metrics
    ) -> None:
        self._datacenter = datacenter
        self._limit = limit
        self._metrics = metrics
        self._rng = rng
        self._dialer = Dialer(tls)
        self._pool = RpcPool(METHODS, self._dialer)
        self.servers = ServerList(rng)
        self.endpoints = Forwarder(self._pool, self.servers, rng, datacenter=datacenter, hold_time=hold_time)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._rebalance())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._pool.close()

    def member_changed(self, member: Member) -> None:
        """Of a server that failed nothing is awaited any longer."""
        server = as_server(member)
        if server is not None and server.status == FAILED:
            self.endpoints.server_failed(server.rpc_address)

    def members_changed(self, members: Iterable[Member]) -> bool:
        """Take over the servers that are alive; tells whether there are new ones."""
        known = len(self.servers)
        alive = [server.rpc_address for server in servers_of(members, self._datacenter) if server.status == ALIVE]
        self.servers.update(alive)
        return len(self.servers) > known

    async def _rebalance(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(*_REBALANCE))
            self.servers.rebalance()

    # --- the seam: what `model.delegate.Delegate` asks ---------------------------------------------------------------

    async def call(self, method: str, request: Record) -> Any:
        return (await self.ask(method, request)).reply

    async def ask(self, method: str, request: Record) -> WatchedAnswer:
        metrics = self._metrics
        metrics.client_rpc.inc()
        if not self._limit.admits(asyncio.get_running_loop().time()):
            metrics.client_rpc_exceeded.inc()
            raise RateExceeded
        try:
            return await self.endpoints.ask(method, request)
        except DiscoveryError:
            metrics.client_rpc_failed.inc()
            raise

    def leads(self) -> bool:
        return False

    def contact(self) -> None:
        """Nothing is kept here."""

    async def confirm(self) -> bool:
        return False

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        asked = datacenter or self._datacenter
        return await told_plainly(save_snapshot(self._dialer, self._server(), datacenter=asked, token=token, stale=stale))

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        asked = datacenter or self._datacenter
        await told_plainly(restore_snapshot(self._dialer, self._server(), archive, datacenter=asked, token=token))

    def _server(self) -> str:
        address = self.servers.first()
        if address is None:
            raise NoServers
        return address

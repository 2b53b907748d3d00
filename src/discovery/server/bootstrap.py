"""Forming the cluster for the first time: `bootstrap_expect` servers that see each other write the same first configuration.

Raft can only be begun once: two different first configurations that share a server are two clusters with one name. So a server
begins only when all servers that gossip knows, the failed ones included, answer that they are as new as itself and see the very
same servers, and none of them has agreed to another set within the last seconds. What each then writes is the same, whoever is
first. A server that finds others which have a cluster already waits to be added by their leader.

Source: Consul's documentation of `bootstrap_expect`; the agreement is ours.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from discovery.model.errors import DiscoveryError
from discovery.model.requests import BootstrapReply
from discovery.raft.messages import Configuration, Server
from discovery.transport.rpc_client import ConnectionLost, RpcError

from .members import ALIVE, LEFT, Member, ServerMember, servers_of
from .replica import Replica

PROMISE: Final = 6.0
"""Seconds for which a server agrees to no other set than the one it agreed to."""
COLLECTING: Final = PROMISE / 2
"""Seconds within which all have to agree, well before the first may change its mind."""

Ask = Callable[[str, Sequence[str]], Awaitable[BootstrapReply]]
"""Server address and the ids of a set -> whether that server agrees."""


class _NotYet(Exception):
    """Why the cluster can't be formed now."""


class Bootstrap:
    """Watches the members until the cluster is formed, and tells what it waits for."""

    def __init__(
        self,
        *,
        replica: Replica,
        datacenter: str,
        expect: int,
        members: Callable[[], Iterable[Member]],
        ask: Ask,
        log: logging.Logger,
        strangers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`strangers`: addresses that gossip did not understand or take in lately, and why."""
        self._replica = replica
        self._datacenter = datacenter
        self._expect = expect
        self._members = members
        self._ask = ask
        self._strangers = strangers
        self._log = log
        self._forming = False
        self._agreed: tuple[str, ...] = ()
        self._agreed_until = 0.0
        self.waiting_for = ""
        """Why there is no cluster yet, for log lines and error answers."""

    async def consider(self) -> None:
        """Form the cluster if its time has come; called whenever the members change, and now and then."""
        if self._forming or self._expect == 0 or not self._replica.is_virgin:
            return
        self._forming = True
        try:
            servers = self._founders()
            await self._collect(servers)
            self._begin(servers)
        except (_NotYet, DiscoveryError) as reason:
            self._say(str(reason))
        finally:
            self._forming = False

    def agree(self, ids: Sequence[str]) -> BootstrapReply:
        """Another server asks whether the cluster may begin with the servers `ids`."""
        if not self._replica.is_virgin:
            return BootstrapReply(peers=len(self._replica.configuration.servers) or 1)
        seen = [server.id for server in self._known()]
        if list(ids) != seen:
            return BootstrapReply(reason=f"it sees {len(seen)} servers, and not the same")
        now = asyncio.get_running_loop().time()
        if self._agreed != tuple(ids) and now < self._agreed_until:
            return BootstrapReply(reason="it has agreed to other servers a moment ago")
        self._agreed, self._agreed_until = tuple(ids), now + PROMISE
        return BootstrapReply(agreed=True)

    # --- who ---------------------------------------------------------------------------------------------------------

    def _known(self) -> list[ServerMember]:
        """All that may vote and have not left, sorted by id; alone where one server is enough."""
        servers = [server for server in servers_of(self._members(), self._datacenter) if server.voter and server.status != LEFT]
        if self._expect == 1:
            servers = [server for server in servers if server.id == self._replica.server_id]
        return sorted(servers, key=lambda server: server.id)

    def _founders(self) -> list[ServerMember]:
        servers = self._known()
        for server in servers:
            if server.bootstrap and self._expect != 1:
                raise _NotYet(f"server {server.name} is in bootstrap mode; expecting it to lead")
            if server.expect not in (0, self._expect):
                raise _NotYet(f"server {server.name} expects {server.expect} servers, this one {self._expect}")
            if server.status != ALIVE:
                raise _NotYet(f"server {server.name} ({server.rpc_address}) has failed")
        if len(servers) < self._expect:
            seen = ", ".join(sorted(f"{server.name} ({server.rpc_address})" for server in servers))
            refused = "".join(f"; not taken in: {address} ({why})" for address, why in sorted(self._strangers().items()))
            raise _NotYet(f"expecting {self._expect} servers, see {len(servers)}: {seen or 'none'}{refused}")
        return servers

    # --- agreement ---------------------------------------------------------------------------------------------------

    async def _collect(self, servers: Sequence[ServerMember]) -> None:
        ids = [server.id for server in servers]
        own = self.agree(ids)
        if not own.agreed:
            raise _NotYet(own.reason)
        others = [server for server in servers if server.id != self._replica.server_id]
        if self._expect == 1:
            others = [each for each in servers_of(self._members(), self._datacenter) if each.id != self._replica.server_id]
        try:
            async with asyncio.timeout(COLLECTING):
                await asyncio.gather(*(self._require(server, ids) for server in others))
        except TimeoutError:
            raise _NotYet("not all servers answered in time") from None

    async def _require(self, server: ServerMember, ids: Sequence[str]) -> None:
        try:
            reply = await self._ask(server.rpc_address, ids)
        except (ConnectionLost, RpcError, OSError) as error:
            if self._expect == 1:
                return
            raise _NotYet(f"server {server.name} ({server.rpc_address}) does not answer: {error}") from None
        if reply.peers:
            raise _NotYet(f"server {server.name} already has a cluster of {reply.peers}; waiting to be added to it")
        if not reply.agreed and self._expect != 1:
            raise _NotYet(f"server {server.name} does not agree: {reply.reason}")

    def _begin(self, servers: Sequence[ServerMember]) -> None:
        """The members may have changed while the others were asked."""
        if not self._replica.is_virgin:
            return
        if [server.id for server in self._known()] != [server.id for server in servers]:
            raise _NotYet("the servers have changed meanwhile")
        peers = ",".join(server.rpc_address for server in servers)
        self._log.info("found expected number of peers, attempting bootstrap: peers=%s", peers)
        self._replica.bootstrap(
            Configuration(tuple(Server(id=server.id, address=server.rpc_address, voter=True) for server in servers))
        )
        self.waiting_for = ""

    def _say(self, text: str) -> None:
        if text != self.waiting_for:
            self.waiting_for = text
            self._log.info("not bootstrapping yet: %s", text)

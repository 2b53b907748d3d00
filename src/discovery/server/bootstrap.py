"""Forming the cluster for the first time: `bootstrap_expect` servers that see each other write the same first configuration.

Each server decides alone, from what gossip shows it, and all come to the same configuration (sorted by id), so it does not
matter who is first or whether one does it twice. A server that finds others which already have a cluster waits to be added by
their leader instead. Source: Consul's documentation of `bootstrap_expect`.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from discovery.raft.messages import Configuration, Server

from .members import ALIVE, Member, ServerMember, servers_of
from .replica import Replica


class Bootstrap:
    """Watches the members until the cluster is formed, and tells what it waits for."""

    def __init__(
        self,
        *,
        replica: Replica,
        datacenter: str,
        expect: int,
        peers_of: Callable[[str], Awaitable[Sequence[str]]],
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._datacenter = datacenter
        self._expect = expect
        self._peers_of = peers_of
        self._log = log
        self._asking = False
        self.waiting_for = ""
        """Why there is no cluster yet, for log lines and error answers."""

    def _say(self, text: str) -> None:
        if text != self.waiting_for:
            self.waiting_for = text
            self._log.info("not bootstrapping yet: %s", text)

    async def consider(self, members: Iterable[Member]) -> None:
        """Called whenever the members change."""
        if self._asking or self._expect == 0 or not self._replica.is_virgin:
            return
        servers = [server for server in servers_of(members, self._datacenter) if server.status == ALIVE]
        if not self._may_form(servers):
            return
        self._asking = True
        try:
            await self._form(servers)
        finally:
            self._asking = False

    def _may_form(self, servers: Sequence[ServerMember]) -> bool:
        voters = [server for server in servers if server.voter]
        for server in voters:
            if server.bootstrap and self._expect != 1:
                self._say(f"server {server.name} is in bootstrap mode; expecting it to lead")
                return False
            if server.expect not in (0, self._expect):
                self._say(f"server {server.name} expects {server.expect} servers, this one {self._expect}")
                return False
        if len(voters) < self._expect:
            seen = ", ".join(sorted(f"{server.name} ({server.rpc_address})" for server in voters))
            self._say(f"expecting {self._expect} servers, see {len(voters)}: {seen or 'none'}")
            return False
        return True

    async def _form(self, servers: Sequence[ServerMember]) -> None:
        voters = sorted((server for server in servers if server.voter), key=lambda server: server.id)
        for server in voters:
            if server.id == self._replica.server_id:
                continue
            try:
                peers = await self._peers_of(server.rpc_address)
            except (OSError, Exception) as error:
                self._say(f"server {server.name} ({server.rpc_address}) does not answer: {error}")
                return
            if peers:
                self._say(f"server {server.name} already has a cluster of {len(peers)}; waiting to be added to it")
                return
        if not self._replica.is_virgin:
            return
        addresses = ",".join(server.rpc_address for server in voters)
        self._log.info("found expected number of peers, attempting bootstrap: peers=%s", addresses)
        self._replica.bootstrap(
            Configuration(tuple(Server(id=server.id, address=server.rpc_address, voter=True) for server in voters))
        )
        self.waiting_for = ""

"""Where servers are reached, by id.

Gossip is believed first: it learns of it when a server restarts on another address, and it knows servers that the Raft log has
not told us of yet. That is how servers find each other again that were all restarted on new addresses. Without gossip the
newest Raft configuration counts; servers that left it stay known, so that they can be told.
"""

from collections.abc import Iterable

from discovery.raft.messages import Configuration

from .members import ALIVE, Member, as_server


class ServerAddresses:
    """`own_address` is that of the server with `own_id`."""

    def __init__(self, own_id: str, own_address: str, datacenter: str) -> None:
        self._own_id = own_id
        self._own_address = own_address
        self._datacenter = datacenter
        self._gossiped: dict[str, str] = {}
        self._configured: dict[str, str] = {}

    def configured(self, configuration: Configuration) -> None:
        self._configured.update({server.id: server.address for server in configuration.servers})

    def heard_of(self, members: Iterable[Member]) -> None:
        for member in members:
            server = as_server(member)
            if server is not None and server.id and server.datacenter == self._datacenter and server.status == ALIVE:
                self._gossiped[server.id] = server.rpc_address

    def of(self, server_id: str) -> str:
        """Empty if nobody told us. An address of our own that another server once had leads nowhere."""
        if server_id == self._own_id:
            return self._own_address
        address = self._gossiped.get(server_id) or self._configured.get(server_id, "")
        return "" if address == self._own_address else address

    def ids_at(self, address: str) -> list[str]:
        known = {**self._configured, **self._gossiped}
        return [server_id for server_id, at in known.items() if at == address]

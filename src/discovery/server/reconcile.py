"""Keeps the catalog and the Raft configuration in step with the gossip pool.

Source: Consul's documented behaviour: alive members are registered with a passing `serfHealth`, failed ones turn critical,
members that left or were reaped are deregistered; servers also get the service `consul` and a place in the Raft configuration,
first without a vote (`autopilot` gives it). Nodes without `serfHealth` are none of ours.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, NoLeader, OutcomeUnknown
from discovery.model.records import (
    CONSUL_SERVICE,
    CRITICAL,
    DEFAULT_WEIGHTS,
    PASSING,
    SERF_CHECK_ID,
    SERF_CHECK_NAME,
    HealthCheck,
    Node,
    NodeService,
)
from discovery.raft.messages import Server
from discovery.state.store import StateStore
from discovery.telemetry import Metrics

from .members import ALIVE, FAILED, LEFT, Member, ServerMember, as_server
from .replica import Replica

_BATCH: Final = 50
_ALIVE_OUTPUT: Final = "Agent alive and reachable"
_DEAD_OUTPUT: Final = "Agent not live or unreachable"


class Reconciler:
    """To be used on the leader. `members` gives the LAN pool as it is now."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: StateStore,
        datacenter: str,
        members: Callable[[], Iterable[Member]],
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._store = store
        self._datacenter = datacenter
        self._members = members
        self._metrics = metrics
        self._log = log

    async def all(self) -> None:
        """Every member, and the nodes that gossip forgot while nobody led."""
        started = time.monotonic()
        known = list(self._members())
        for number, member in enumerate(known):
            await self.one(member)
            if number % _BATCH == 0:
                # Most are as they should be, and nothing was waited for: let others have their turn.
                await asyncio.sleep(0)
        names = {member.name.lower() for member in known}
        strangers = [node.node for node in self._store.nodes().value if node.node.lower() not in names]
        for name in strangers:
            if self._serf_status(name) is not None:
                self._log.info("deregistering a node that gossip does not know: node=%s", name)
                await self._guarded(name, self._deregister_node(name))
        self._metrics.leader_reconcile.observe(time.monotonic() - started)

    async def some(self, names: Collection[str]) -> None:
        """Those that changed, as they are by now."""
        for member in [member for member in self._members() if member.name in names]:
            await self.one(member)

    async def one(self, member: Member) -> None:
        """Bring a member into the catalog as gossip sees it. What is refused is logged; the next full pass tries again."""
        started = time.monotonic()
        await self._guarded(member.name, self._reconcile(member))
        self._metrics.leader_reconcile_member.observe(time.monotonic() - started)

    async def reaped(self, member: Member) -> None:
        """Gossip has forgotten a member."""
        await self._guarded(member.name, self._remove(member, "reaped"))

    async def _guarded(self, name: str, work: Any) -> None:
        try:
            await work
        except (NoLeader, OutcomeUnknown):
            raise
        except DiscoveryError as error:
            self._log.error("failed to reconcile member: member=%s error=%s", name, error)

    async def _reconcile(self, member: Member) -> None:
        if member.tags.get("dc", self._datacenter) != self._datacenter:
            return
        if member.status == ALIVE:
            await self._alive(member)
        elif member.status == FAILED:
            await self._failed(member)
        elif member.status == LEFT:
            await self._remove(member, "left")

    # --- the catalog -------------------------------------------------------------------------------------------------

    async def _alive(self, member: Member) -> None:
        server = as_server(member)
        if server is not None:
            await self._join_raft(server)
        await self._clear_name(member)
        request = self._registration(member, server)
        if self._is_registered(request):
            return
        self._log.info("member joined, marking health alive: member=%s", member.name)
        await self._propose(c.Register(request))

    async def _clear_name(self, member: Member) -> None:
        """A rebuilt machine has its old name and a new id: what the one before registered is gone with it."""
        node = self._node(member.name)
        if node is None or not node.id or _id_of(member) in ("", node.id.lower()):
            return
        if not self._is_alive(node.id):
            self._log.info("node was replaced by another of its name: node=%s old_id=%s", node.node, node.id)
            await self._deregister_node(node.node)

    def _registration(self, member: Member, server: ServerMember | None) -> r.RegisterRequest:
        node = self._node(member.name)
        return r.RegisterRequest(
            datacenter=self._datacenter,
            node=member.name,
            id=member.tags.get("id", ""),
            address=member.address,
            tagged_addresses=node.tagged_addresses if node is not None else None,
            node_meta=node.meta if node is not None else None,
            service=_consul_service(server, member) if server is not None else None,
            checks=[_serf_check(member.name, PASSING, _ALIVE_OUTPUT)],
        )

    def _is_registered(self, request: r.RegisterRequest) -> bool:
        known = self._store.node_services(request.node).value
        if known is None or known.node is None or (known.node.id, known.node.address) != (request.id, request.address):
            return False
        if request.service is not None:
            stored = (known.services or {}).get(CONSUL_SERVICE)
            if stored is None or (stored.port, stored.meta) != (request.service.port, request.service.meta):
                return False
        return self._serf_status(request.node) == PASSING

    async def _failed(self, member: Member) -> None:
        if not self._is_about(member) or self._serf_status(member.name) == CRITICAL:
            return
        self._log.info("member failed, marking health critical: member=%s", member.name)
        await self._propose(
            c.Register(
                r.RegisterRequest(
                    datacenter=self._datacenter,
                    node=member.name,
                    id=member.tags.get("id", ""),
                    address=member.address,
                    skip_node_update=True,
                    checks=[_serf_check(member.name, CRITICAL, _DEAD_OUTPUT)],
                )
            )
        )

    async def _remove(self, member: Member, reason: str) -> None:
        """Our own leaving is for the next leader to note."""
        if _id_of(member) == self._replica.server_id.lower():
            return
        server = as_server(member)
        if server is not None and not self._is_alive(server.id):
            await self._leave_raft(server)
        if self._is_about(member):
            self._log.info("deregistering member: member=%s reason=%s", member.name, reason)
            await self._deregister_node(member.name)

    async def _deregister_node(self, name: str) -> None:
        await self._propose(c.Deregister(r.DeregisterRequest(datacenter=self._datacenter, node=name)))

    def _node(self, name: str) -> Node | None:
        found = self._store.node_services(name).value
        node = found.node if found is not None else None
        return node if node is not None and node.node.lower() == name.lower() else None

    def _is_about(self, member: Member) -> bool:
        """Whether the catalog's node of that name is this member, and not one that took over its name."""
        node = self._node(member.name)
        return node is not None and (not node.id or _id_of(member) in ("", node.id.lower()))

    def _is_alive(self, node_id: str) -> bool:
        return any(member.status == ALIVE and _id_of(member) == node_id.lower() for member in self._members())

    def _serf_status(self, node: str) -> str | None:
        for check in self._store.node_checks(node).value:
            if check.check_id == SERF_CHECK_ID:
                return str(check.status)
        return None

    # --- the Raft configuration --------------------------------------------------------------------------------------

    async def _join_raft(self, server: ServerMember) -> None:
        """A server is known by its id. A new one gets no vote yet; one that moved gets its address changed."""
        configuration = self._replica.configuration
        known = configuration.get(server.id)
        if not server.id or (known is not None and known.address == server.rpc_address):
            return
        for holder in configuration.servers:
            if holder.address == server.rpc_address and holder.id != server.id:
                await self._free_address(holder)
        what = "adding server to the cluster" if known is None else "server has moved"
        self._log.info("%s: server=%s id=%s address=%s", what, server.name, server.id, server.rpc_address)
        await self._replica.add_server(server.id, server.rpc_address, voter=known is not None and known.voter)

    async def _free_address(self, holder: Server) -> None:
        """Another server answers at this address now. Its former holder leaves; if it lives elsewhere it comes back as new."""
        self._log.info("removing server whose address belongs to another now: id=%s address=%s", holder.id, holder.address)
        await self._replica.remove_server(holder.id)

    async def _leave_raft(self, server: ServerMember) -> None:
        if self._replica.configuration.get(server.id) is not None:
            self._log.info("removing server from the cluster: server=%s id=%s", server.name, server.id)
            await self._replica.remove_server(server.id)

    async def _propose(self, command: c.Command) -> None:
        result = await self._replica.propose(command)
        if isinstance(result, DiscoveryError):
            raise result


def _id_of(member: Member) -> str:
    return member.tags.get("id", "").lower()


def _serf_check(node: str, status: str, output: str) -> HealthCheck:
    return HealthCheck(node=node, check_id=SERF_CHECK_ID, name=SERF_CHECK_NAME, status=status, output=output)


def _consul_service(server: ServerMember, member: Member) -> NodeService:
    return NodeService(
        id=CONSUL_SERVICE,
        service=CONSUL_SERVICE,
        port=server.port,
        weights=DEFAULT_WEIGHTS,
        meta={
            "non_voter": "false" if server.voter else "true",
            "raft_version": member.tags.get("raft_vsn", "3"),
            "serf_protocol_current": "2",
            "serf_protocol_max": "5",
            "serf_protocol_min": "1",
            "version": server.build,
        },
    )

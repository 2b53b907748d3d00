"""What only the leader does: keep the catalog and the Raft configuration in step with gossip, end sessions, forget tombstones.

Source: Consul's documented behaviour: alive members are registered with a passing `serfHealth`, failed ones turn critical,
members that left or were reaped are deregistered; servers also get the service `consul` and a place in the Raft configuration.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.errors import DiscoveryError
from discovery.model.records import (
    CONSUL_SERVICE,
    CRITICAL,
    PASSING,
    SERF_CHECK_ID,
    SERF_CHECK_NAME,
    HealthCheck,
    Node,
    NodeService,
    Session,
    Weights,
)
from discovery.state.store import StateStore

from .members import ALIVE, FAILED, LEFT, Member, ServerMember, as_server
from .replica import Replica
from .sessions import SessionTimers

RECONCILE_INTERVAL: Final = 60.0
TOMBSTONE_TTL: Final = 15 * 60.0
TOMBSTONE_GRANULARITY: Final = 30.0
DEAD_SERVER_INTERVAL: Final = 10.0

_ALIVE_OUTPUT: Final = "Agent alive and reachable"
_DEAD_OUTPUT: Final = "Agent not live or unreachable"


class LeaderDuties:
    """Runs while this server leads. `members` gives the LAN pool as it is now."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: StateStore,
        datacenter: str,
        members: Callable[[], Iterable[Member]],
        log: logging.Logger,
        on_leadership: Callable[[], None] = lambda: None,
    ) -> None:
        self._replica = replica
        self._store = store
        self._datacenter = datacenter
        self._members = members
        self._log = log
        self._on_leadership = on_leadership
        self.sessions = SessionTimers(store, self._destroy_session, log)
        self._tasks: list[asyncio.Task[None]] = []
        self._dirty: dict[str, Member] = {}
        self._gone: dict[str, Member] = {}
        self._work = asyncio.Event()
        self._tombstones: list[tuple[float, int]] = []

    # --- life cycle --------------------------------------------------------------------------------------------------

    def started_leading(self) -> None:
        """Called once we lead and have applied everything of earlier terms."""
        self.stopped_leading()
        self.sessions.start()
        loop = asyncio.get_running_loop()
        duties = (self._reconcile_forever(), self._reap_tombstones(), self._remove_dead_servers(), self._watch_sessions())
        self._tasks = [loop.create_task(duty) for duty in duties]
        self._on_leadership()

    def stopped_leading(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._dirty.clear()
        self.sessions.stop()

    # --- members -----------------------------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        """A member joined, failed, left or changed its tags."""
        self._dirty[member.name] = member
        self._work.set()

    def member_reaped(self, member: Member) -> None:
        self._gone[member.name] = member
        self._work.set()

    async def _reconcile_forever(self) -> None:
        loop = asyncio.get_running_loop()
        next_full = loop.time()
        while True:
            if loop.time() >= next_full:
                next_full = loop.time() + RECONCILE_INTERVAL
                await self._reconcile_all()
            dirty, self._dirty = self._dirty, {}
            gone, self._gone = self._gone, {}
            for member in dirty.values():
                await self._guard(member, self._reconcile(member))
            for member in gone.values():
                await self._guard(member, self._deregister(member, "reaped"))
            self._work.clear()
            if self._dirty or self._gone:
                continue
            try:
                await asyncio.wait_for(self._work.wait(), max(0.0, next_full - loop.time()))
            except TimeoutError:
                continue

    async def _reconcile_all(self) -> None:
        known = list(self._members())
        for member in known:
            await self._guard(member, self._reconcile(member))
        names = {member.name.lower() for member in known}
        for check in self._store.checks_in_state("any", None).value:
            if check.check_id == SERF_CHECK_ID and check.node.lower() not in names:
                self._log.info("deregistering a node that gossip does not know: node=%s", check.node)
                await self._propose(c.Deregister(r.DeregisterRequest(node=check.node)))

    async def _guard(self, member: Member, work: Any) -> None:
        try:
            await work
        except DiscoveryError as error:
            self._log.error("failed to reconcile member: member=%s error=%s", member.name, error)

    async def _reconcile(self, member: Member) -> None:
        if member.tags.get("dc", self._datacenter) != self._datacenter:
            return
        if member.status == ALIVE:
            await self._alive(member)
        elif member.status == FAILED:
            await self._failed(member)
        elif member.status == LEFT:
            await self._deregister(member, "left")

    async def _alive(self, member: Member) -> None:
        server = as_server(member)
        if server is not None:
            await self._join_raft(server)
        request = self._registration(member, server)
        if self._is_registered(request):
            return
        self._log.info("member joined, marking health alive: member=%s", member.name)
        await self._propose(c.Register(request))

    def _registration(self, member: Member, server: ServerMember | None) -> r.RegisterRequest:
        known = self._store.node_services(member.name).value
        node = known.node if known is not None else None
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
        if known is None or known.node is None or not _same_node(known.node, request):
            return False
        if request.service is not None:
            stored = (known.services or {}).get(CONSUL_SERVICE)
            if stored is None or (stored.port, stored.meta) != (request.service.port, request.service.meta):
                return False
        return self._serf_status(request.node) == PASSING

    def _serf_status(self, node: str) -> str | None:
        for check in self._store.node_checks(node).value:
            if check.check_id == SERF_CHECK_ID:
                return str(check.status)
        return None

    async def _failed(self, member: Member) -> None:
        known = self._store.node_services(member.name).value
        if known is None or self._serf_status(member.name) == CRITICAL:
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

    async def _deregister(self, member: Member, reason: str) -> None:
        server = as_server(member)
        if server is not None:
            if server.id == self._replica.server_id:
                return
            await self._leave_raft(server)
        if self._store.node_services(member.name).value is None:
            return
        self._log.info("deregistering member: member=%s reason=%s", member.name, reason)
        await self._propose(c.Deregister(r.DeregisterRequest(datacenter=self._datacenter, node=member.name)))

    # --- servers -----------------------------------------------------------------------------------------------------

    async def _join_raft(self, server: ServerMember) -> None:
        if not server.id or server.id == self._replica.server_id:
            return
        for known in self._replica.configuration.servers:
            if known.id == server.id and known.address == server.rpc_address:
                return
        self._log.info("adding server to the cluster: server=%s address=%s", server.name, server.rpc_address)
        await self._replica.add_server(server.id, server.rpc_address, voter=server.voter)

    async def _leave_raft(self, server: ServerMember) -> None:
        if any(known.id == server.id for known in self._replica.configuration.servers):
            self._log.info("removing server from the cluster: server=%s", server.name)
            await self._replica.remove_server(server.id)

    async def _remove_dead_servers(self) -> None:
        """Autopilot's clean-up: failed servers are removed when that leaves a majority of the voters alive."""
        while True:
            await asyncio.sleep(DEAD_SERVER_INTERVAL)
            config = self._store.autopilot_config().value
            if config is not None and not config.cleanup_dead_servers:
                continue
            for member in self._removable_servers(config.min_quorum if config is not None else 0):
                self._log.info("attempting removal of failed server node: name=%s", member.name)
                await self._guard(member, self._leave_raft_of(member))

    def _removable_servers(self, min_quorum: int) -> list[Member]:
        servers = {server.id for server in self._replica.configuration.servers if server.voter}
        failed = [m for m in self._members() if m.status == FAILED and m.tags.get("id") in servers]
        if not failed or len(failed) > (len(servers) - 1) // 2 or len(servers) - len(failed) < max(min_quorum, 1):
            return []
        return failed

    async def _leave_raft_of(self, member: Member) -> None:
        server = as_server(member)
        if server is not None:
            await self._leave_raft(server)

    # --- time --------------------------------------------------------------------------------------------------------

    async def _watch_sessions(self) -> None:
        while True:
            changed = asyncio.Event()
            watch = self._store.watches.watch((("sessions",),))
            watch.on_fire(changed.set)
            self.sessions.follow_store()
            try:
                await changed.wait()
            finally:
                watch.cancel()

    async def _destroy_session(self, session_id: str) -> None:
        await self._propose(c.SessionChange(r.SessionRequest(op="destroy", session=Session(id=session_id))))

    async def _reap_tombstones(self) -> None:
        """Delete markers are kept a quarter of an hour, so that watchers of a prefix see deletions as newer."""
        self._tombstones.clear()
        while True:
            self._tombstones.append((time.monotonic(), self._store.index))
            await asyncio.sleep(TOMBSTONE_GRANULARITY)
            expired = [index for taken, index in self._tombstones if taken <= time.monotonic() - TOMBSTONE_TTL]
            if expired and self._store.has_tombstones(expired[-1]):
                await self._propose(c.ReapTombstones(expired[-1]))
            self._tombstones = self._tombstones[len(expired) :]

    async def _propose(self, command: c.Command) -> Any:
        result = await self._replica.propose(command)
        if isinstance(result, DiscoveryError):
            raise result
        return result


def _serf_check(node: str, status: str, output: str) -> HealthCheck:
    return HealthCheck(node=node, check_id=SERF_CHECK_ID, name=SERF_CHECK_NAME, status=status, output=output)


def _consul_service(server: ServerMember, member: Member) -> NodeService:
    return NodeService(
        id=CONSUL_SERVICE,
        service=CONSUL_SERVICE,
        port=server.port,
        weights=Weights(1, 1),
        meta={
            "non_voter": "false" if server.voter else "true",
            "raft_version": member.tags.get("raft_vsn", "3"),
            "serf_protocol_current": "2",
            "serf_protocol_max": "5",
            "serf_protocol_min": "1",
            "version": server.build,
        },
    )


def _same_node(node: Node, request: r.RegisterRequest) -> bool:
    return (node.id, node.address) == (request.id, request.address)

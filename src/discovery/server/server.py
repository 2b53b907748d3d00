"""A server's share of an agent, put together: storage, replica, endpoints, leader duties, the server port.

The agent hands in what it shares with others (gossip members, metrics, TLS) and asks `endpoints` as its delegate.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.delegate import LeaderContact, WatchedAnswer
from discovery.model.errors import DiscoveryError, NoLeader
from discovery.model.methods import METHODS
from discovery.model.records import AutopilotConfig, Coordinate, Record
from discovery.raft.core import Options as RaftOptions
from discovery.raft.core import Raft
from discovery.raft.messages import Configuration, decode
from discovery.state.store import StateStore
from discovery.storage.log import LogStore
from discovery.storage.recovery import Recovered, recover
from discovery.storage.snapshots import SnapshotStore
from discovery.telemetry import Metrics
from discovery.transport import first_bytes
from discovery.transport.connection import Connection
from discovery.transport.datacenters import DatacenterForwarder
from discovery.transport.dialer import Dialer
from discovery.transport.forwarder import LeaderForwarder, told_plainly
from discovery.transport.listener import Listener
from discovery.transport.raft_peers import RaftPeers
from discovery.transport.rpc_client import RpcPool
from discovery.transport.rpc_server import RpcServer
from discovery.transport.snapshot_rpc import SnapshotServer, restore_snapshot, save_snapshot
from discovery.transport.tls import Tls
from discovery.wire import archive

from .addresses import ServerAddresses
from .autopilot import DEFAULTS as AUTOPILOT_DEFAULTS
from .autopilot import Autopilot, AutopilotOptions
from .blocking import BlockingQueries
from .bootstrap import Bootstrap
from .datacenters import Datacenters, WanPool
from .endpoints import RPC_HOLD_TIME, Endpoints
from .keyrings import Keyrings, Operate, no_keyrings
from .leader import LeaderDuties
from .log_writer import LogWriter
from .members import ALIVE, FAILED, Member, as_server, join_host_port, servers_of
from .operator import COORDINATE_UPDATE_PERIOD, OperatorEndpoints
from .peers_file import recover_from_peers_file
from .reconcile import Reconciler
from .replica import Replica
from .snapshotting import SnapshotPolicy, Snapshotting
from .writes import WritePolicy

_RESTORE_CHUNK = 256 * 1024
LOG_FILE = "raft.db"
SNAPSHOTS = "snapshots"
_FAREWELL = 5.0
"""Seconds for which a server that left is still sent what concerns it."""

_HAND_OVER = 2.0
_LOOKS = 3
_LOOK_INTERVAL = 0.05
_LOOK_TIMEOUT = 1.0
"""How often, with what pause and for how long at most, in seconds, a leader whose connection ended is looked for."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a server needs to know of the configuration; times are seconds."""

    node_id: str
    node_name: str
    datacenter: str
    directory: Path
    """Where the log and the snapshots live."""
    bind_address: str
    advertise_address: str
    port: int
    bootstrap_expect: int
    raft: RaftOptions
    snapshots: SnapshotPolicy
    rpc_hold_time: float = RPC_HOLD_TIME
    default_query_time: float = 300.0
    max_query_time: float = 600.0
    session_ttl_min: float = 10.0
    rpc_handshake_timeout: float = 5.0
    rpc_max_conns_per_client: int = 100
    autopilot: AutopilotConfig = AUTOPILOT_DEFAULTS
    """Written into the state by the first leader."""
    server_health_interval: float = 2.0
    autopilot_interval: float = 10.0
    coordinate_update_period: float = COORDINATE_UPDATE_PERIOD


class Gossip(msgspec.Struct, frozen=True):
    """What a server asks of the gossip pool."""

    members: Callable[[], Iterable[Member]]
    coordinate_of: Callable[[str], Coordinate | None]
    fire: Callable[[str, bytes], None]
    keyring: Operate = no_keyrings
    wan: WanPool = WanPool()
    force_leave: Callable[[str], object] = lambda name: None
    """Declares a failed member to have left, by name."""
    strangers: Callable[[], Mapping[str, str]] = dict
    """IP addresses of those who were not understood or not taken in lately, and why."""


class Server:
    """Start with `start`, then feed it gossip's news with `members_changed` and its kin."""

    def __init__(
        self,
        options: ServerOptions,
        *,
        gossip: Gossip,
        metrics: Metrics,
        tls: Tls | None,
        rng: random.Random,
        log: logging.Logger,
        failed: Callable[[BaseException], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._options = options
        self._gossip = gossip
        self._log = log
        self.store = StateStore()
        self._log_store = LogStore(options.directory / LOG_FILE)
        try:
            files, recovered = self._recover()
        except BaseException:
            self._log_store.close()
            raise
        raft = Raft(
            server_id=options.node_id,
            options=options.raft,
            hard_state=recovered.hard_state,
            snapshot=recovered.snapshot,
            entries=recovered.entries,
            rng=random.Random(rng.random()),
            now=time.monotonic(),
        )
        self._dialer = dialer = Dialer(tls)
        self.pool = RpcPool(METHODS, dialer)
        self._peers = RaftPeers(
            options.node_id,
            self._raft_frames,
            report_unreachable=self._peer_unreachable,
            report_silent=self._peer_silent,
            receive_snapshot=lambda sender, meta: self._snapshotting.receive(sender, meta),
            rng=random.Random(rng.random()),
            cluster=options.datacenter,
            dialer=dialer,
        )
        self._writer = LogWriter(loop)
        own_address = join_host_port(options.advertise_address, options.port)
        self._addresses = ServerAddresses(options.node_id, own_address, options.datacenter)
        self._addresses.configured(raft.configuration)
        self.replica = Replica(
            raft=raft,
            log_store=self._log_store,
            writer=self._writer,
            store=self.store,
            send=self._send_to_peer,
            address_of=self._addresses.of,
            metrics=metrics,
            log=log,
            loop=loop,
        )
        self._snapshotting = Snapshotting(
            replica=self.replica,
            store=self.store,
            files=files,
            peers=self._peers,
            addresses=self._addresses,
            policy=options.snapshots,
            metrics=metrics,
            log=log,
        )
        self._bootstrap = Bootstrap(
            replica=self.replica,
            datacenter=options.datacenter,
            expect=options.bootstrap_expect,
            members=gossip.members,
            ask=self._ask_to_begin,
            strangers=gossip.strangers,
            log=log,
        )
        self.blocking = BlockingQueries(self.store, rng, default_wait=options.default_query_time, max_wait=options.max_query_time)
        self._forwarder = DatacenterForwarder(dialer, rng, on_call=metrics.rpc_cross_dc.inc)
        wan_name = f"{options.node_name}.{options.datacenter}"
        self._datacenters = Datacenters(options.datacenter, wan_name, gossip.wan, self._forwarder)
        self.endpoints = Endpoints(
            datacenter=options.datacenter,
            replica=self.replica,
            store=self.store,
            link=LeaderForwarder(self.pool, datacenter=options.datacenter),
            blocking=self.blocking,
            policy=WritePolicy(self.store, session_ttl_min=options.session_ttl_min),
            rng=rng,
            hold_time=options.rpc_hold_time,
            elsewhere=self._datacenters.call,
            others=self._datacenters.reachable,
            no_leader_reason=lambda: self._bootstrap.waiting_for,
            metrics=metrics,
        )
        self.endpoints.serve("Status.Bootstrap", self._asked_to_begin, anywhere=True)
        self.autopilot = Autopilot(
            replica=self.replica,
            store=self.store,
            datacenter=options.datacenter,
            members=gossip.members,
            force_leave=gossip.force_leave,
            options=AutopilotOptions(
                settings=options.autopilot,
                health_interval=options.server_health_interval,
                interval=options.autopilot_interval,
                heartbeat_interval=options.raft.heartbeat_timeout * options.raft.raft_multiplier / 10,
            ),
            metrics=metrics,
            log=log,
        )
        reconciler = Reconciler(
            replica=self.replica,
            store=self.store,
            datacenter=options.datacenter,
            members=gossip.members,
            metrics=metrics,
            log=log,
        )
        self.duties = LeaderDuties(
            replica=self.replica, store=self.store, reconciler=reconciler, autopilot=self.autopilot, metrics=metrics, log=log
        )
        self._operator = OperatorEndpoints(
            endpoints=self.endpoints,
            replica=self.replica,
            store=self.store,
            sessions=self.duties.sessions,
            autopilot=self.autopilot,
            datacenter=options.datacenter,
            members=gossip.members,
            coordinate_of=gossip.coordinate_of,
            fire=gossip.fire,
            datacenters=self._datacenters,
            keyrings=Keyrings(gossip.keyring, self._datacenters),
            coordinate_update_period=options.coordinate_update_period,
        )
        self.replica.hooks.leading = self.duties.started_leading
        self.replica.hooks.following = self.duties.stopped_leading
        self.replica.hooks.applied = self.endpoints.collect_released_locks
        self.replica.hooks.configured = self._members_configured
        self.replica.hooks.failed = failed
        self._metrics = metrics
        rpc = RpcServer(self._dispatch, METHODS)
        self._listener = Listener(
            {
                first_bytes.RPC: rpc.single,
                first_bytes.RPC_MULTIPLEXED: rpc.multiplexed,
                first_bytes.RAFT: self._raft_connection,
                first_bytes.SNAPSHOT: SnapshotServer(self).connection,
            },
            tls,
            handshake_timeout=options.rpc_handshake_timeout,
            max_per_client=options.rpc_max_conns_per_client,
        )
        self._configuration = raft.configuration
        self._tasks: list[asyncio.Task[None]] = []
        self._passing: set[asyncio.Task[None]] = set()

    def _recover(self) -> tuple[SnapshotStore, Recovered]:
        """What is on disk, with the state of the newest snapshot taken over. Raises StorageError, InvalidPeersFile, OSError."""
        self._log_store.claim(self._options.node_id)
        files = SnapshotStore(self._options.directory / SNAPSHOTS)
        recovered = recover(self._log_store, files)
        if recover_from_peers_file(
            self._options.directory, self._log_store, recovered, server_id=self._options.node_id, log=self._log
        ):
            recovered = recover(self._log_store, files)
        if recovered.snapshot is not None:
            self.store.restore(files.read_chunks(recovered.snapshot))
        return files, recovered

    # --- life cycle --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the server port and take part. Raises OSError if the port is taken."""
        await self._listener.start(self._options.bind_address, self._options.port)
        self._addresses.heard_of(self._gossip.members())
        self.replica.start()
        self._snapshotting.start()
        self._tasks = [asyncio.create_task(self._operator.flush_coordinates()), asyncio.create_task(self._keep_forming())]

    async def stop(self) -> None:
        self.duties.stopped_leading()
        tasks = (*self._tasks, *self._passing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._snapshotting.stop()
        self.replica.stop()
        await self._listener.close()
        await self._peers.close()
        await self.pool.close()
        await self._forwarder.close()
        await asyncio.to_thread(self._writer.stop)
        self._log_store.close()

    async def hand_over(self) -> None:
        """Before this server goes: give leadership to someone else, if there is anyone. Waits `_HAND_OVER` seconds at most."""
        alive = {server.id for server in servers_of(self._gossip.members(), self._options.datacenter) if server.status == ALIVE}
        heirs = [server for server in self.replica.configuration.servers if server.voter and server.id in alive]
        heirs = [server for server in heirs if server.id != self._options.node_id]
        if not self.replica.is_leader or not heirs:
            return
        heir = max(heirs, key=lambda server: self.replica.follower_state(server.id)[0])
        try:
            async with asyncio.timeout(_HAND_OVER):
                await self.replica.transfer_leadership(heir.id)
        except (DiscoveryError, TimeoutError) as error:
            self._log.warning("leadership could not be handed over: %s", error or "no time left")

    def set_snapshot_policy(self, policy: SnapshotPolicy) -> None:
        """A reload's: holds from the next look on."""
        self._snapshotting.policy = policy

    # --- the seam: what `model.delegate.Delegate` asks ---------------------------------------------------------------

    async def call(self, method: str, request: Record) -> Any:
        return await self.endpoints.call(method, request)

    async def ask(self, method: str, request: Record) -> WatchedAnswer:
        return await self.endpoints.ask(method, request)

    def leads(self) -> bool:
        return self.endpoints.leads()

    def contact(self) -> LeaderContact | None:
        return self.endpoints.contact()

    async def confirm(self) -> bool:
        return await self.endpoints.confirm()

    async def _dispatch(self, method: str, request: Any) -> Any:
        """For whoever asks over the server port."""
        self._metrics.rpc_request.inc()
        try:
            return await self.endpoints.call(method, request)
        except DiscoveryError:
            self._metrics.rpc_request_error.inc()
            raise

    def _raft_connection(self) -> Connection:
        self._metrics.rpc_raft_handoff.inc()
        return self._peers.incoming()

    # --- gossip's news -----------------------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        self._addresses.heard_of([member])
        server = as_server(member)
        if server is not None and server.status == FAILED:
            # What it was asked fails now, instead of when time is up.
            self.pool.drop(server.rpc_address)
        self._consider_bootstrap()
        if self.replica.leader_ready:
            self.duties.member_changed(member)

    def member_reaped(self, member: Member) -> None:
        if self.replica.leader_ready:
            self.duties.member_reaped(member)

    def wan_changed(self) -> None:
        """The members of the WAN pool are others now."""
        self._datacenters.changed()

    def consider_bootstrap(self) -> None:
        """Look at the members of the gossip pool, and form the cluster if its time has come."""
        self._addresses.heard_of(self._gossip.members())
        self._consider_bootstrap()

    def _consider_bootstrap(self) -> None:
        if self.replica.is_virgin and self._options.bootstrap_expect:
            self._in_passing(self._bootstrap.consider())

    def _in_passing(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _keep_forming(self) -> None:
        """Look again from time to time: a server that did not answer may answer now."""
        while self.replica.is_virgin:
            self.consider_bootstrap()
            await asyncio.sleep(0.5)

    async def _ask_to_begin(self, address: str, servers: Sequence[str]) -> r.BootstrapReply:
        request = r.BootstrapRequest(datacenter=self._options.datacenter, servers=list(servers))
        reply: r.BootstrapReply = await self.pool.call(address, "Status.Bootstrap", request)
        return reply

    async def _asked_to_begin(self, request: r.BootstrapRequest) -> r.BootstrapReply:
        return self._bootstrap.agree(request.servers)

    # --- Raft's connections ------------------------------------------------------------------------------------------

    def _raft_frames(self, frames: list[bytes]) -> None:
        try:
            messages = [message for frame in frames for message in decode(frame)]
        except msgspec.MsgspecError as error:
            self._log.warning("dropped a frame of a Raft peer: %s", error)
            return
        self.replica.receive(messages)

    def _send_to_peer(self, server_id: str, frame: bytes) -> None:
        address = self._addresses.of(server_id)
        if address:
            self._peers.send(address, frame)

    def _peer_unreachable(self, address: str) -> None:
        for server_id in self._addresses.ids_at(address):
            self.replica.unreachable(server_id)

    def _peer_silent(self, server_id: str) -> None:
        if server_id == self.replica.leader_id:
            self._in_passing(self._look_for(server_id))

    async def _look_for(self, leader_id: str) -> None:
        """Has the leader's process ended, or just its connection? A process that ends closes its sockets one by one."""
        for _ in range(_LOOKS):
            address = self._addresses.of(leader_id)
            if address and await self._dialer.refuses(address, timeout=_LOOK_TIMEOUT):
                self._log.info("the leader's process has ended: leader=%s", leader_id)
                self.replica.gone(leader_id)
                return
            await asyncio.sleep(_LOOK_INTERVAL)

    def _members_configured(self, configuration: Configuration) -> None:
        """Connections to servers that left are closed once they had time to hear of it."""
        left = {server.id for server in self._configuration.servers} - configuration.ids()
        self._configuration = configuration
        self._addresses.configured(configuration)
        for server_id in left:
            asyncio.get_running_loop().call_later(_FAREWELL, self._forget_peer, server_id)

    def _forget_peer(self, server_id: str) -> None:
        if server_id not in self.replica.configuration.ids():
            self._peers.forget(self._addresses.of(server_id))

    # --- snapshots for operators -------------------------------------------------------------------------------------

    def _leader_for_snapshot(self) -> str:
        if not self.replica.leader_address:
            raise NoLeader(self._bootstrap.waiting_for)
        return self.replica.leader_address

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, r.QueryMeta]:
        if datacenter not in ("", self._options.datacenter):
            return await self._forwarder.save_snapshot(datacenter, token=token, stale=stale)
        if not stale:
            if not self.replica.is_leader:
                asking = save_snapshot(
                    self._dialer, self._leader_for_snapshot(), datacenter=self._options.datacenter, token=token, stale=False
                )
                return await told_plainly(asking)
            await self.replica.read_barrier()
        meta, index, chunks = self._snapshotting.chunks_for_archive()
        state = await asyncio.to_thread(b"".join, chunks)
        servers = [
            {"Suffrage": 0 if server.voter else 1, "ID": server.id, "Address": server.address}
            for server in meta.configuration.servers
        ]
        described = archive.ArchiveMeta(
            version=1,
            id=f"{meta.term}-{index}-{int(time.time() * 1000)}",
            index=index,
            term=meta.term,
            peers=None,
            configuration={"Servers": servers},
            configuration_index=meta.configuration_index,
            size=len(state),
        )
        packed = await asyncio.to_thread(archive.pack, described, state)
        known = self.replica.known_leader
        return packed, r.QueryMeta(index=index, known_leader=known, last_contact=int(self.replica.last_contact() * 1e9))

    async def restore_snapshot(self, data: bytes, *, datacenter: str, token: str) -> None:
        """Verify the archive, then send its state through the log in pieces, so that all servers switch at one index."""
        if datacenter not in ("", self._options.datacenter):
            await self._forwarder.restore_snapshot(data, datacenter, token=token)
            return
        if not self.replica.is_leader:
            leader = self._leader_for_snapshot()
            await told_plainly(restore_snapshot(self._dialer, leader, data, datacenter=self._options.datacenter, token=token))
            return
        _, state = await asyncio.to_thread(archive.unpack, data)
        await asyncio.to_thread(StateStore().read, [state])
        restore_id = str(uuid.uuid4())
        pieces = [state[start : start + _RESTORE_CHUNK] for start in range(0, len(state), _RESTORE_CHUNK)] or [b""]
        for number, piece in enumerate(pieces, 1):
            result = await self.replica.propose(c.RestoreChunk(restore_id, piece, last=number == len(pieces)))
            if isinstance(result, DiscoveryError):
                raise result
        if self.replica.leader_ready:
            self.duties.started_leading()

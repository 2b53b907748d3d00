"""A running agent: builds the parts that its mode asks for, starts them in order, steers and stops them.

Order of start: identity, the server port or the way to servers, gossip, own services, then the doors. Order of stop: the
reverse.
"""

import asyncio
import logging
import random
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from discovery.config.load import Loaded, Sources, load, needing_restart
from discovery.config.options import Options
from discovery.config.tree import ConfigError
from discovery.dns.server import DnsServer
from discovery.http.server import HttpServer
from discovery.local.services import Local
from discovery.local.sync import Syncer, Tokens
from discovery.model.errors import DiscoveryError, RequestFailed
from discovery.model.records import Coordinate
from discovery.model.requests import KeyringRequest, KeyringResponse
from discovery.server.datacenters import WanPool
from discovery.server.members import ALIVE, as_server, join_host_port, servers_of
from discovery.server.server import Gossip, Server
from discovery.state.store import StateStore
from discovery.telemetry import Logs, Metrics
from discovery.transport.membership import (
    Event,
    KeyringChanged,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    Membership,
    MemberUpdated,
    NameConflict,
    UnknownMember,
    UserEvent,
    UserEventTooLarge,
)
from discovery.transport.tls import Tls

from . import keyring, settings
from .client import Client
from .control import Control, Parts
from .coordinates import send_coordinates
from .events import PREFIX, ServiceView, UserEvents
from .identity import DataDirectory, volatile_node_id
from .info import COMPATIBLE_VERSION
from .joining import GaveUp, retry_join
from .lag import LagMeter
from .pools import keyring_file, lan_pool, wan_pool
from .rate_limit import TokenBucket

_log = logging.getLogger(__name__)

_LEAVE_TIMEOUT: Final = 15.0
"""Seconds that a graceful leave may take."""


class StartFailed(Exception):
    """The agent can't run; the text tells the operator what failed and where."""


class Agent:
    """One agent. `sources` is where its configuration came from, for reloads; `loaded` is that configuration."""

    def __init__(self, sources: Sources, loaded: Loaded, logs: Logs) -> None:
        self._sources = sources
        self._options = loaded.options
        self._logs = logs
        self._rng = random.Random()
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self._members: Callable[[], Iterable[Member]] = tuple
        self._wan_members: Callable[[], Iterable[Member]] = tuple
        self._strangers: Callable[[], Mapping[str, str]] = dict
        self._leaving = False
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit status, once the agent has reason to end by itself."""

    # --- start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises `StartFailed`, after undoing what was begun, and `IdentityError`, `KeyringError`, `InvalidTls`."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        options = self._options
        self._data_dir = self._take_data_dir()
        self._tls = Tls(settings.server_tls(options))
        self.metrics = self._start_metrics()
        self._build()
        await self._start_share()
        await self._start_gossip()
        self._start_local()
        await self._start_doors()
        self._spawn(self._join())
        if not options.disable_coordinates:
            self._spawn(self._send_coordinates())

    def _take_data_dir(self) -> Path | None:
        """Where things are kept; None in development mode, which keeps nothing."""
        options = self._options
        if options.dev_mode:
            self.node_id = volatile_node_id(options.node_id)
            return None
        directory = DataDirectory(Path(options.data_dir))
        directory.acquire()
        self._stack.callback(directory.release)
        self.node_id = directory.node_id(options.node_id, of_host=not options.disable_host_node_id)
        return directory.path

    def _start_metrics(self) -> Metrics:
        telemetry = self._options.telemetry
        host = "" if telemetry.disable_hostname else socket.gethostname()
        metrics = Metrics(prefix=telemetry.metrics_prefix, host=host, node=self._options.node_name, version=COMPATIBLE_VERSION)
        metrics.set_filter(telemetry.prefix_filter, default=telemetry.filter_default)
        loop = asyncio.get_running_loop()
        metrics.start(loop)
        self._stack.callback(metrics.stop)
        lag = LagMeter(loop, metrics.loop_lag)
        lag.start()
        self._stack.callback(lag.stop)
        return metrics

    def _build(self) -> None:
        options = self._options
        self._lan = lan_pool(options, self.node_id, self._data_dir, self._lan_event, self.metrics)
        self._wan: Membership | None = None
        if options.server and options.ports.serf_wan > 0:
            self._wan = wan_pool(options, self.node_id, self._data_dir, self._wan_event, self.metrics)
        self._server = self._build_server() if options.server else None
        self._client = None if options.server else self._build_client()
        delegate = self._server or self._client
        assert delegate is not None
        self._delegate = delegate
        self._local = Local(settings.local_settings(options), delegate, data_dir=self._data_dir, rng=self._rng)
        self._events = UserEvents(options.node_name, self._service_views)
        tokens = options.acl.tokens
        self._tokens = Tokens(default=tokens.default, agent=tokens.agent)
        self._syncer = Syncer(
            self._local,
            delegate,
            settings.identity(options, self.node_id),
            tokens=self._tokens,
            cluster_size=self._cluster_size,
            check_update_interval=options.check_update_interval,
            metrics=self.metrics,
            rng=self._rng,
        )
        self._parts = Parts(
            options=options,
            node_id=self.node_id,
            logs=self._logs,
            lan=self._lan,
            wan=self._wan,
            delegate=delegate,
            local=self._local,
            events=self._events,
            server_stats=self._server_stats,
            leave=self.leave,
            reload=self.reload,
        )

    def _build_server(self) -> Server:
        if self._data_dir is None:
            scratch = tempfile.TemporaryDirectory(prefix="discovery-dev-")
            self._stack.callback(scratch.cleanup)
            directory = Path(scratch.name)
        else:
            directory = self._data_dir / "raft"
        server = Server(
            settings.server_options(self._options, self.node_id, directory),
            gossip=Gossip(
                members=lambda: self._members(),
                coordinate_of=self._coordinate_of,
                fire=self._fire,
                keyring=self._operate_keyrings,
                strangers=lambda: self._strangers(),
                wan=WanPool(members=lambda: self._wan_members(), coordinate_of=self._wan_coordinate_of),
                force_leave=self._declare_left,
            ),
            metrics=self.metrics,
            tls=self._tls,
            rng=self._rng,
            log=logging.getLogger("discovery.server"),
            failed=self._failed,
        )
        replica = server.replica
        self.metrics.raft_leader_last_contact.read = replica.last_contact
        self.metrics.server_is_leader.read = lambda: float(replica.is_leader)
        self._count_state(server.store)
        return server

    def _count_state(self, store: StateStore) -> None:
        metrics = self.metrics
        metrics.state_nodes.read = lambda: store.usage().nodes
        metrics.state_services.read = lambda: store.usage().services
        metrics.state_service_instances.read = lambda: store.usage().instances
        metrics.state_kv_entries.read = lambda: store.usage().keys
        metrics.members_servers.read = lambda: len(self._alive(servers=True))
        metrics.members_clients.read = lambda: len(self._alive(servers=False))

    def _alive(self, *, servers: bool) -> list[Member]:
        members = (member for member in self._members() if member.status == ALIVE)
        return [member for member in members if (as_server(member) is not None) is servers]

    def _build_client(self) -> Client:
        options = self._options
        limits = options.limits
        self._rate = TokenBucket(limits.rpc_rate, limits.rpc_max_burst, asyncio.get_running_loop().time())
        return Client(
            datacenter=options.datacenter,
            tls=self._tls,
            rng=self._rng,
            hold_time=options.performance.rpc_hold_timeout,
            limit=self._rate,
            metrics=self.metrics,
        )

    async def _start_share(self) -> None:
        options = self._options
        if self._server is not None:
            with _told(f"RPC on {join_host_port(options.bind_addr, options.ports.server)}"):
                await self._server.start()
            self._stack.push_async_callback(self._server.stop)
        elif self._client is not None:
            await self._client.start()
            self._stack.push_async_callback(self._client.stop)

    async def _start_gossip(self) -> None:
        options = self._options
        with _told(f"gossip on {join_host_port(options.serf_lan or options.bind_addr, options.ports.serf_lan)}"):
            await self._lan.start()
        self._stack.push_async_callback(self._lan.stop)
        self._members = self._lan.members
        self._strangers = self._lan.strangers
        if self._wan is not None:
            with _told(f"WAN gossip on {join_host_port(options.serf_wan or options.bind_addr, options.ports.serf_wan)}"):
                await self._wan.start()
            self._stack.push_async_callback(self._wan.stop)
            self._wan_members = self._wan.members
        if self._server is not None:
            self._server.consider_bootstrap()

    def _start_local(self) -> None:
        try:
            self._local.start(settings.service_specs(self._options), settings.check_specs(self._options))
        except DiscoveryError as error:
            raise StartFailed(error.text) from None
        self._stack.push_async_callback(self._local.close)
        self._syncer.start()
        self._stack.push_async_callback(self._syncer.stop)

    async def _start_doors(self) -> None:
        options = self._options
        control = Control(self._parts)
        self._http = HttpServer(self._delegate, self._local, control, self.metrics, settings.http_options(options))
        self.metrics.rpc_queries_blocking.read = self._waiting_queries
        self._dns = DnsServer(
            self._delegate,
            settings.dns_options(options),
            self._rng,
            node_name=options.node_name,
            datacenter=options.datacenter,
            metrics=self.metrics,
        )
        addresses = settings.dns_addresses(options)
        with _told(f"DNS on {_listed(addresses)}"):
            await self._dns.start(addresses)
        self._stack.push_async_callback(self._dns.stop)
        listeners = settings.http_listeners(options)
        with _told(f"HTTP on {_listed([(each.host or each.unix_path, each.port) for each in listeners])}"):
            await self._http.start(listeners)
        self._stack.push_async_callback(self._http.stop)

    def _waiting_queries(self) -> float:
        return float(self._http.waiting + (self._server.blocking.waiting if self._server is not None else 0))

    # --- stop, leave, reload -----------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End at once: to the others this agent fails, unless it left before. Just leadership is handed over."""
        if self._server is not None:
            await self._server.hand_over()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def leave(self) -> None:
        """Leave the cluster gracefully; `finished` resolves a little later, so that whoever asked for it gets an answer."""
        if self._leaving:
            return
        self._leaving = True
        _log.info("leaving the cluster")
        await self._syncer.stop()
        try:
            await asyncio.wait_for(self._say_goodbye(), _LEAVE_TIMEOUT)
        except TimeoutError:
            _log.warning("the graceful leave took longer than %.0f s", _LEAVE_TIMEOUT)
        asyncio.get_running_loop().call_soon(self.finish, 0)

    async def _say_goodbye(self) -> None:
        if self._server is not None:
            await self._server.hand_over()
        if self._wan is not None:
            await self._wan.leave()
        await self._lan.leave()
        if self._server is not None:
            await asyncio.sleep(self._options.performance.leave_drain_time)

    def finish(self, status: int) -> None:
        """Have the agent end with this exit status."""
        if not self.finished.done():
            self.finished.set_result(status)

    def _failed(self, error: BaseException) -> None:
        """The server can't go on; an agent without it would serve nobody."""
        _log.critical("the agent stops: %s", error)
        self.finish(1)

    async def reload(self) -> None:
        """Read the configuration again and apply what can be applied while running; raises `RequestFailed`."""
        try:
            loaded = await asyncio.to_thread(load, self._sources)
            self._apply(loaded.options)
        except (ConfigError, DiscoveryError, ValueError) as error:
            _log.error("the configuration was not reloaded: %s", error)
            raise RequestFailed(f"Failed to reload: {error}") from None
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        _log.info("configuration reloaded")

    def _apply(self, new: Options) -> None:
        for key in needing_restart(self._options, new):
            _log.warning("%s has another value now, which takes effect with the next start", key)
        self._tls.reload(settings.server_tls(new))
        self._options = self._parts.options = new
        self._logs.set_level(new.log_level)
        self.metrics.set_filter(new.telemetry.prefix_filter, default=new.telemetry.filter_default)
        self._http.reconfigure(settings.http_options(new))
        self._dns.reconfigure(settings.dns_options(new))
        self._tokens.default, self._tokens.agent = new.acl.tokens.default, new.acl.tokens.agent
        self._syncer.set_identity(settings.identity(new, self.node_id))
        if self._server is not None:
            self._server.set_snapshot_policy(settings.snapshot_policy(new))
        else:
            self._rate.configure(new.limits.rpc_rate, new.limits.rpc_max_burst)
        self._reload_definitions(new)

    def _reload_definitions(self, new: Options) -> None:
        self._syncer.pause()
        try:
            self._local.reconfigure(settings.local_settings(new))
            self._local.reload_definitions(settings.service_specs(new), settings.check_specs(new))
        finally:
            self._syncer.resume()
            self._syncer.trigger_full(stagger=False)

    # --- gossip ------------------------------------------------------------------------------------------------------

    def _lan_event(self, event: Event) -> None:
        match event:
            case MemberJoined(member) | MemberLeft(member) | MemberFailed(member) | MemberUpdated(member):
                self._count(event, member)
                self._member_changed(member)
            case MemberReaped(member):
                if self._server is not None:
                    self._server.member_reaped(member)
                self._member_changed(member)
            case UserEvent():
                self.metrics.serf_events.inc()
                self._events.receive(event.name, event.payload, event.ltime)
            case NameConflict(member, other):
                _tell_conflict(member, other)
            case KeyringChanged(keys):
                self._remember_keys(keys, wan=False)

    def _count(self, event: Event, member: Member) -> None:
        metrics = self.metrics
        counters = {
            MemberJoined: metrics.serf_member_join,
            MemberLeft: metrics.serf_member_left,
            MemberFailed: metrics.serf_member_failed,
            MemberUpdated: metrics.serf_member_update,
        }
        counters[type(event)].inc()
        _log.info("gossip: %s: %s", _EVENT_NAMES[type(event)], member.name)

    def _declare_left(self, name: str) -> None:
        """Autopilot has removed a failed server; its node shall leave the catalog too."""
        try:
            self._lan.force_leave(name)
        except UnknownMember:
            _log.debug("gossip has forgotten the removed server already: name=%s", name)

    def _member_changed(self, member: Member) -> None:
        if self._server is not None:
            self._server.member_changed(member)
            self._flood_wan(member)
        if self._client is not None:
            self._client.member_changed(member)
        if self._client is not None and self._client.members_changed(self._members()):
            self._syncer.trigger_full()

    def _flood_wan(self, member: Member) -> None:
        """Bring servers of the LAN pool into the WAN pool: knowing one server of a datacenter is then enough."""
        server, port = as_server(member), member.tags.get("wan_join_port", "")
        if self._wan is None or server is None or server.status != ALIVE or not port.isdecimal():
            return
        known = {each.name for each in self._wan_members() if each.status == ALIVE}
        if f"{server.name}.{server.datacenter}" not in known and server.name != self._options.node_name:
            self._spawn(self._join_wan_of(join_host_port(server.host, int(port))))

    async def _join_wan_of(self, address: str) -> None:
        assert self._wan is not None
        try:
            await self._wan.join([address])
        except DiscoveryError as error:
            _log.warning("a server of this datacenter is not in the WAN pool yet: address=%s error=%s", address, error.text)

    def _wan_event(self, event: Event) -> None:
        match event:
            case MemberJoined(member) | MemberFailed(member) | MemberLeft(member):
                _log.info("gossip: WAN %s: %s", _EVENT_NAMES[type(event)], member.name)
                self._wan_changed()
            case MemberUpdated() | MemberReaped():
                self._wan_changed()
            case NameConflict(member, other):
                _tell_conflict(member, other)
            case KeyringChanged(keys):
                self._remember_keys(keys, wan=True)
            case _:
                pass

    def _wan_changed(self) -> None:
        if self._server is not None:
            self._server.wan_changed()

    async def _operate_keyrings(self, request: KeyringRequest) -> list[KeyringResponse]:
        datacenter = self._options.datacenter
        lan = await keyring.operate(self._lan, request, datacenter)
        if self._wan is None or request.local_only or request.forwarded:
            return [lan]
        return [await keyring.operate(self._wan, request, datacenter, wan=True), lan]

    def _remember_keys(self, keys: Sequence[bytes], *, wan: bool) -> None:
        file = keyring_file(self._options, self._data_dir, wan=wan)
        if file is not None:
            keyring.save(file, keys)

    def _coordinate_of(self, name: str) -> Coordinate | None:
        if name == self._options.node_name:
            return self._lan.coordinate()
        return self._lan.coordinate_of(name)

    def _wan_coordinate_of(self, name: str) -> Coordinate | None:
        if self._wan is None:
            return None
        own = f"{self._options.node_name}.{self._options.datacenter}"
        return self._wan.coordinate() if name == own else self._wan.coordinate_of(name)

    def _fire(self, name: str, payload: bytes) -> None:
        try:
            self._lan.user_event(PREFIX + name, payload, False)
        except UserEventTooLarge as error:
            raise RequestFailed(str(error)) from None

    def _cluster_size(self) -> int:
        return sum(1 for member in self._members() if member.status == ALIVE)

    def _service_views(self) -> list[ServiceView]:
        return [ServiceView(id=service.id, tags=service.tags) for service in self._local.services().values()]

    # --- in the background -------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self) -> None:
        options = self._options
        try:
            if options.start_join:
                contacted = await self._lan.join(options.start_join)
                _log.info("Join completed. Initial agents synced with: agent_count=%d", contacted)
            if self._wan is not None and options.start_join_wan:
                await self._wan.join(options.start_join_wan)
        except DiscoveryError as error:
            _log.error("start_join failed, the agent ends: %s", error.text)
            self.finish(1)
            return
        if options.retry_join:
            self._spawn(self._keep_joining(self._lan, "LAN", options.retry_join, options.retry_interval, options.retry_max))
        if self._wan is not None and options.retry_join_wan:
            interval, limit = options.retry_interval_wan, options.retry_max_wan
            self._spawn(self._keep_joining(self._wan, "WAN", options.retry_join_wan, interval, limit))

    async def _keep_joining(self, pool: Membership, cluster: str, addresses: Sequence[str], interval: float, limit: int) -> None:
        try:
            await retry_join(
                pool.join,
                addresses,
                cluster=cluster,
                interval=interval,
                limit=limit,
                jitter=lambda: self._rng.uniform(0.8, 1.2),
                log=_log,
            )
        except GaveUp as error:
            _log.error("%s", error)
            self.finish(1)

    async def _send_coordinates(self) -> None:
        await send_coordinates(
            self._delegate,
            node=self._options.node_name,
            datacenter=self._options.datacenter,
            token=self._tokens.for_node,
            coordinate=self._lan.coordinate,
            nodes=self._cluster_size,
            rng=self._rng,
        )

    # --- what it tells -----------------------------------------------------------------------------------------------

    def _server_stats(self) -> Mapping[str, Mapping[str, str]]:
        options = self._options
        if self._server is None:
            servers = servers_of(self._members(), options.datacenter)
            return {"consul": {"acl": "disabled", "known_servers": str(len(servers)), "server": "false"}}
        replica = self._server.replica
        consul = {
            "acl": "disabled",
            "bootstrap": str(settings.bootstraps(options)).lower(),
            "known_datacenters": str(len(self._datacenters())),
            "leader": str(replica.is_leader).lower(),
            "leader_addr": replica.leader_address,
            "server": "true",
        }
        return {"consul": consul, "raft": replica.stats()}

    def _datacenters(self) -> set[str]:
        known = {self._options.datacenter}
        if self._wan is not None:
            known |= {member.tags.get("dc", "") for member in self._wan_members()}
        return known


_EVENT_NAMES: Final = {
    MemberJoined: "member joined",
    MemberLeft: "member left",
    MemberFailed: "member failed",
    MemberUpdated: "member changed",
}


class _told:
    """Turns an `OSError` of opening something into words for the operator."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StartFailed(f"can't open {self._what}: {error.strerror or error}") from None


def _listed(addresses: Iterable[tuple[str, int]]) -> str:
    return ", ".join(join_host_port(host, port) if port else host for host, port in addresses)


def _tell_conflict(member: Member, other: tuple[str, int]) -> None:
    _log.error(
        "the name of this node is taken twice: name=%s here=%s other=%s; give one of them another node_name, or stop it",
        member.name,
        join_host_port(member.address, member.port),
        join_host_port(*other),
    )

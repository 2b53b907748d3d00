"""Real servers for tests: sockets, disks and timers as in production, in one process; only gossip is played."""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from discovery.model import requests as r
from discovery.model.records import DirEntry, HealthCheck, NodeService
from discovery.raft.core import Options
from discovery.server.members import ALIVE, FAILED, LEFT
from discovery.server.server import Gossip, Server, ServerOptions
from discovery.server.snapshotting import SnapshotPolicy
from discovery.telemetry import Metrics

PORT = 8300
RAFT = Options(heartbeat_timeout=0.3, election_timeout=0.3, lease_timeout=0.15)
NO_SNAPSHOTS = SnapshotPolicy(threshold=1 << 60, interval=3600.0)
PATIENCE = 20.0

_hosts = itertools.count(1)


def fresh_host() -> str:
    """A loopback address that no other server of this test has."""
    return f"127.0.22.{next(_hosts) % 200 + 1}"


class FakeMember(msgspec.Struct, kw_only=True):
    name: str
    address: str
    tags: dict[str, str]
    port: int = 8301
    status: int = ALIVE


class FakePool:
    """The gossip pool that all servers of a cluster see alike; what changes in it is told to those that run."""

    def __init__(self) -> None:
        self.members: dict[str, FakeMember] = {}
        self.listeners: list[Server] = []
        self.fired: list[tuple[str, bytes]] = []
        self.forced_out: list[str] = []

    def gossip(self) -> Gossip:
        return Gossip(
            members=lambda: list(self.members.values()),
            coordinate_of=lambda _name: None,
            fire=lambda name, payload: self.fired.append((name, payload)),
            force_leave=self._force_leave,
        )

    def _force_leave(self, name: str) -> None:
        self.forced_out.append(name)
        asyncio.get_running_loop().call_soon(self.set_status, name, LEFT)

    def put(self, member: FakeMember) -> None:
        self.members[member.name] = member
        for server in self.listeners:
            server.member_changed(member)

    def set_status(self, name: str, status: int) -> None:
        self.put(msgspec.structs.replace(self.members[name], status=status))

    def reap(self, name: str) -> None:
        member = self.members.pop(name)
        for server in self.listeners:
            server.member_reaped(member)


def client_member(name: str, *, node_id: str = "", address: str = "127.0.22.250", **tags: str) -> FakeMember:
    return FakeMember(name=name, address=address, tags={"role": "node", "dc": "dc1", "id": node_id, "vsn": "2", **tags})


def node_id(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


class Node:
    """One server that may be stopped and started again, elsewhere too. Reachable attributes are those of its present life."""

    def __init__(self, cluster: "Cluster", name: str, number: int, directory: Path) -> None:
        self.cluster = cluster
        self.name = name
        self.id = node_id(number)
        self.directory = directory
        self.host = fresh_host()
        self.expect = 0
        self.tags: dict[str, str] = {}
        self.metrics = Metrics(node=name)
        self.failures: list[BaseException] = []
        self.running = False
        self.server: Server

    @property
    def address(self) -> str:
        return f"{self.host}:{PORT}"

    async def start(self) -> "Node":
        options = ServerOptions(
            node_id=self.id,
            node_name=self.name,
            datacenter="dc1",
            directory=self.directory,
            bind_address=self.host,
            advertise_address=self.host,
            port=PORT,
            bootstrap_expect=self.expect,
            raft=RAFT,
            **self.cluster.options,
        )
        self.server = Server(
            options,
            gossip=self.cluster.pool.gossip(),
            metrics=self.metrics,
            tls=None,
            rng=random.Random(f"{self.cluster.seed}/{self.name}"),
            log=logging.getLogger(f"test.{self.name}"),
            failed=self.failures.append,
        )
        await self.server.start()
        self.running = True
        self.cluster.pool.listeners.append(self.server)
        self.cluster.pool.put(self.member())
        return self

    def member(self) -> FakeMember:
        expect = {"expect": str(self.expect)} if self.expect else {}
        tags = {"role": "consul", "dc": "dc1", "id": self.id, "port": str(PORT), "vsn": "2", "raft_vsn": "3", "build": "1.8.7:x"}
        return FakeMember(name=self.name, address=self.host, tags=tags | expect | self.tags)

    async def stop(self, status: int = FAILED) -> None:
        """End the server; gossip notices that it failed, left, or (alive) nothing yet."""
        if not self.running:
            return
        self.running = False
        if self.server in self.cluster.pool.listeners:
            self.cluster.pool.listeners.remove(self.server)
        await self.server.stop()
        if status != ALIVE:
            self.cluster.pool.set_status(self.name, status)

    async def restart(self, host: str | None = None) -> "Node":
        await self.stop(ALIVE)
        self.host = host or self.host
        return await self.start()

    @contextlib.contextmanager
    def isolated(self) -> Iterator[None]:
        """Nothing of Raft reaches this server or leaves it."""
        replica = self.server.replica
        send, receive = replica._send, replica.receive
        replica._send = lambda _peer, _frame: None
        replica.receive = lambda _messages: None  # type: ignore[method-assign]
        try:
            yield
        finally:
            replica._send, replica.receive = send, receive  # type: ignore[method-assign]

    # --- what clients do ---------------------------------------------------------------------------------------------

    async def call(self, method: str, request: Any) -> Any:
        return await asyncio.wait_for(self.server.call(method, request), PATIENCE)

    async def put(self, key: str, value: bytes = b"v") -> Any:
        return await self.call("KVS.Apply", r.KVSRequest(op="set", dir_ent=DirEntry(key=key, value=value)))

    async def get(self, key: str, **options: Any) -> bytes | None:
        reply = await self.call("KVS.Get", r.KeyRequest(key=key, **options))
        return reply.entries[0].value if reply.entries else None

    async def register(self, node: str, service: str = "", **fields: Any) -> Any:
        instance = NodeService(id=service, service=service, port=80) if service else None
        return await self.call("Catalog.Register", r.RegisterRequest(node=node, address="10.0.0.1", service=instance, **fields))

    def serf_status(self, node: str) -> str | None:
        """What the catalog of this server says about a member's health."""
        checks: list[HealthCheck] = self.server.store.node_checks(node).value
        return next((check.status for check in checks if check.check_id == "serfHealth"), None)

    def voters(self) -> set[str]:
        """Ids."""
        return set(self.server.replica.configuration.voters())


class Cluster:
    """`options` go to every `ServerOptions`."""

    def __init__(self, folder: Path, *, seed: int = 1, **options: Any) -> None:
        self.folder = folder
        self.seed = seed
        self.options: dict[str, Any] = {"snapshots": NO_SNAPSHOTS, "rpc_hold_time": 5.0, **options}
        self.pool = FakePool()
        self.nodes: list[Node] = []

    def node(self, name: str = "", *, expect: int = 0, **tags: str) -> Node:
        """One more server, not started yet."""
        number = len(self.nodes) + 1
        name = name or f"server{number}"
        node = Node(self, name, number, self.folder / f"{name}-{number}")
        node.expect, node.tags = expect, tags
        self.nodes.append(node)
        return node

    async def bootstrap(self, size: int) -> list[Node]:
        """`size` servers that have a leader."""
        nodes = [self.node(expect=size) for _ in range(size)]
        await asyncio.gather(*(node.start() for node in nodes))
        await self.leader()
        return nodes

    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.running]

    async def leader(self, *, other_than: Node | None = None) -> Node:
        """The server that leads and is ready for it."""

        def leading() -> list[Node]:
            return [node for node in self.running() if node.server.replica.leader_ready and node is not other_than]

        await until(leading, "a leader")
        return leading()[0]

    async def followers(self) -> list[Node]:
        leader = await self.leader()
        return [node for node in self.running() if node is not leader]

    async def settled(self) -> None:
        """Every running server follows the leader and has applied what it has."""
        leader = (await self.leader()).server.replica
        replicas = [node.server.replica for node in self.running()]
        await until(
            lambda: all(each.known_leader and each.applied_index >= leader.last_index for each in replicas),
            "every server to catch up",
        )

    async def quiet(self) -> Node:
        """The leader, once it has written what it writes by itself: its settings and the servers."""
        leader = await self.leader()
        store = leader.server.store
        await until(
            lambda: store.autopilot_config().value and len(store.service_nodes("consul").value) == len(self.running()),
            "the first reconciliation",
        )
        await self.settled()
        return leader

    async def stop(self) -> None:
        async with contextlib.AsyncExitStack() as every:
            for node in reversed(self.running()):
                every.push_async_callback(node.stop, ALIVE)


@asynccontextmanager
async def cluster(folder: Path, size: int = 0, **options: Any) -> AsyncIterator[Cluster]:
    """`size` servers with a leader; what failed in one of them unnoticed fails the test."""
    made = Cluster(folder, **options)
    try:
        if size:
            await made.bootstrap(size)
        yield made
    finally:
        await made.stop()
    assert not [failure for node in made.nodes for failure in node.failures]


async def until(probe: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Returns once `probe` gives something true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while not probe():
        assert loop.time() < deadline, f"waited {patience:g} s for {what}"
        await asyncio.sleep(0.005)


__all__ = ["ALIVE", "FAILED", "LEFT", "Cluster", "FakeMember", "Node", "client_member", "cluster", "node_id", "until"]

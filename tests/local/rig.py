"""What the tests of this room share: an event loop whose time is virtual, and a catalog in a dict behind a delegate."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from discovery.local.difference import Identity
from discovery.local.services import Local
from discovery.local.settings import Settings
from discovery.local.sync import Syncer, Tokens
from discovery.model.delegate import Answer
from discovery.model.errors import DiscoveryError
from discovery.model.records import DirEntry, HealthCheck, Node, NodeService, Record
from discovery.model.requests import (
    DeregisterRequest,
    Empty,
    IndexedDirEntries,
    IndexedHealthChecks,
    IndexedNodeServiceList,
    IndexedNodeServices,
    KeyRequest,
    KVSRequest,
    NodeServiceList,
    NodeServices,
    NodeSpecificRequest,
    QueryMeta,
    RegisterRequest,
)
from discovery.telemetry import Metrics

T = TypeVar("T")
NODE = "node1"


class _Selector(selectors.DefaultSelector):
    """Never waits: time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without real time; not for anything that uses sockets, processes or threads."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def simulate(scenario: Coroutine[Any, Any, T]) -> T:
    """Run `scenario` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


async def settle() -> None:
    """Let everything that is ready run, without letting time pass."""
    for _ in range(50):
        await asyncio.sleep(0)


def now() -> float:
    return asyncio.get_running_loop().time()


class Catalog:
    """A delegate that keeps one node's catalog in dicts and remembers what it was asked."""

    def __init__(self) -> None:
        self.node: Node | None = None
        self.services: dict[str, NodeService] = {}
        self.checks: dict[str, HealthCheck] = {}
        self.keys: dict[str, DirEntry] = {}
        self.calls: list[tuple[float, str, Record]] = []
        self.refuse: Callable[[str, Record], DiscoveryError | None] = lambda method, request: None

    async def call(self, method: str, request: Record) -> Any:
        self.calls.append((now(), method, request))
        await asyncio.sleep(0)
        if (error := self.refuse(method, request)) is not None:
            raise error
        if isinstance(request, RegisterRequest):
            return self._register(request)
        if isinstance(request, DeregisterRequest):
            return self._deregister(request)
        if isinstance(request, KVSRequest):
            self.keys.pop(request.dir_ent.key, None)
            return True
        if isinstance(request, KeyRequest):
            return IndexedDirEntries(entries=[entry for key, entry in self.keys.items() if key.startswith(request.key)])
        assert isinstance(request, NodeSpecificRequest)
        if method == "Catalog.NodeServiceList":
            return IndexedNodeServiceList(node_services=NodeServiceList(self.node, list(self.services.values())))
        if method == "Catalog.NodeServices":
            return IndexedNodeServices(node_services=NodeServices(self.node, dict(self.services)))
        return IndexedHealthChecks(health_checks=list(self.checks.values()), index=1)

    def _register(self, request: RegisterRequest) -> Empty:
        if self.node is None or not request.skip_node_update:
            self.node = Node(
                request.id, request.node, request.address, request.datacenter, request.tagged_addresses, request.node_meta, 7, 7
            )
        if request.service is not None:
            self.services[request.service.id] = msgspec.structs.replace(request.service, create_index=8, modify_index=8)
        for check in [request.check] if request.check else request.checks or []:
            service = self.services.get(check.service_id)
            self.checks[check.check_id] = msgspec.structs.replace(
                check,
                service_name=service.service if service else "",
                service_tags=service.tags if service else [],
                create_index=9,
                modify_index=9,
            )
        return Empty()

    def _deregister(self, request: DeregisterRequest) -> Empty:
        if request.check_id:
            self.checks.pop(request.check_id, None)
        if request.service_id:
            self.services.pop(request.service_id, None)
            self.checks = {key: check for key, check in self.checks.items() if check.service_id != request.service_id}
        return Empty()

    def writes(self) -> list[Record]:
        return [request for _, method, request in self.calls if method in ("Catalog.Register", "Catalog.Deregister")]

    def forget_calls(self) -> None:
        self.calls.clear()

    async def ask(self, method: str, request: Record) -> Answer:
        raise NotImplementedError

    def leads(self) -> bool:
        return False

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        raise NotImplementedError

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        raise NotImplementedError


IDENTITY = Identity(
    name=NODE,
    id="6f1c2d3e-0000-4000-8000-000000000001",
    address="127.0.0.1",
    datacenter="dc1",
    tagged_addresses={"lan": "127.0.0.1"},
    meta={"consul-network-segment": ""},
)


class Wall:
    """The time of day, as told by a test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def make_local(
    delegate: Catalog | None = None, *, data_dir: Path | None = None, wall: Wall | None = None, seed: int = 1, **settings: Any
) -> Local:
    return Local(
        Settings(node_name=NODE, **settings),
        delegate or Catalog(),
        data_dir=data_dir,
        rng=random.Random(seed),
        wall=wall or Wall(),
    )


def make_syncer(local: Local, catalog: Catalog, *, nodes: int = 3, seed: int = 1, **options: Any) -> Syncer:
    defaults: dict[str, Any] = {"tokens": Tokens(), "check_update_interval": 300.0}
    return Syncer(
        local,
        catalog,
        IDENTITY,
        cluster_size=lambda: nodes,
        metrics=Metrics(),
        rng=random.Random(seed),
        **(defaults | options),
    )

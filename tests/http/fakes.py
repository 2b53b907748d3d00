"""Stand-ins for what the HTTP door talks to. They record what they were asked and answer what a test put in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from discovery.model.agent import AgentService, CheckRun, MemberInfo, UserEvent
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.delegate import LeaderContact
from discovery.model.errors import DiscoveryError, NotFound
from discovery.model.records import Coordinate, HealthCheck
from discovery.model.requests import IndexedDirEntries, QueryMeta
from discovery.telemetry import Metrics

META = {"index": 7, "known_leader": True, "consistency_level": "leader"}


class FakeWatch:
    def __init__(self) -> None:
        self._fired = False
        self.callbacks: list[Callable[[], object]] = []

    @property
    def fired(self) -> bool:
        return self._fired

    @fired.setter
    def fired(self, fired: bool) -> None:
        self._fired = fired
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    def on_fire(self, callback: Callable[[], object]) -> None:
        self.callbacks.append(callback)
        if self._fired:
            self.fired = True

    def cancel(self) -> None:
        self.callbacks.clear()


class FakeAnswer(msgspec.Struct):
    reply: Any
    watch: FakeWatch | None


class FakeDelegate:
    """`answers`: method -> reply, exception, or function of the request."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "KVS.Apply": True,
            "KVS.Get": IndexedDirEntries(**META),
            "Status.Leader": "127.0.0.1:8300",
            "Status.Peers": ["127.0.0.1:8300"],
        }
        self.calls: list[tuple[str, Any]] = []
        self.leading = True
        self.leader_contact: LeaderContact | None = LeaderContact(True, 0)
        self.confirmed = True
        self.confirmations = 0
        self.while_confirming: Callable[[], None] = lambda: None
        self.watch = FakeWatch()
        self.archive = b"archive"
        self.restored: bytes | None = None

    async def call(self, method: str, request: Any) -> Any:
        self.calls.append((method, request))
        answer = self.answers[method]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, method: str, request: Any) -> FakeAnswer:
        return FakeAnswer(await self.call(method, request), self.watch)

    def leads(self) -> bool:
        return self.leading

    def contact(self) -> LeaderContact | None:
        return self.leader_contact

    async def confirm(self) -> bool:
        self.confirmations += 1
        await asyncio.sleep(0.01)
        self.while_confirming()
        return self.confirmed

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        return self.archive, QueryMeta(**META)

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        self.restored = archive

    @property
    def last(self) -> Any:
        """The newest request."""
        return self.calls[-1][1]


class FakeServices:
    def __init__(self) -> None:
        self.by_id: dict[str, AgentService] = {}
        self.check_by_id: dict[str, HealthCheck] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.refusal: DiscoveryError | None = None
        self.change = asyncio.Event()

    def _take(self, *what: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(what)

    def services(self) -> Mapping[str, AgentService]:
        return self.by_id

    def service(self, service_id: str) -> AgentService | None:
        return self.by_id.get(service_id)

    def checks(self) -> Mapping[str, HealthCheck]:
        return self.check_by_id

    def add_service(self, spec: ServiceSpec, *, replace_existing_checks: bool = False) -> None:
        self._take("add_service", spec, replace_existing_checks)

    def remove_service(self, service_id: str) -> None:
        self._take("remove_service", service_id)

    def add_check(self, spec: CheckSpec) -> None:
        self._take("add_check", spec)

    def remove_check(self, check_id: str) -> None:
        self._take("remove_check", check_id)

    def update_ttl(self, check_id: str, status: str, output: str) -> None:
        self._take("update_ttl", check_id, status, output)

    def service_maintenance(self, service_id: str, enable: bool, reason: str) -> None:
        if service_id not in self.by_id:
            raise NotFound(f'No service registered with ID "{service_id}"')
        self._take("service_maintenance", service_id, enable, reason)

    def node_maintenance(self, enable: bool, reason: str) -> None:
        self._take("node_maintenance", enable, reason)

    async def run_check(self, check_id: str) -> CheckRun:
        self._take("run_check", check_id)
        return CheckRun(check_id=check_id, status="critical", output="out", published="passing")

    def drain_service(self, service_id: str, wait: float, reason: str) -> None:
        self._take("drain_service", service_id, wait, reason)

    async def changed(self, service_id: str) -> None:
        await self.change.wait()
        self.change.clear()


MEMBER = MemberInfo(
    name="node1", addr="127.0.0.1", port=8301, tags={"role": "consul"}, status=1,
    protocol_min=1, protocol_max=5, protocol_cur=2, delegate_min=2, delegate_max=5, delegate_cur=4,
)  # fmt: skip


class FakeAgent:
    node_name = "node1"
    node_id = "11111111-2222-3333-4444-555555555555"
    datacenter = "dc1"
    advertise_address = "127.0.0.1"
    server = True
    dev = False

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.user_events: list[UserEvent] = []
        self.arrival = asyncio.Event()
        self.lines = ["one", "two"]

    def self_config(self) -> Mapping[str, object]:
        return {"Datacenter": "dc1", "NodeName": "node1"}

    def debug_config(self) -> Mapping[str, object]:
        return {"SessionTTLMin": "0s"}

    def node_meta(self) -> Mapping[str, str]:
        return {"consul-network-segment": ""}

    def coordinate(self) -> Coordinate:
        return Coordinate(vec=[0.0] * 8, error=1.5, height=1e-5)

    def stats(self) -> Mapping[str, Mapping[str, str]]:
        return {"agent": {"checks": "0"}}

    def members(self, *, wan: bool) -> Sequence[MemberInfo] | None:
        return None if wan else [MEMBER]

    def local_member(self) -> MemberInfo:
        return MEMBER

    async def join(self, address: str, *, wan: bool) -> None:
        self.asked.append(("join", address, wan))

    async def leave(self) -> None:
        self.asked.append(("leave",))

    async def force_leave(self, node: str, *, prune: bool) -> None:
        self.asked.append(("force_leave", node, prune))

    async def reload(self) -> None:
        self.asked.append(("reload",))

    async def fire_event(self, event: UserEvent, *, datacenter: str) -> UserEvent:
        fired = msgspec.structs.replace(event, id=f"00000000-0000-0000-0000-00000000000{len(self.user_events) + 1}")
        self.user_events.append(fired)
        self.arrival.set()
        return fired

    def events(self) -> Sequence[UserEvent]:
        return self.user_events

    async def event_arrived(self) -> None:
        self.arrival.clear()
        await self.arrival.wait()

    async def log_lines(self, level: str, *, as_json: bool) -> AsyncIterator[str]:
        self.asked.append(("log_lines", level, as_json))
        for line in self.lines:
            yield line


class FakeMetrics(Metrics):
    def as_json(self) -> dict[str, object]:
        return {"Gauges": []}

    def as_prometheus(self) -> bytes:
        return b"# HELP x\n"

"""What the doors need of the agent they belong to, beside the cluster's answers: its own services, its members, itself."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .definitions import CheckSpec, ServiceSpec
from .naming import always, go_name, new_dict, new_list, nothing
from .records import Connect, Coordinate, HealthCheck, Proxy, Record, ServiceAddress, Upstream, Weights


class AgentUpstream(Upstream, frozen=True):
    """What the catalog shows even if it is empty, agents leave out."""

    datacenter: str = ""
    config: dict[str, Any] | None = None


class AgentProxy(Proxy, frozen=True):
    # A list of a narrower type is unsound only where somebody adds to it as the wider one: both records are frozen. A `Sequence`
    # would need no exception, but JSON is decoded by what `http.decoding` can plan for, which are lists.
    upstreams: list[AgentUpstream] | None = None  # type: ignore[assignment]


class AgentService(Record, frozen=True, kw_only=True):
    """A service of this agent as `agent/services` shows it."""

    kind: str = ""
    id: str = always(str)
    service: str = always(str)
    tags: list[str] = always(new_list)
    meta: dict[str, str] = always(new_dict)
    port: int = always(int)
    address: str = always(str)
    tagged_addresses: dict[str, ServiceAddress] | None = None
    weights: Weights = always(Weights)
    enable_tag_override: bool = always(bool)
    content_hash: str = ""
    proxy: AgentProxy | None = None
    connect: Connect | None = None


class MemberInfo(msgspec.Struct, frozen=True, kw_only=True, rename=go_name):
    """A gossip member; `status` is Serf's number: 0 none, 1 alive, 2 leaving, 3 left, 4 failed."""

    name: str
    addr: str
    port: int
    tags: dict[str, str]
    status: int
    protocol_min: int
    protocol_max: int
    protocol_cur: int
    delegate_min: int
    delegate_max: int
    delegate_cur: int


class UserEvent(Record, frozen=True, kw_only=True):
    """A user event as `event/list` shows it."""

    id: str = always(str)
    name: str = always(str)
    payload: bytes | None = always(nothing)
    node_filter: str = always(str)
    service_filter: str = always(str)
    tag_filter: str = always(str)
    version: int = always(int)
    l_time: int = msgspec.field(name="LTime", default_factory=int)


class CheckRun(Record, frozen=True, kw_only=True):
    """What a run on demand has found; `published` is the check's status after it, which thresholds may have left as it was."""

    check_id: str = always(str)
    status: str = always(str)
    output: str = always(str)
    published: str = always(str)


class LocalServices(Protocol):
    """This agent's own services and checks. Refusals are `model.errors.DiscoveryError` with Consul's text and status."""

    def services(self) -> Mapping[str, AgentService]: ...
    def service(self, service_id: str) -> AgentService | None:
        """With `content_hash` filled in."""

    def checks(self) -> Mapping[str, HealthCheck]: ...
    def add_service(self, spec: ServiceSpec, *, replace_existing_checks: bool = False) -> None: ...
    def remove_service(self, service_id: str) -> None: ...
    def add_check(self, spec: CheckSpec) -> None: ...
    def remove_check(self, check_id: str) -> None: ...
    def update_ttl(self, check_id: str, status: str, output: str) -> None: ...
    def service_maintenance(self, service_id: str, enable: bool, reason: str) -> None: ...
    def node_maintenance(self, enable: bool, reason: str) -> None: ...
    async def run_check(self, check_id: str) -> CheckRun:
        """Run a check now."""

    def drain_service(self, service_id: str, wait: float, reason: str) -> None:
        """Out of health and DNS now, deregistered in `wait` seconds."""

    async def changed(self, service_id: str) -> None:
        """Return when the definition of that service has changed or gone."""


class AgentControl(Protocol):
    """The agent as a whole: who it is, whom it knows, how to steer it."""

    node_name: str
    node_id: str
    datacenter: str
    advertise_address: str
    server: bool
    dev: bool

    def self_config(self) -> Mapping[str, object]:
        """The `Config` part of `agent/self`."""

    def debug_config(self) -> Mapping[str, object]:
        """The `DebugConfig` part of `agent/self`; secrets shown as `hidden`."""

    def node_meta(self) -> Mapping[str, str]: ...
    def coordinate(self) -> Coordinate: ...
    def stats(self) -> Mapping[str, Mapping[str, str]]:
        """The sections of `consul info`."""

    def members(self, *, wan: bool) -> Sequence[MemberInfo] | None: ...
    def local_member(self) -> MemberInfo: ...
    async def join(self, address: str, *, wan: bool) -> None: ...
    async def leave(self) -> None:
        """Leave gracefully; the process ends soon after this returns."""

    async def force_leave(self, node: str, *, prune: bool) -> None: ...
    async def reload(self) -> None: ...
    async def fire_event(self, event: UserEvent, *, datacenter: str) -> UserEvent: ...
    def events(self) -> Sequence[UserEvent]:
        """The newest 256 events received that matched this agent, oldest first."""

    async def event_arrived(self) -> None: ...
    def log_lines(self, level: str, *, as_json: bool) -> AsyncIterator[str]:
        """Log lines at `level` (a `logging` name) or above, as they occur, until closed."""

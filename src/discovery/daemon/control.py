"""What the doors may ask of the agent as a whole (`model.agent.AgentControl`)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import msgspec

from discovery.config.options import Options
from discovery.local.services import Local
from discovery.model.agent import MemberInfo, UserEvent
from discovery.model.delegate import Delegate
from discovery.model.errors import RequestFailed
from discovery.model.records import Coordinate
from discovery.model.requests import EventFireRequest
from discovery.telemetry import Logs
from discovery.transport.membership import Membership, UnknownMember

from . import events, info
from .pools import shown
from .settings import identity


class Parts(msgspec.Struct):
    """The running parts of an agent that its control reaches for; `options` are replaced by a reload."""

    options: Options
    node_id: str
    logs: Logs
    lan: Membership
    wan: Membership | None
    delegate: Delegate
    local: Local
    events: events.UserEvents
    server_stats: Callable[[], Mapping[str, Mapping[str, str]]]
    """The sections of `info` that only servers or only clients have."""
    leave: Callable[[], Awaitable[None]]
    reload: Callable[[], Awaitable[None]]


class Control:
    """See `model.agent.AgentControl`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        options = parts.options
        self.node_name = options.node_name
        self.node_id = parts.node_id
        self.datacenter = options.datacenter
        self.advertise_address = options.advertise_addr
        self.server = options.server
        self.dev = options.dev_mode

    # --- what it is --------------------------------------------------------------------------------------------------

    def self_config(self) -> Mapping[str, object]:
        return {
            "Datacenter": self.datacenter,
            "NodeName": self.node_name,
            "NodeID": self.node_id,
            "Revision": "",
            "Server": self.server,
            "Version": info.COMPATIBLE_VERSION,
        }

    def debug_config(self) -> Mapping[str, object]:
        return info.debug_config(self._parts.options)

    def node_meta(self) -> Mapping[str, str]:
        return identity(self._parts.options, self.node_id).meta

    def coordinate(self) -> Coordinate:
        return self._parts.lan.coordinate()

    def stats(self) -> Mapping[str, Mapping[str, str]]:
        parts = self._parts
        sections: dict[str, Mapping[str, str]] = {
            "agent": info.agent_section(parts.local),
            "build": info.build_section(),
            **parts.server_stats(),
            "runtime": info.runtime_section(),
            "serf_lan": parts.lan.stats(),
        }
        if parts.wan is not None:
            sections["serf_wan"] = parts.wan.stats()
        return sections

    # --- whom it knows -----------------------------------------------------------------------------------------------

    def members(self, *, wan: bool) -> Sequence[MemberInfo] | None:
        pool = self._parts.wan if wan else self._parts.lan
        return None if pool is None else [shown(member) for member in pool.members()]

    def local_member(self) -> MemberInfo:
        return shown(self._parts.lan.local_member())

    async def join(self, address: str, *, wan: bool) -> None:
        pool = self._parts.wan if wan else self._parts.lan
        if pool is None:
            raise RequestFailed("Must be a server to join WAN cluster")
        await pool.join([address])

    async def leave(self) -> None:
        await self._parts.leave()

    async def force_leave(self, node: str, *, prune: bool) -> None:
        try:
            self._parts.lan.force_leave(node, prune)
        except UnknownMember as error:
            raise RequestFailed(f"agent: {error}") from None

    async def reload(self) -> None:
        await self._parts.reload()

    # --- events and log lines ----------------------------------------------------------------------------------------

    async def fire_event(self, event: UserEvent, *, datacenter: str) -> UserEvent:
        fired = events.new_event(event)
        request = EventFireRequest(datacenter=datacenter, name=fired.name, payload=events.encode(fired))
        await self._parts.delegate.call("Internal.EventFire", request)
        return fired

    def events(self) -> Sequence[UserEvent]:
        return self._parts.events.events()

    async def event_arrived(self) -> None:
        await self._parts.events.arrived()

    def log_lines(self, level: str, *, as_json: bool) -> AsyncIterator[str]:
        return self._parts.logs.lines(level, as_json=as_json)

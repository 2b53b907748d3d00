"""Autopilot: watches the health of the servers, gives and takes votes, removes the dead. Runs on the leader.

What is known of a server comes from three sources: gossip (is it alive), Raft (how far it is, when it was heard of) and the
catalog, whose node metadata name its redundancy zone. Source: Consul's documentation of autopilot.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError
from discovery.model.records import AutopilotConfig
from discovery.raft.messages import Server
from discovery.state.store import StateStore
from discovery.telemetry import Metrics

from .members import ALIVE, STATUS_NAMES, Member, ServerMember, servers_of
from .promotion import Candidate, Decision, decide, failure_tolerance, is_dead, optimistic_failure_tolerance
from .replica import Replica

DEFAULTS: Final = AutopilotConfig(
    cleanup_dead_servers=True,
    last_contact_threshold=Duration.from_seconds(0.2),
    max_trailing_logs=250,
    server_stabilization_time=Duration.from_seconds(10),
)

SILENCE: Final = 5.0
"""Seconds without a sign of life in Raft before a server that gossip misses counts as dead: gossip alone may be wrong, and knows
nobody in the first moments after all servers restarted."""


class AutopilotOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds."""

    settings: AutopilotConfig = DEFAULTS
    """Written into the state by the first leader; from then on what the state says counts."""
    health_interval: float = 2.0
    interval: float = 10.0
    """Between two passes that may change who votes and who is a member."""
    heartbeat_interval: float = 0.1
    """Raft's: a follower that answers every heartbeat was heard of at most so long ago."""


class _Seen(msgspec.Struct):
    """Since when a server has been as healthy as it is."""

    healthy: bool
    since: float
    since_wall: datetime


class Observation(msgspec.Struct, frozen=True):
    """A server at one moment."""

    server: Server
    member: ServerMember | None
    candidate: Candidate
    last_contact: float
    """Seconds since Raft heard from it."""
    last_index: int
    stable_since: datetime
    meta: dict[str, str]


class Autopilot:
    """`members` gives the LAN pool, `force_leave` declares a failed member to have left."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: StateStore,
        datacenter: str,
        members: Callable[[], Iterable[Member]],
        force_leave: Callable[[str], object],
        options: AutopilotOptions,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._store = store
        self._datacenter = datacenter
        self._members = members
        self._force_leave = force_leave
        self._options = options
        self._metrics = metrics
        self._log = log
        self._seen: dict[str, _Seen] = {}
        self._refusal = ""

    @property
    def settings(self) -> AutopilotConfig:
        return self._store.autopilot_config().value or self._options.settings

    # --- the duty ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For as long as we lead; health counts from here on."""
        self._seen.clear()
        await self._initialize()
        clock = asyncio.get_running_loop().time
        next_pass = clock() + self._options.interval
        while True:
            self.observe()
            await asyncio.sleep(self._options.health_interval)
            if clock() >= next_pass:
                next_pass = clock() + self._options.interval
                await self._act(self.observe())

    async def _initialize(self) -> None:
        if self._store.autopilot_config().value is None:
            await self._replica.propose(c.AutopilotChange(self._options.settings))

    async def _act(self, observations: Sequence[Observation]) -> None:
        settings = self.settings
        decision = decide(
            [each.candidate for each in observations],
            zones=bool(settings.redundancy_zone_tag),
            cleanup=settings.cleanup_dead_servers,
            min_quorum=settings.min_quorum,
        )
        if decision.refusal and decision.refusal != self._refusal:
            self._log.warning("dead servers are not removed: %s", decision.refusal)
        self._refusal = decision.refusal
        try:
            await self._carry_out(decision, {each.server.id: each for each in observations})
        except DiscoveryError as error:
            self._log.warning("autopilot could not finish, the next pass tries again: %s", error)

    async def _carry_out(self, decision: Decision, known: dict[str, Observation]) -> None:
        for server_id in decision.promote:
            self._log.info("promoting server to voter: name=%s id=%s", known[server_id].candidate.name, server_id)
            await self._replica.add_server(server_id, known[server_id].server.address, voter=True)
        for server_id in decision.demote:
            self._log.info("server no longer votes: name=%s id=%s", known[server_id].candidate.name, server_id)
            await self._replica.demote_server(server_id)
        for server_id in decision.remove:
            name = known[server_id].candidate.name
            self._log.info("attempting removal of failed server node: name=%s id=%s", name, server_id)
            await self._replica.remove_server(server_id)
            if name:
                self._force_leave(name)

    # --- health ------------------------------------------------------------------------------------------------------

    def observe(self) -> list[Observation]:
        """All servers of the Raft configuration as they are now."""
        members: dict[str, ServerMember] = {}
        for member in servers_of(self._members(), self._datacenter):
            if member.id not in members or member.status == ALIVE:
                members[member.id] = member
        settings = self.settings
        servers = self._replica.configuration.servers
        observations = [self._observe(server, members.get(server.id), settings) for server in servers]
        known = {server.id for server in servers}
        self._seen = {server_id: seen for server_id, seen in self._seen.items() if server_id in known}
        candidates = [each.candidate for each in observations]
        self._metrics.autopilot_healthy.set(float(all(candidate.healthy for candidate in candidates)))
        self._metrics.autopilot_failure_tolerance.set(float(failure_tolerance(candidates)))
        return observations

    def _observe(self, server: Server, member: ServerMember | None, settings: AutopilotConfig) -> Observation:
        leader = server.id == self._replica.server_id
        match, contact = self._replica.follower_state(server.id)
        status = member.status if member is not None else None
        trailing = self._replica.last_index - match
        late = contact - self._options.heartbeat_interval
        in_step = leader or (late <= settings.last_contact_threshold.seconds and trailing <= settings.max_trailing_logs)
        healthy = status == ALIVE and in_step
        seen = self._note(server.id, healthy)
        meta = self._meta_of(server.id)
        now = asyncio.get_running_loop().time()
        candidate = Candidate(
            id=server.id,
            name=member.name if member is not None else "",
            voter=server.voter,
            leader=leader,
            may_vote=member is None or member.voter,
            healthy=healthy,
            stable=healthy and now - seen.since >= settings.server_stabilization_time.seconds,
            dead=not leader and is_dead(status, contact, SILENCE),
            zone=meta.get(settings.redundancy_zone_tag, "") if settings.redundancy_zone_tag else "",
        )
        return Observation(server, member, candidate, contact, match, seen.since_wall, meta)

    def _note(self, server_id: str, healthy: bool) -> _Seen:
        seen = self._seen.get(server_id)
        if seen is None or seen.healthy != healthy:
            seen = _Seen(healthy, asyncio.get_running_loop().time(), datetime.now(UTC))
            self._seen[server_id] = seen
        return seen

    def _meta_of(self, server_id: str) -> dict[str, str]:
        """Node metadata by node id, as every agent keeps them in the catalog."""
        found = self._store.node_services(server_id).value
        return found.node.meta or {} if found is not None and found.node is not None else {}

    # --- what it tells -----------------------------------------------------------------------------------------------

    def health(self) -> r.OperatorHealthReply:
        observations = self.observe()
        candidates = [each.candidate for each in observations]
        return r.OperatorHealthReply(
            healthy=all(candidate.healthy for candidate in candidates),
            failure_tolerance=failure_tolerance(candidates),
            servers=[self._health_of(each) for each in observations],
        )

    def _health_of(self, seen: Observation) -> r.ServerHealth:
        return r.ServerHealth(
            id=seen.server.id,
            name=seen.candidate.name,
            address=seen.server.address,
            serf_status=_status_name(seen.member),
            version=seen.member.build if seen.member is not None else "",
            leader=seen.candidate.leader,
            last_contact=_contact_text(seen),
            last_term=self._replica.term_at(seen.last_index),
            last_index=seen.last_index,
            healthy=seen.candidate.healthy,
            voter=seen.server.voter,
            stable_since=_time_text(seen.stable_since),
        )

    def state(self) -> r.AutopilotState:
        observations = self.observe()
        candidates = [each.candidate for each in observations]
        zones = bool(self.settings.redundancy_zone_tag)
        return r.AutopilotState(
            healthy=all(candidate.healthy for candidate in candidates),
            failure_tolerance=failure_tolerance(candidates),
            optimistic_failure_tolerance=optimistic_failure_tolerance(candidates),
            servers={each.server.id: self._state_of(each, zones=zones) for each in observations},
            leader=self._replica.server_id,
            voters=[each.server.id for each in observations if each.server.voter],
            read_replicas=[candidate.id for candidate in candidates if not candidate.may_vote] or None,
            redundancy_zones=_zones(candidates) if zones else None,
        )

    def _state_of(self, seen: Observation, *, zones: bool) -> r.AutopilotServer:
        candidate = seen.candidate
        return r.AutopilotServer(
            id=seen.server.id,
            name=candidate.name,
            address=seen.server.address,
            node_status=_status_name(seen.member),
            version=seen.member.build if seen.member is not None else "",
            last_contact=_contact_text(seen),
            last_term=self._replica.term_at(seen.last_index),
            last_index=seen.last_index,
            healthy=candidate.healthy,
            stable_since=_time_text(seen.stable_since),
            redundancy_zone=candidate.zone,
            read_replica=not candidate.may_vote,
            status="leader" if candidate.leader else "voter" if candidate.voter else "non-voter",
            meta=seen.meta,
            node_type=_node_type(candidate, zones=zones),
        )


def _zones(candidates: Sequence[Candidate]) -> dict[str, r.AutopilotZone]:
    zones: dict[str, r.AutopilotZone] = {}
    for name in sorted({candidate.zone for candidate in candidates if candidate.zone}):
        members = [candidate for candidate in candidates if candidate.zone == name]
        zones[name] = r.AutopilotZone(
            servers=[member.id for member in members],
            voters=[member.id for member in members if member.voter],
            failure_tolerance=max(0, sum(member.healthy for member in members) - 1),
        )
    return zones


def _node_type(candidate: Candidate, *, zones: bool) -> str:
    if not candidate.may_vote:
        return "read-replica"
    if not (zones and candidate.zone):
        return "voter"
    return "zone-voter" if candidate.voter else "zone-standby"


def _status_name(member: ServerMember | None) -> str:
    return STATUS_NAMES.get(member.status, "none") if member is not None else "none"


def _contact_text(seen: Observation) -> str:
    """Of servers that are not alive Consul says -1ns."""
    alive = seen.member is not None and seen.member.status == ALIVE and math.isfinite(seen.last_contact)
    return str(Duration.from_seconds(seen.last_contact)) if alive else "-1ns"


def _time_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

"""Serf's layer over SWIM: members with tags and a status, graceful leaves, user events, and what survives a restart.

SWIM knows whether a node answers; Serf knows whether it meant to go. A node that leaves spreads a leave intent first, so that
its silence afterwards counts as left, not failed. Intents may arrive late, twice, or before the node they are about is known;
each carries a Lamport time, and only one newer than the member's status time counts. That time is kept even when the status
stays what it is: else two nodes could pass one intent to and fro for ever.

    alive --leave intent--> leaving --dead--> left          alive --dead--> failed --leave intent--> left
    leaving --join intent--> alive                          anything --alive claim--> alive
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from . import serf_messages
from .broadcasts import Broadcasts
from .coalesce import UserEventCoalescer
from .codec import MalformedMessage, unpack
from .events import (
    Event,
    KeyringChanged,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    MemberStatus,
    MemberUpdated,
    NameConflict,
    UserEvent,
)
from .keys import KeyResult
from .lamport import LamportClock, LamportRing
from .members import VSN_SIZE, Address, Node, ip_text
from .messages import NodeRecord, NodeState
from .packets import LARGEST_USER_MESSAGE, Packet
from .profile import LAN, Profile
from .queries import Queries
from .security import Protection
from .serf_messages import (
    EventsAt,
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    RecentEvent,
    SerfKind,
    SerfState,
    UserEventMessage,
    decode_tags,
    encode_tags,
)
from .snapshot import Snapshot
from .swim import Exchange, Served, Swim
from .timers import Timers
from .vivaldi import Coordinate, Vivaldi, decode_payload, encode_payload

VSN: Final = bytes((1, 5, 2, 2, 5, 4))
"""The versions Consul speaks: memberlist's protocol 1 to 5, spoken 2; Serf's 2 to 5, spoken 4."""

USER_EVENT_LIMIT: Final = 512
"""Bytes of a user event's name and payload, and of its message."""

_SINCE_RELAYS: Final = 5
"""The version of Serf's protocol that brought them."""
_BROADCAST_TIMEOUT: Final = 5.0
_REAP_INTERVAL: Final = 15.0
_RECONNECT_INTERVAL: Final = 30.0
_INTENT_LIFETIME: Final = 300.0
_MAX_INTENTS: Final = 4096
_MAX_STATE_ITEMS: Final = 1 << 20


class RefusedMerge(Exception):
    """Raised by a merge check: these members may not be in a group with us, and why."""


class UserEventTooLarge(ValueError):
    """A user event over the limit; the text is Serf's."""


class UnknownMember(ValueError):
    """No member has this name."""


def accept_all(members: Sequence[Member]) -> None:
    """The merge check of a group that is open to all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerfOptions:
    """Times in seconds."""

    name: str
    address: Address
    """Where others reach us."""
    tags: dict[str, str] = field(default_factory=dict)
    profile: Profile = LAN
    merge_check: Callable[[Sequence[Member]], None] = accept_all
    reconnect_timeout: float = 72 * 3600.0
    """How long a failed member is remembered, and looked for."""
    tombstone_timeout: float = 24 * 3600.0
    """How long a member that left is remembered."""
    leave_propagate_delay: float = 3.0
    coalesce_period: float = 0.0
    quiescent_period: float = 0.0
    """For user events that allow it: see `coalesce`. Zero tells each at once."""


@dataclass(slots=True, eq=False)
class _Known:
    """A member. `status_time` is the Lamport time of the newest intent about it; `gone_at` is set while failed or left."""

    name: str
    address: Address
    tags: dict[str, str]
    vsn: bytes
    status: MemberStatus
    status_time: int = 0
    gone_at: float = 0.0

    def update(self, node: Node) -> None:
        self.address, self.tags, self.vsn = node.address, decode_tags(node.meta), node.vsn

    def member(self) -> Member:
        return _member(self.name, self.address, self.tags, self.status, self.vsn)


def _member(name: str, address: Address, tags: dict[str, str], status: MemberStatus, vsn: bytes) -> Member:
    return Member(
        name=name,
        address=address[0],
        port=address[1],
        tags=tags,
        status=status,
        protocol_min=vsn[0],
        protocol_max=vsn[1],
        protocol_cur=vsn[2],
        delegate_min=vsn[3],
        delegate_max=vsn[4],
        delegate_cur=vsn[5],
    )


@dataclass(frozen=True, slots=True)
class _EarlyIntent:
    """An intent about a node that is not known yet."""

    status: MemberStatus
    time: int
    heard_at: float


class Serf:
    """One member of a group. Raises `serf_messages.TagsTooLarge`."""

    def __init__(self, options: SerfOptions, protection: Protection, rng: random.Random, now: float) -> None:
        self._options = options
        self._rng = rng
        self._timers = Timers()
        self._clock = LamportClock()
        self._user_events: LamportRing[tuple[str, bytes]] = LamportRing()
        self._vivaldi = Vivaldi(rng)
        self._ack_payload: bytes | None = None
        self._known: dict[str, _Known] = {}
        self._early: dict[str, _EarlyIntent] = {}
        self._events: list[Event] = []
        self._coalescer = UserEventCoalescer(options.coalesce_period, options.quiescent_period, self._timers, self._tell)
        self._protection = protection
        self._queries = Queries(self, protection, self._timers, rng, options.profile.gossip_interval)
        self.swim = Swim(
            options.name,
            options.address,
            encode_tags(options.tags),
            VSN,
            profile=options.profile,
            protection=protection,
            delegate=self,
            timers=self._timers,
            rng=rng,
            now=now,
        )
        self._intent_queue, self._query_queue, self._event_queue = (Broadcasts(self.swim.retransmit_limit) for _ in range(3))
        self.left = False
        """Whether `leave` has done its work."""

    def start(self, now: float) -> None:
        """Be a group of one."""
        self.node_joined(self.swim.me, now)
        self.swim.start(now)
        self._timers.at(now + _REAP_INTERVAL, self._reap)
        self._timers.at(now + _RECONNECT_INTERVAL, self._reconnect)

    # --- the door --------------------------------------------------------------------------------------------------------

    def receive_packet(self, data: bytes, source: Address, now: float) -> None:
        """A datagram. Never raises, whatever it holds."""
        self.swim.receive_packet(data, source, now)

    def send_failed(self, destination: Address, now: float) -> None:
        self.swim.send_failed(destination, now)

    def serve(self, source: Address) -> Served:
        """A stream that was accepted."""
        return self.swim.serve(source)

    def deadline(self) -> float:
        """When `tick` must be called at the latest."""
        return self.swim.deadline()

    def tick(self, now: float) -> None:
        self.swim.tick(now)

    def take_packets(self) -> list[Packet]:
        return self.swim.take_packets()

    def take_exchanges(self) -> list[Exchange]:
        return self.swim.take_exchanges()

    def take_notes(self) -> list[str]:
        return self.swim.take_notes()

    def _tell(self, event: Event) -> None:
        self._events.append(event)

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # --- what the agent asks for -----------------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        return [known.member() for known in self._known.values()]

    def member(self, name: str) -> Member | None:
        known = self._known.get(name)
        return known.member() if known is not None else None

    def local_member(self) -> Member:
        return self._known[self._options.name].member()

    def coordinate(self) -> Coordinate:
        return self._vivaldi.coordinate

    def coordinate_of(self, name: str) -> Coordinate | None:
        """Of a member we have probed ourselves."""
        return self._vivaldi.coordinate if name == self._options.name else self._vivaldi.coordinate_of(name)

    def clocks(self) -> tuple[int, int, int]:
        """The last times that were used: of members, user events and queries."""
        return self._clock.time - 1, self._user_events.clock.time - 1, self._queries.ring.clock.time - 1

    def queue_lengths(self) -> tuple[int, int, int]:
        """Messages that wait to be gossiped: intents, queries, user events."""
        return len(self._intent_queue), len(self._query_queue), len(self._event_queue)

    def stats(self) -> dict[str, str]:
        """As `consul info` shows them."""
        statuses = [known.status for known in self._known.values()]
        return {
            "coordinate_resets": str(self._vivaldi.resets),
            "encrypted": str(self._protection.keyring is not None).lower(),
            "event_queue": str(len(self._event_queue)),
            "event_time": str(self._user_events.clock.time),
            "failed": str(statuses.count(MemberStatus.FAILED)),
            "health_score": str(self.swim.awareness.score),
            "intent_queue": str(len(self._intent_queue)),
            "left": str(statuses.count(MemberStatus.LEFT)),
            "member_time": str(self._clock.time),
            "members": str(len(statuses)),
            "query_queue": str(len(self._query_queue)),
            "query_time": str(self._queries.ring.clock.time),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Go on after the times of an earlier run, so that its events are not news and its intents are not newer than ours."""
        self._clock.witness(snapshot.clocks["clock"])
        for ring, kind in ((self._user_events, "event-clock"), (self._queries.ring, "query-clock")):
            ring.clock.witness(snapshot.clocks[kind])
            ring.floor = snapshot.clocks[kind] + 1

    def join(self, destination: Address) -> Exchange:
        """An exchange that makes us and the group of `destination` one; to be run by the caller, then `joined` to be called.

        User events from before are not told.
        """
        return self.swim.join(destination, skip_events=True)

    def rejoin(self, destination: Address) -> Exchange:
        """As `join`, for a group we were in before: user events we missed are news."""
        return self.swim.join(destination)

    def joined(self, now: float) -> None:
        """Tell the group that we are here on purpose."""
        intent = JoinIntent(self._clock.tick(), self._options.name)
        self._receive_join(intent, now)
        self._intent_queue.add(serf_messages.encode(intent), now)

    def update_tags(self, tags: dict[str, str], now: float) -> None:
        """Raises `serf_messages.TagsTooLarge`."""
        self.swim.update_meta(encode_tags(tags), now)
        self.node_updated(self.swim.me, now)

    def user_event(self, name: str, payload: bytes, coalesce: bool, now: float) -> None:
        """Tell every member, ourselves included. Raises `UserEventTooLarge`."""
        if len(name.encode()) + len(payload) > USER_EVENT_LIMIT:
            raise UserEventTooLarge(f"user event exceeds configured limit of {USER_EVENT_LIMIT} bytes before encoding")
        event = UserEventMessage(self._user_events.clock.time, name, payload, coalesce)
        message = serf_messages.encode(event)
        if len(message) > USER_EVENT_LIMIT:
            raise UserEventTooLarge(f"user event exceeds configured limit of {USER_EVENT_LIMIT} bytes after encoding")
        self._receive_user_event(event, now)
        self._event_queue.add(message, now)

    def force_leave(self, name: str, prune: bool, now: float) -> None:
        """Declare a failed member gone, or with `prune` forget it. Raises `UnknownMember`."""
        if name not in self._known:
            raise UnknownMember(f"No node found with name '{name}'")
        intent = LeaveIntent(self._clock.tick(), name, prune)
        self._receive_leave(intent, now)
        self._intent_queue.add(serf_messages.encode(intent), now)

    def key_operation(
        self, operation: str, key: bytes, finished: Callable[[KeyResult], None], now: float, *, relay_factor: int = 0
    ) -> None:
        """One of `keys.OPERATIONS` on all members; answers also come by way of so many others. Raises `KeyRefused`."""
        self._queries.ask_about_keys(operation, key, finished, now, relay_factor)

    # --- leaving ---------------------------------------------------------------------------------------------------------

    def leave(self, now: float) -> None:
        """Go on purpose. In steps, each of which may take a few seconds; `left` tells when it is done.

        1. Spread a leave intent.  2. Tell SWIM's group that we are dead.  3. Wait until both have been passed on.
        """
        me = self._known[self._options.name]
        if me.status is not MemberStatus.ALIVE:
            return
        me.status = MemberStatus.LEAVING
        intent = LeaveIntent(self._clock.tick(), me.name)
        me.status_time = intent.l_time
        if not self.swim.members.others_alive():
            self._leave_swim(now)
            return
        step = _once(self._leave_swim)
        self._intent_queue.add(serf_messages.encode(intent), now, finished=step)
        self._timers.at(now + _BROADCAST_TIMEOUT, step)

    def _leave_swim(self, now: float) -> None:
        alone = not self.swim.members.others_alive()
        step = _once(self._linger if not alone else self._leave_done)
        self.swim.leave(step, now)
        self._timers.at(now + _BROADCAST_TIMEOUT, step)

    def _linger(self, now: float) -> None:
        self._timers.at(now + self._options.leave_propagate_delay, self._leave_done)

    def _leave_done(self, now: float) -> None:
        self.left = True

    # --- Delegate: what SWIM found out -----------------------------------------------------------------------------------

    def node_joined(self, node: Node, now: float) -> None:
        known = self._known.get(node.name)
        if known is None:
            known = _Known(node.name, node.address, {}, node.vsn, MemberStatus.ALIVE)
            self._known[node.name] = known
            known.status = self._apply_early_intent(known)
        else:
            known.status = MemberStatus.ALIVE
        known.update(node)
        self._tell(MemberJoined(known.member()))

    def _apply_early_intent(self, known: _Known) -> MemberStatus:
        early = self._early.pop(known.name, None)
        if early is None:
            return MemberStatus.ALIVE
        known.status_time = early.time
        return early.status

    def node_left(self, node: Node, now: float) -> None:
        known = self._known.get(node.name)
        if known is None:
            return
        known.gone_at = now
        # A node that calls itself dead goes on purpose, even if its leave intent has not come this way yet.
        if known.status is MemberStatus.LEAVING or (known.status is MemberStatus.ALIVE and node.state is NodeState.LEFT):
            self._become(known, MemberStatus.LEFT, MemberLeft)
        elif known.status is MemberStatus.ALIVE:
            self._become(known, MemberStatus.FAILED, MemberFailed)

    def _become(self, known: _Known, status: MemberStatus, event: type[MemberLeft] | type[MemberFailed]) -> None:
        known.status = status
        self._tell(event(known.member()))

    def node_updated(self, node: Node, now: float) -> None:
        known = self._known.get(node.name)
        if known is not None:
            known.update(node)
            self._tell(MemberUpdated(known.member()))

    def name_conflict(self, node: Node, other: Address) -> None:
        known = self._known.get(node.name)
        if known is not None:
            self._tell(NameConflict(known.member(), other))

    def refusal(self, nodes: Sequence[NodeRecord]) -> str | None:
        try:
            self._options.merge_check([_candidate(node) for node in nodes if len(node.vsn) == VSN_SIZE])
        except (RefusedMerge, MalformedMessage) as error:
            return str(error)
        return None

    def ack_payload(self) -> bytes:
        if self._ack_payload is None:
            self._ack_payload = encode_payload(self._vivaldi.coordinate)
        return self._ack_payload

    def ping_answered(self, node: Node, round_trip: float, payload: bytes) -> None:
        self._vivaldi.observe(node.name, decode_payload(payload), round_trip)
        self._ack_payload = None

    # --- Delegate: messages ----------------------------------------------------------------------------------------------

    def has_messages(self) -> bool:
        return bool(len(self._intent_queue) or len(self._query_queue) or len(self._event_queue))

    def take_messages(self, room: int, overhead: int, now: float) -> list[bytes]:
        messages: list[bytes] = []
        for queue in (self._intent_queue, self._query_queue, self._event_queue):
            taken = queue.take(room, overhead, now)
            room -= sum(len(message) + overhead for message in taken)
            messages += taken
        return messages

    def receive_message(self, data: bytes, source: Address, now: float) -> None:
        """What is passed on is passed on as it came, byte for byte."""
        if not data:
            raise MalformedMessage("an empty user message")
        kind, body = data[0], data[1:]
        if kind == SerfKind.LEAVE:
            if self._receive_leave(unpack(body, LeaveIntent), now):
                self._pass_on(self._intent_queue, data, now)
        elif kind == SerfKind.JOIN:
            if self._receive_join(unpack(body, JoinIntent), now):
                self._pass_on(self._intent_queue, data, now)
        elif kind == SerfKind.USER_EVENT:
            if self._receive_user_event(unpack(body, UserEventMessage), now):
                self._pass_on(self._event_queue, data, now)
        elif kind == SerfKind.QUERY:
            self.swim.counters["queries"] += 1
            self._queries.receive_query(unpack(body, Query), data, now)
        elif kind == SerfKind.QUERY_RESPONSE:
            self.swim.counters["query responses"] += 1
            self._queries.receive_response(unpack(body, QueryResponse))
        elif kind == SerfKind.RELAY:
            self._queries.relay(body)
        else:
            raise MalformedMessage(f"message type {kind} is not known to Serf")

    def _pass_on(self, queue: Broadcasts, message: bytes, now: float) -> None:
        """What fits no packet came over a stream, from a node with other limits; it goes no further."""
        if len(message) <= LARGEST_USER_MESSAGE:
            queue.add(message, now)
        else:
            self.swim.counters["oversized messages"] += 1

    def _receive_leave(self, intent: LeaveIntent, now: float) -> bool:
        """Whether it is worth passing on."""
        self._clock.witness(intent.l_time)
        known = self._known.get(intent.node)
        if known is None:
            return self._remember_early(intent.node, MemberStatus.LEAVING, intent.l_time, now)
        if intent.l_time <= known.status_time:
            return False
        if known.name == self._options.name and known.status is MemberStatus.ALIVE:
            self.swim.note("refuting an older leave intent")
            self.joined(now)
            return False
        known.status_time = intent.l_time
        if known.status is MemberStatus.ALIVE:
            known.status = MemberStatus.LEAVING
        elif known.status is MemberStatus.FAILED:
            self._become(known, MemberStatus.LEFT, MemberLeft)
        if intent.prune:
            self._prune(known, now)
        return True

    def _prune(self, known: _Known, now: float) -> None:
        """A member that is still leaving gets the time to do so."""
        if known.status is MemberStatus.LEAVING:
            wait = _BROADCAST_TIMEOUT + self._options.leave_propagate_delay
            self._timers.at(now + wait, lambda _: self._forget(known))
        else:
            self._forget(known)

    def _receive_join(self, intent: JoinIntent, now: float) -> bool:
        """Whether it is worth passing on."""
        self._clock.witness(intent.l_time)
        known = self._known.get(intent.node)
        if known is None:
            return self._remember_early(intent.node, MemberStatus.ALIVE, intent.l_time, now)
        if intent.l_time <= known.status_time:
            return False
        known.status_time = intent.l_time
        if known.status is MemberStatus.LEAVING:
            known.status = MemberStatus.ALIVE
        return True

    def _remember_early(self, name: str, status: MemberStatus, time: int, now: float) -> bool:
        early = self._early.get(name)
        if early is not None and time <= early.time:
            return False
        if early is None and len(self._early) >= _MAX_INTENTS:
            self.swim.counters["forgotten intents"] += 1
            self._early.pop(next(iter(self._early)))
        self._early[name] = _EarlyIntent(status, time, now)
        return True

    def _receive_user_event(self, event: UserEventMessage, now: float) -> bool:
        """Whether it is news."""
        payload = event.payload or b""
        if not self._user_events.admit(event.l_time, (event.name, payload)):
            return False
        self._coalescer.add(UserEvent(event.name, payload, event.l_time, event.coalesce), now)
        return True

    # --- Delegate: exchanges ---------------------------------------------------------------------------------------------

    def local_state(self, nodes: Sequence[Node]) -> bytes:
        """Of all who left, some of whom SWIM takes for failed, and of these nodes.

        Members that are leaving are left out: their times would be taken for those of joins, and hide the leaves.
        """
        told = {node.name for node in nodes}
        settled = [
            known
            for known in self._known.values()
            if known.status is MemberStatus.LEFT or (known.name in told and known.status is not MemberStatus.LEAVING)
        ]
        state = SerfState(
            l_time=self._clock.time,
            status_l_times={known.name: known.status_time for known in settled},
            left_members=[known.name for known in settled if known.status is MemberStatus.LEFT],
            event_l_time=self._user_events.clock.time,
            events=[slot and EventsAt(slot[0], [RecentEvent(*item) for item in slot[1]]) for slot in self._user_events.slots()],
            query_l_time=self._queries.ring.clock.time,
        )
        return serf_messages.encode(state)

    def merge_state(self, state: bytes, now: float, *, skip_events: bool) -> None:
        """Those who left come first, so that the times of the others do not make their leaves look old."""
        if state[:1] != bytes((SerfKind.PUSH_PULL,)):
            raise MalformedMessage(f"a push/pull with user state of type {state[:1].hex()}")
        remote = unpack(state[1:], SerfState, _MAX_STATE_ITEMS)
        self._witness_clocks(remote)
        left = set(remote.left_members)
        for name in remote.left_members:
            self._merge_left(name, remote.status_l_times.get(name, 0), now)
        for name, time in remote.status_l_times.items():
            if name not in left:
                self._receive_join(JoinIntent(time, name), now)
        if skip_events:
            self._user_events.floor = max(self._user_events.floor, remote.event_l_time)
        for slot in filter(None, remote.events):
            for event in slot.events:
                self._receive_user_event(UserEventMessage(slot.l_time, event.name, event.payload), now)

    def _witness_clocks(self, remote: SerfState) -> None:
        """The state holds times that were not used yet."""
        for clock, time in (
            (self._clock, remote.l_time),
            (self._user_events.clock, remote.event_l_time),
            (self._queries.ring.clock, remote.query_l_time),
        ):
            if time > 0:
                clock.witness(time - 1)

    def _merge_left(self, name: str, time: int, now: float) -> None:
        """The time of the leave itself is not in the state; it came after the time that is."""
        known = self._known.get(name)
        if known is not None and known.status is MemberStatus.LEFT:
            known.status_time = max(known.status_time, time)
        else:
            self._receive_leave(LeaveIntent(time + 1, name), now)

    # --- Group: what queries need ----------------------------------------------------------------------------------------

    def relays(self, count: int) -> list[Member]:
        """Some other living members that understand relayed answers; none in a group that is hardly larger."""
        able = [
            known
            for known in self._known.values()
            if known.status is MemberStatus.ALIVE and known.name != self._options.name and known.vsn[4] >= _SINCE_RELAYS
        ]
        if len(self._known) < count + 1:
            return []
        return [known.member() for known in self._rng.sample(able, min(count, len(able)))]

    def alive_count(self) -> int:
        return sum(known.status is MemberStatus.ALIVE for known in self._known.values())

    def send(self, message: bytes, destination: Address, name: str) -> None:
        self.swim.send_user_message(message, destination, name)

    def spread_query(self, message: bytes, now: float) -> None:
        self._pass_on(self._query_queue, message, now)

    def keyring_changed(self) -> None:
        if self._protection.keyring is not None:
            self._tell(KeyringChanged(self._protection.keyring.keys))

    # --- forgetting and looking for the lost -----------------------------------------------------------------------------

    def _reap(self, now: float) -> None:
        self._timers.at(now + _REAP_INTERVAL, self._reap)
        lifetimes = {
            MemberStatus.FAILED: self._options.reconnect_timeout,
            MemberStatus.LEFT: self._options.tombstone_timeout,
        }
        for known in list(self._known.values()):
            if known.name != self._options.name and now - known.gone_at > lifetimes.get(known.status, math.inf):
                self._forget(known)
        self._early = {name: early for name, early in self._early.items() if now - early.heard_at <= _INTENT_LIFETIME}

    def _forget(self, known: _Known) -> None:
        if self._known.get(known.name) is known:
            del self._known[known.name]
            self._vivaldi.forget(known.name)
            self._tell(MemberReaped(known.member()))

    def _reconnect(self, now: float) -> None:
        """Try one failed member; the more of the group is lost, the more eagerly."""
        self._timers.at(now + _RECONNECT_INTERVAL, self._reconnect)
        failed = [known for known in self._known.values() if known.status is MemberStatus.FAILED]
        if failed and self._rng.random() <= len(failed) / max(self.alive_count(), 1):
            self.swim.reconnect(self._rng.choice(failed).address)


def _candidate(node: NodeRecord) -> Member:
    """A node of a push/pull or an alive claim as a merge check sees it."""
    status = MemberStatus.LEFT if node.state == NodeState.LEFT else MemberStatus.NONE
    return _member(node.name, (ip_text(node.addr), node.port), decode_tags(node.meta), status, node.vsn)


def _once(action: Callable[[float], None]) -> Callable[[float], None]:
    """The action, for the first of several occasions."""
    pending = [action]

    def run(now: float) -> None:
        while pending:
            pending.pop()(now)

    return run

"""SWIM with Lifeguard: who is alive, found out by probing and spread by gossip.

In go packets (`receive_packet`), streams (`serve`), and time (`tick`, at the latest at `deadline`). Out come packets
(`take_packets`), streams to open (`take_exchanges`) and calls of the `Delegate`, which is Serf's layer.

Four activities run side by side (Das, Gupta, Motivala: "SWIM"; Dadgar et al.: "Lifeguard"):

 * Probing. One node after another is pinged. Without an ack in `probe_timeout` some others are asked to ping it (indirect
   ping), and a ping is tried over TCP. Without any answer in the interval, stretched by our own ill health, it is suspect.
   Failures come together: as long as a suspicion is fresh, those in good health probe faster (our addition).
 * Suspicion. A suspect that does not refute in time is dead. The more nodes agree, the shorter that time.
 * Gossip. Claims leave in the room that other packets have left, and in packets of their own each `gossip_interval`. Every
   claim that changed something here is passed on a limited number of times.
 * Exchange. On joining, two nodes tell each other all they know over TCP. Now and then they tell what they learnt lately and
   a part of the rest, so that it costs the same in a group of any size (memberlist tells all). There "dead" counts only as
   "suspect", so that one stale node cannot kill the living.

When a tick comes late, this process stood still and heard nobody; silence then proves nothing. All deadlines move by as
much as the tick is late, and our health gets worse by one.
"""

import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from .broadcasts import Broadcasts
from .codec import COMPOUND_OVERHEAD, MalformedMessage, encode, unpack
from .members import (
    MAX_INCARNATION,
    VSN_SIZE,
    Address,
    Members,
    Node,
    Verdict,
    ip_bytes,
    ip_text,
    judge_alive,
    judge_dead,
    judge_suspect,
    record_of,
)
from .messages import Ack, Alive, Dead, ErrorReply, IndirectPing, Kind, Message, Nack, NodeRecord, NodeState, Ping, Suspect
from .packets import Packet, PacketCodec
from .profile import Profile
from .security import Protection
from .strangers import Strangers
from .streams import PushPull, StreamMessage, StreamParser, StreamRefused, UserMessage, encode_error, encode_push_pull
from .suspicion import (
    Awareness,
    Suspicion,
    expected_confirmations,
    retransmit_limit,
    suspicion_timeout,
)
from .timers import Timer, Timers

_SINCE_TCP_PING: Final = 3
_SINCE_NACK: Final = 4
_SINCE_CRC: Final = 5
"""The protocol versions that brought these."""

_NACK_AFTER: Final = 0.8
"""Share of the probe timeout after which a relay tells that it too hears nothing; at the whole of it, it would be too late
for whoever asked (Lifeguard, section IV.A)."""
_HURRY: Final = 10
_ALARM_INTERVALS: Final = 3
"""How much faster, and for how many intervals, nodes are probed after somebody was suspected."""
_MAX_PROBES: Final = 8
_SHARE: Final = 10
"""Nodes that an exchange tells of at least, if there are so many."""
_LATELY: Final = 2
"""Intervals between exchanges for which what happened is news, and told in every one."""
_MAX_RELAYS: Final = 1024
_MAX_NAME: Final = 256
_MAX_META: Final = 512
"""Bytes; with both at their limit a claim still fits into a packet."""
_COMPLAINT_INTERVAL: Final = 10.0
_MAX_NOTES: Final = 100
_MAX_PROBE_TIMES: Final = 256


class Delegate(Protocol):
    """The layer above: gets what SWIM carries for it and what SWIM found out."""

    def receive_message(self, data: bytes, source: Address, now: float) -> None: ...
    def has_messages(self) -> bool: ...
    def take_messages(self, room: int, overhead: int, now: float) -> list[bytes]:
        """Messages to spread, no longer together than `room` when each costs `overhead` more."""

    def local_state(self, nodes: Sequence[Node]) -> bytes:
        """What an exchange that tells of these nodes says of them and of the group as a whole."""

    def merge_state(self, state: bytes, now: float, *, skip_events: bool) -> None:
        """Raises `MalformedMessage`."""

    def refusal(self, nodes: Sequence[NodeRecord]) -> str | None:
        """Why these may not be in a group with us."""

    def node_joined(self, node: Node, now: float) -> None: ...
    def node_left(self, node: Node, now: float) -> None: ...
    def node_updated(self, node: Node, now: float) -> None: ...
    def name_conflict(self, node: Node, other: Address) -> None: ...
    def ack_payload(self) -> bytes | None: ...
    def ping_answered(self, node: Node, round_trip: float, payload: bytes) -> None: ...


class Exchange:
    """A stream to open: send `request`, pass on what comes back until `finished`. At most `timeout` seconds for all.

    `of_state`: two nodes tell each other what they know; otherwise it is a ping.
    """

    def __init__(
        self,
        destination: Address,
        request: bytes,
        timeout: float,
        protection: Protection,
        on_reply: Callable[[StreamMessage, float], None],
    ) -> None:
        self.destination = destination
        self.request = request
        self.timeout = timeout
        self.of_state = False
        self.finished = False
        self.error: str | None = None
        self._parser = StreamParser(protection)
        self._on_reply = on_reply

    def receive(self, data: bytes, now: float) -> None:
        if self.finished:
            return
        try:
            reply = self._parser.feed(data)
            if reply is not None:
                self.finished = True
                self._on_reply(reply, now)
        except StreamRefused as refusal:
            self.fail(str(refusal))

    def fail(self, reason: str) -> None:
        """It could not be opened, broke off, took too long, or carried nonsense."""
        self.finished = True
        self.error = reason


class Served:
    """A stream that somebody opened to us: bytes in, the reply out, until `finished`. `complain` hears what was wrong."""

    def __init__(
        self,
        protection: Protection,
        answer: Callable[[StreamMessage, float], bytes],
        complain: Callable[[str, float], None],
    ) -> None:
        self.finished = False
        self._begun = False
        self._parser = StreamParser(protection)
        self._protection = protection
        self._answer = answer
        self._complain = complain

    def cut_off(self, now: float) -> None:
        """The connection ended. One that said nothing at all is no fault: somebody looked whether the port is open."""
        if self._begun and not self.finished:
            self._complain("the stream ended before its message did", now)
        self.finished = True

    def receive(self, data: bytes, now: float) -> bytes:
        """What to send back; the connection ends with it once `finished`."""
        self._begun = True
        try:
            message = self._parser.feed(data)
        except StreamRefused as refusal:
            self.finished = True
            self._complain(str(refusal), now)
            return self._protection.seal_stream(encode_error(str(refusal)))
        if message is None:
            return b""
        self.finished = True
        return self._answer(message, now)


@dataclass(slots=True)
class _Probe:
    """A ping that is under way. `indirect` once others were asked, `overtaken` once the next node is probed beside it."""

    node: Node
    seq_no: int
    sent: float
    timers: list[Timer] = field(default_factory=list)
    indirect: bool = False
    overtaken: bool = False
    expected_nacks: int = 0
    nacks: int = 0
    answered_over_tcp: bool = False


class Swim:
    """One node's part in the protocol. Times in seconds of one clock; `vsn` are our six version numbers."""

    def __init__(
        self,
        name: str,
        address: Address,
        meta: bytes,
        vsn: bytes,
        *,
        profile: Profile,
        protection: Protection,
        delegate: Delegate,
        timers: Timers,
        rng: random.Random,
        now: float,
    ) -> None:
        self.me = Node(name, address, meta, vsn, 1, NodeState.ALIVE, now, now)
        self.members = Members(self.me, rng)
        self.awareness = Awareness(profile.awareness_max_multiplier)
        self.counters: Counter[str] = Counter()
        self.strangers = Strangers()
        self.leaving = False
        self._profile = profile
        self._protection = protection
        self._codec = PacketCodec(protection)
        self._delegate = delegate
        self._timers = timers
        self._rng = rng
        self._queue = Broadcasts(self.retransmit_limit)
        self._packets: list[Packet] = []
        self._exchanges: list[Exchange] = []
        self._notes: list[str] = []
        self._probe_times: deque[float] = deque(maxlen=_MAX_PROBE_TIMES)
        self._complained_at: dict[str, float] = {}
        self._seq_no = rng.randrange(1 << 16)
        self._probes: dict[int, _Probe] = {}
        self._next_probe: Timer | None = None
        self._alarmed_until = now
        self._relays: dict[int, Callable[[float], None]] = {}

    def start(self, now: float) -> None:
        """Begin to probe, gossip and exchange, each at a random offset so that groups started together spread out."""
        self._broadcast_alive(now)
        self._later(self._rng.random() * self._profile.gossip_interval, self._gossip, now)
        self._schedule_probe(now + self._rng.random() * self._profile.probe_interval)
        self._later(self._rng.random() * self._profile.push_pull_interval, self._exchange_with_someone, now)

    def _later(self, delay: float, action: Callable[[float], None], now: float) -> Timer:
        return self._timers.at(now + delay, action)

    # --- the door --------------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        return self._timers.earliest()

    def tick(self, now: float) -> None:
        """Do what is due. Must also be called when it is late; packets that wait should be handed in before."""
        late = now - self._timers.earliest()
        if late > self._profile.probe_timeout / 2:
            self._stood_still(late)
        self._timers.run_due(now)

    def _stood_still(self, seconds: float) -> None:
        self.counters["stalls"] += 1
        self.awareness.add(1)
        self._timers.postpone(seconds)
        for node in self.members:
            if node.suspicion is not None:
                node.suspicion.postpone(seconds)

    def take_packets(self) -> list[Packet]:
        packets, self._packets = self._packets, []
        return packets

    def take_exchanges(self) -> list[Exchange]:
        exchanges, self._exchanges = self._exchanges, []
        return exchanges

    def take_notes(self) -> list[str]:
        """Lines for the log."""
        notes, self._notes = self._notes, []
        return notes

    def take_probe_times(self) -> list[float]:
        """How long the last probes took, answered or not, in seconds."""
        times = list(self._probe_times)
        self._probe_times.clear()
        return times

    def note(self, text: str) -> None:
        if len(self._notes) < _MAX_NOTES:
            self._notes.append(text)

    def receive_packet(self, data: bytes, source: Address, now: float) -> None:
        opened = self._codec.open(data)
        for message in opened.messages:
            try:
                self._handle(message, source, now)
            except MalformedMessage as error:
                opened.complaints.append(str(error))
        if opened.complaints:
            self._complain("packet", source, opened.complaints[0], now)

    def _complain(self, kind: str, source: Address, complaint: str, now: float) -> None:
        """Count what made no sense or was not allowed, and tell of it now and then."""
        self.counters[f"bad {kind}s"] += 1
        self.strangers.met(source[0], complaint, now)
        if now - self._complained_at.get(kind, -math.inf) >= _COMPLAINT_INTERVAL:
            self._complained_at[kind] = now
            self.note(f"bad {kind}: from={source[0]}:{source[1]} error={complaint} total={self.counters[f'bad {kind}s']}")

    def send_failed(self, destination: Address, now: float) -> None:
        """A packet could not even be sent: a probe to there need not wait before it asks others."""
        for probe in list(self._probes.values()):
            if probe.node.address == destination:
                self._probe_indirectly(probe, now)

    def serve(self, source: Address) -> Served:
        """A stream that was accepted."""
        return Served(self._protection, partial(self._answer, source), partial(self._complain, "stream", source))

    def join(self, destination: Address, *, skip_events: bool = False) -> Exchange:
        """An exchange of all with one node, for the caller to run. `skip_events`: past user events are none of our business."""
        return self._push_pull(destination, self._all_we_know(), partial(self._merge_reply, True, skip_events))

    def reconnect(self, destination: Address) -> None:
        """Try to join a node again that was lost."""
        self._exchanges.append(self.join(destination))

    def _push_pull(self, destination: Address, state: bytes, on_reply: Callable[[StreamMessage, float], None]) -> Exchange:
        exchange = self._exchange(destination, state, on_reply, timeout=self._profile.tcp_timeout)
        exchange.of_state = True
        return exchange

    def _exchange(
        self, destination: Address, request: bytes, on_reply: Callable[[StreamMessage, float], None], *, timeout: float
    ) -> Exchange:
        return Exchange(destination, self._protection.seal_stream(request), timeout, self._protection, on_reply)

    def send_user_message(self, data: bytes, destination: Address, name: str = "") -> None:
        """One message of the layer above, straight to one node. `name`, where known, tells whether it takes checksums."""
        node = self.members.get(name)
        crc = node is not None and node.protocol_max >= _SINCE_CRC
        self._packets.append(Packet(self._codec.seal([bytes((Kind.USER,)) + data], crc=crc), destination))

    def update_meta(self, meta: bytes, now: float) -> None:
        self.me.meta = meta
        self._raise_incarnation(self.me.incarnation)
        self._broadcast_alive(now)

    def leave(self, finished: Callable[[float], None], now: float) -> None:
        """Tell the others that we go. `finished` is called once that has been sent often enough, or nobody is there."""
        self.leaving = True
        farewell = Dead(self.me.incarnation, self.me.name, self.me.name)
        if self.members.others_alive():
            self._receive_dead(farewell, now, finished)
        else:
            self._receive_dead(farewell, now)
            finished(now)

    def retransmit_limit(self) -> int:
        return retransmit_limit(self._profile.retransmit_mult, len(self.members))

    # --- sending ---------------------------------------------------------------------------------------------------------

    def _send(self, message: Message, destination: Address, now: float) -> None:
        """A message of the protocol, with gossip in the room it leaves."""
        data = encode(message)
        room = self._codec.room - len(data) - COMPOUND_OVERHEAD
        self._packets.append(Packet(self._codec.seal([data, *self._gossip_for(room, now)], crc=False), destination))

    def _gossip_for(self, room: int, now: float) -> list[bytes]:
        messages = self._queue.take(room, COMPOUND_OVERHEAD, now)
        room -= sum(len(message) + COMPOUND_OVERHEAD for message in messages)
        user_overhead = COMPOUND_OVERHEAD + 1
        if room > user_overhead:
            user = bytes((Kind.USER,))
            messages += [user + data for data in self._delegate.take_messages(room, user_overhead, now)]
        return messages

    def _broadcast(self, about: str, message: Message, now: float, finished: Callable[[float], None] | None = None) -> None:
        self._queue.add(encode(message), now, name=about, finished=finished)

    def _broadcast_alive(self, now: float) -> None:
        self._broadcast(self.me.name, self.me.alive_claim(), now)

    def _gossip(self, now: float) -> None:
        self._later(self._profile.gossip_interval, self._gossip, now)
        if not len(self._queue) and not self._delegate.has_messages():
            return
        for node in self.members.sample(self._profile.gossip_nodes, partial(self._hears_gossip, now)):
            messages = self._gossip_for(self._codec.room - COMPOUND_OVERHEAD, now)
            if not messages:
                return
            data = self._codec.seal(messages, crc=node.protocol_max >= _SINCE_CRC)
            self._packets.append(Packet(data, node.address))

    def _hears_gossip(self, now: float, node: Node) -> bool:
        if node is self.me or node.state is NodeState.LEFT:
            return False
        return node.state is not NodeState.DEAD or now - node.changed_at <= self._profile.gossip_to_the_dead_time

    # --- probing ---------------------------------------------------------------------------------------------------------

    def _probe_next(self, now: float) -> None:
        node = self.members.next_to_probe(now, self._profile.gossip_to_the_dead_time)
        if node is None or any(probe.node is node for probe in self._probes.values()):
            self._schedule_probe(now + self._probe_pause(now))
            return
        probe = _Probe(node, self._next_seq_no(), now)
        self._probes[probe.seq_no] = probe
        self.counters["degraded probes"] += self.awareness.score > 0
        probe.timers = [
            self._later(self._profile.probe_timeout, partial(self._probe_indirectly, probe), now),
            self._later(self.awareness.scale(self._profile.probe_interval), partial(self._conclude_unanswered, probe), now),
        ]
        self._send_probe(probe, now)

    def _send_probe(self, probe: _Probe, now: float) -> None:
        node = probe.node
        ping = Ping(probe.seq_no, node.name, *self._source_fields())
        if node.state is NodeState.ALIVE:
            self._send(ping, node.address, now)
            return
        # A suspect learns of the suspicion with the ping, so that it can refute at once.
        suspect = Suspect(node.incarnation, node.name, self.me.name)
        data = self._codec.seal([encode(ping), encode(suspect)], crc=node.protocol_max >= _SINCE_CRC)
        self._packets.append(Packet(data, node.address))

    def _source_fields(self) -> tuple[bytes, int, str]:
        host, port = self.me.address
        return ip_bytes(host), port, self.me.name

    def _next_seq_no(self) -> int:
        self._seq_no = (self._seq_no + 1) & 0xFFFF_FFFF
        return self._seq_no

    def _probe_indirectly(self, probe: _Probe, now: float) -> None:
        if probe.indirect:
            return
        probe.indirect = True
        host, port = probe.node.address
        for relay in self.members.sample(self._profile.indirect_checks, partial(self._can_relay, probe.node)):
            nack = relay.protocol_max >= _SINCE_NACK
            probe.expected_nacks += nack
            request = IndirectPing(probe.seq_no, ip_bytes(host), port, probe.node.name, nack, *self._source_fields())
            self._send(request, relay.address, now)
        if probe.node.protocol_max >= _SINCE_TCP_PING:
            self._ping_over_tcp(probe, now)
        if self._in_a_hurry(now) and len(self._probes) < _MAX_PROBES:
            probe.overtaken = True
            self._schedule_probe(now)

    def _can_relay(self, target: Node, node: Node) -> bool:
        return node is not self.me and node is not target and node.state is NodeState.ALIVE

    def _ping_over_tcp(self, probe: _Probe, now: float) -> None:
        left = probe.sent + self.awareness.scale(self._profile.probe_interval) - now
        if left <= 0:
            return
        ping = encode(Ping(probe.seq_no, probe.node.name, *self._source_fields()))
        self._exchanges.append(self._exchange(probe.node.address, ping, partial(self._answered_over_tcp, probe), timeout=left))

    def _answered_over_tcp(self, probe: _Probe, reply: StreamMessage, now: float) -> None:
        if not isinstance(reply, Ack) or reply.seq_no != probe.seq_no:
            raise StreamRefused(f"no ack for ping {probe.seq_no}")
        probe.answered_over_tcp = True

    def _conclude_unanswered(self, probe: _Probe, now: float) -> None:
        """The end of a probe without an ack by UDP. A ping over TCP that was answered still clears the node."""
        if probe.answered_over_tcp:
            self.note(f"node answers over TCP but not over UDP: node={probe.node.name}")
            self._conclude(probe, -1, now)
            return
        missing = probe.expected_nacks - probe.nacks if probe.expected_nacks else 1
        node = probe.node
        self._conclude(probe, missing, now)
        self.counters["failed probes"] += 1
        self._receive_suspect(Suspect(node.incarnation, node.name, self.me.name), now)

    def _conclude(self, probe: _Probe, awareness: int, now: float) -> None:
        for timer in probe.timers:
            timer.cancel()
        del self._probes[probe.seq_no]
        self._probe_times.append(now - probe.sent)
        self.awareness.add(awareness)
        if not probe.overtaken:
            self._schedule_probe(max(now, probe.sent + self._probe_pause(now)))

    def _schedule_probe(self, when: float) -> None:
        self._next_probe = self._timers.at(when, self._probe_next)

    def _in_a_hurry(self, now: float) -> bool:
        """Failures come together: while there is a fresh suspicion, those who are well look at more nodes."""
        return now < self._alarmed_until and not self.awareness.score

    def _probe_pause(self, now: float) -> float:
        return self._profile.probe_interval / (_HURRY if self._in_a_hurry(now) else 1)

    def _alarm(self, now: float) -> None:
        self._alarmed_until = now + _ALARM_INTERVALS * self._profile.probe_interval
        waiting, pause = self._next_probe, self._probe_pause(now)
        if waiting is not None and waiting.action is not None and waiting.when > now + pause:
            waiting.cancel()
            self._schedule_probe(now + self._rng.random() * pause)

    # --- packets ---------------------------------------------------------------------------------------------------------

    def _handle(self, message: bytes, source: Address, now: float) -> None:
        kind, body = message[0], message[1:]
        if kind == Kind.PING:
            self._handle_ping(unpack(body, Ping), source, now)
        elif kind == Kind.INDIRECT_PING:
            self._handle_indirect_ping(unpack(body, IndirectPing), source, now)
        elif kind == Kind.ACK:
            self._handle_ack(unpack(body, Ack), now)
        elif kind == Kind.NACK:
            self._handle_nack(unpack(body, Nack))
        elif kind == Kind.SUSPECT:
            self.counters["suspect messages"] += 1
            self._receive_suspect(unpack(body, Suspect), now)
        elif kind == Kind.ALIVE:
            self.counters["alive messages"] += 1
            self._receive_alive(unpack(body, Alive), now)
        elif kind == Kind.DEAD:
            self.counters["dead messages"] += 1
            self._receive_dead(unpack(body, Dead), now)
        elif kind == Kind.USER:
            self._delegate.receive_message(body, source, now)
        else:
            raise MalformedMessage(f"message type {kind} is not known for packets")

    def _handle_ping(self, ping: Ping, source: Address, now: float) -> None:
        if ping.node and ping.node != self.me.name:
            raise MalformedMessage(f"ping for another node: {ping.node}")
        ack = Ack(ping.seq_no, self._delegate.ack_payload())
        self._send(ack, _reply_address(ping, source), now)

    def _handle_indirect_ping(self, request: IndirectPing, source: Address, now: float) -> None:
        if len(self._relays) >= _MAX_RELAYS:
            self.counters["refused relays"] += 1
            return
        requester, target = _reply_address(request, source), (ip_text(request.target), request.port)
        self._remind_of_death(request.node, target, now)
        seq_no, patience = self._next_seq_no(), self._profile.probe_timeout
        timers = [self._later(patience, partial(self._forget_relay, seq_no), now)]
        if request.nack:
            nack = partial(self._send, Nack(request.seq_no), requester)
            timers.append(self._later(patience * _NACK_AFTER, nack, now))

        def answered(when: float) -> None:
            for timer in timers:
                timer.cancel()
            self._send(Ack(request.seq_no), requester, when)

        self._relays[seq_no] = answered
        self._send(Ping(seq_no, request.node, *self._source_fields()), target, now)

    def _remind_of_death(self, name: str, address: Address, now: float) -> None:
        """Who still looks for the dead missed the news; it leaves with our answer, and once more to others."""
        node = self.members.get(name)
        if node is not None and node.gone and node.address == address and name not in self._queue:
            accuser = name if node.state is NodeState.LEFT else self.me.name
            self._broadcast(name, Dead(node.incarnation, name, accuser), now)

    def _forget_relay(self, seq_no: int, now: float) -> None:
        del self._relays[seq_no]

    def _handle_ack(self, ack: Ack, now: float) -> None:
        answered = self._relays.pop(ack.seq_no, None)
        if answered is not None:
            answered(now)
            return
        probe = self._probes.get(ack.seq_no)
        if probe is None:
            return
        self._conclude(probe, -1, now)
        if not probe.indirect and ack.payload:
            self._delegate.ping_answered(probe.node, now - probe.sent, ack.payload)

    def _handle_nack(self, nack: Nack) -> None:
        probe = self._probes.get(nack.seq_no)
        if probe is not None:
            probe.nacks = min(probe.nacks + 1, probe.expected_nacks)

    # --- claims ----------------------------------------------------------------------------------------------------------

    def _receive_alive(self, claim: Alive, now: float) -> None:
        own = claim.node == self.me.name
        if own and self.leaving:
            return
        _check_claim(claim)
        address = (ip_text(claim.addr), claim.port)
        node = self.members.get(claim.node)
        verdict = Verdict.ACCEPT
        if node is not None:
            verdict = judge_alive(node, claim, own=own, name_is_free=self._name_is_free(node, now))
        if verdict is Verdict.IGNORE:
            return
        refusal = self._delegate.refusal([record_of(claim)])
        if refusal is not None:
            self.counters["refused nodes"] += 1
            self.strangers.met(address[0], refusal, now)
            self.note(f"ignoring alive message: node={claim.node} reason={refusal}")
        elif node is None:
            self._add(claim, address, now)
        elif verdict is Verdict.CONFLICT:
            self._delegate.name_conflict(node, address)
        elif verdict is Verdict.REFUTE:
            self._refute(claim.incarnation, now)
        else:
            self._accept_alive(node, claim, address, now)

    def _name_is_free(self, node: Node, now: float) -> bool:
        if node.state is NodeState.LEFT:
            return True
        return node.state is NodeState.DEAD and now - node.changed_at > self._profile.dead_node_reclaim_time

    def _add(self, claim: Alive, address: Address, now: float) -> None:
        if not claim.node or not claim.incarnation:
            return
        node = Node(claim.node, address, b"", claim.vsn, 0, NodeState.DEAD, now, now)
        self.members.add(node)
        self._accept_alive(node, claim, address, now)

    def _accept_alive(self, node: Node, claim: Alive, address: Address, now: float) -> None:
        self._end_suspicion(node)
        was_gone, changed = node.gone, node.meta != claim.meta
        self._broadcast(node.name, claim, now)
        node.address, node.meta, node.vsn, node.incarnation = address, claim.meta, claim.vsn, claim.incarnation
        node.news_at = now
        if node.state is not NodeState.ALIVE:
            node.state, node.changed_at = NodeState.ALIVE, now
        if was_gone:
            self._delegate.node_joined(node, now)
        elif changed:
            self._delegate.node_updated(node, now)

    def _receive_suspect(self, claim: Suspect, now: float) -> None:
        node = self.members.get(claim.node)
        if node is None:
            return
        verdict = judge_suspect(node, claim, own=node is self.me)
        if verdict is Verdict.REFUTE:
            self._refute(claim.incarnation, now)
        elif verdict is Verdict.ACCEPT:
            self._suspect(node, claim, now)
        elif verdict is Verdict.CONFIRM and node.suspicion is not None and node.suspicion.confirm(claim.from_):
            self._broadcast(node.name, claim, now)
            self._time_suspicion(node, node.suspicion)

    def _suspect(self, node: Node, claim: Suspect, now: float) -> None:
        node.incarnation, node.state, node.changed_at, node.news_at = claim.incarnation, NodeState.SUSPECT, now, now
        self._broadcast(node.name, claim, now)
        count = len(self.members)
        shortest = suspicion_timeout(self._profile.suspicion_mult, count, self._profile.probe_interval)
        node.suspicion = Suspicion(
            claim.from_,
            expected_confirmations(self._profile.suspicion_mult, count),
            shortest,
            shortest * self._profile.suspicion_max_timeout_mult,
            now,
        )
        self._time_suspicion(node, node.suspicion)
        self._alarm(now)

    def _time_suspicion(self, node: Node, suspicion: Suspicion) -> None:
        if node.timer is not None:
            node.timer.cancel()
        node.timer = self._timers.at(suspicion.deadline, partial(self._suspicion_expired, node))

    def _suspicion_expired(self, node: Node, now: float) -> None:
        self._receive_dead(Dead(node.incarnation, node.name, self.me.name), now)

    def _end_suspicion(self, node: Node) -> None:
        if node.timer is not None:
            node.timer.cancel()
        node.suspicion = node.timer = None

    def _receive_dead(self, claim: Dead, now: float, sent: Callable[[float], None] | None = None) -> None:
        node = self.members.get(claim.node)
        if node is None:
            return
        verdict = judge_dead(node, claim, own=node is self.me, leaving=self.leaving)
        if verdict is Verdict.REFUTE:
            self._refute(claim.incarnation, now)
        elif verdict is Verdict.ACCEPT:
            self._end_suspicion(node)
            self._broadcast(node.name, claim, now, sent)
            node.incarnation, node.changed_at, node.news_at = claim.incarnation, now, now
            node.state = NodeState.LEFT if claim.from_ == claim.node else NodeState.DEAD
            self._delegate.node_left(node, now)

    def _refute(self, accused: int, now: float) -> None:
        """Somebody is wrong about us: say so with a higher incarnation. To be accused is a sign of ill health."""
        self.awareness.add(1)
        self.counters["refutations"] += 1
        self._raise_incarnation(max(self.me.incarnation, accused))
        self._broadcast_alive(now)

    def _raise_incarnation(self, above: int) -> None:
        self.me.incarnation = min(above + 1, MAX_INCARNATION)

    # --- exchanges -------------------------------------------------------------------------------------------------------

    def _exchange_with_someone(self, now: float) -> None:
        self._later(self._profile.push_pull_interval, self._exchange_with_someone, now)
        for node in self.members.sample(1, self._is_other_alive):
            reply = partial(self._merge_reply, False, False)
            self._exchanges.append(self._push_pull(node.address, self._what_is_new(now), reply))

    def _is_other_alive(self, node: Node) -> bool:
        return node is not self.me and node.state is NodeState.ALIVE

    def _all_we_know(self) -> bytes:
        return self._state(list(self.members), join=True)

    def _what_is_new(self, now: float) -> bytes:
        lately = now - _LATELY * self._profile.push_pull_interval
        return self._state(self.members.worth_telling(lately, _SHARE), join=False)

    def _state(self, nodes: list[Node], *, join: bool) -> bytes:
        return encode_push_pull(PushPull(join, [node.record() for node in nodes], self._delegate.local_state(nodes)))

    def _answer(self, source: Address, message: StreamMessage, now: float) -> bytes:
        if isinstance(message, PushPull):
            reply = self._all_we_know() if message.join else self._what_is_new(now)
            try:
                self._merge(message, now, join=message.join)
            except StreamRefused as refusal:
                self._complain("exchange", source, str(refusal), now)
            return self._protection.seal_stream(reply)
        if isinstance(message, Ping) and message.node in ("", self.me.name):
            return self._protection.seal_stream(encode(Ack(message.seq_no)))
        if isinstance(message, UserMessage):
            self._receive_user_stream(message.data, source, now)
        return b""

    def _receive_user_stream(self, data: bytes, source: Address, now: float) -> None:
        try:
            self._delegate.receive_message(data, source, now)
        except MalformedMessage as error:
            self._complain("stream", source, str(error), now)

    def _merge_reply(self, join: bool, skip_events: bool, reply: StreamMessage, now: float) -> None:
        if isinstance(reply, ErrorReply):
            raise StreamRefused(f"remote error: {reply.error}")
        if not isinstance(reply, PushPull):
            raise StreamRefused(f"{type(reply).__name__} instead of a push/pull")
        if join:
            self._check_own_name(reply.nodes, now)
        self._merge(reply, now, join=join, skip_events=skip_events)

    def _check_own_name(self, nodes: list[NodeRecord], now: float) -> None:
        """Who joins under the name of somebody who lives is not taken in, and should know why. Raises `StreamRefused`."""
        for record in nodes:
            if record.name == self.me.name and (ip_text(record.addr), record.port) != self.me.address:
                if record.state in (NodeState.ALIVE, NodeState.SUSPECT):
                    holder = f"{ip_text(record.addr)}:{record.port}"
                    raise StreamRefused(
                        f"node name '{record.name}' is already in use by the living member at {holder}; give this agent "
                        "another node_name, or stop the other one: its name is free some time after it left or failed"
                    )
                # The others will believe us only when its holder has been dead for long enough.
                self._later(self._profile.dead_node_reclaim_time + 1, self._broadcast_alive, now)

    def _merge(self, remote: PushPull, now: float, *, join: bool, skip_events: bool = False) -> None:
        """Take over what another node knows. Raises `StreamRefused`; of nodes that may not be with us nothing is taken."""
        self._check_compatible(remote.nodes)
        refusal = self._delegate.refusal(remote.nodes) if join else None
        if refusal is not None:
            raise StreamRefused(refusal)
        for record in remote.nodes:
            try:
                self._merge_record(record, now)
            except MalformedMessage as error:
                self.note(f"ignoring a node of a push/pull: node={record.name} error={error}")
        if remote.user_state:
            try:
                self._delegate.merge_state(remote.user_state, now, skip_events=skip_events)
            except MalformedMessage as error:
                raise StreamRefused(str(error)) from error

    def _merge_record(self, record: NodeRecord, now: float) -> None:
        if record.state == NodeState.ALIVE:
            claim = Alive(record.incarnation, record.name, record.addr, record.port, record.meta, record.vsn)
            self._receive_alive(claim, now)
        elif record.state == NodeState.LEFT:
            self._receive_dead(Dead(record.incarnation, record.name, record.name), now)
        else:
            self._receive_suspect(Suspect(record.incarnation, record.name, self.me.name), now)

    def _check_compatible(self, remote: list[NodeRecord]) -> None:
        """Every node must speak a version that all understand, of memberlist's protocol and of Serf's."""
        versions = [(node.name, node.vsn) for node in self.members if node is self.me or node.state is NodeState.ALIVE]
        versions += [(node.name, node.vsn) for node in remote if node.state == NodeState.ALIVE and len(node.vsn) == VSN_SIZE]
        for first, what in ((0, "protocol"), (3, "delegate protocol")):
            lowest = max(vsn[first] for _, vsn in versions)
            highest = min(vsn[first + 1] for _, vsn in versions)
            for name, vsn in versions:
                if not lowest <= vsn[first + 2] <= highest:
                    raise StreamRefused(f"Node '{name}' {what} version ({vsn[first + 2]}) is incompatible: [{lowest}, {highest}]")


def _reply_address(request: Ping | IndirectPing, source: Address) -> Address:
    if request.source_addr and request.source_port:
        return ip_text(request.source_addr), request.source_port
    return source


def _check_claim(claim: Alive) -> None:
    if len(claim.node.encode()) > _MAX_NAME or len(claim.meta) > _MAX_META:
        raise MalformedMessage(f"a node with a name of {len(claim.node)} characters and {len(claim.meta)} bytes of meta data")
    if len(claim.vsn) != VSN_SIZE:
        raise MalformedMessage(f"versions of {claim.node} in {len(claim.vsn)} bytes")
    if not 0 < claim.vsn[0] <= claim.vsn[1]:
        raise MalformedMessage(f"protocol versions of {claim.node}: {claim.vsn[0]} to {claim.vsn[1]}")

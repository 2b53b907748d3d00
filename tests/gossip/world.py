"""A network in virtual time, from a seed: Serf cores, packets with latency and loss, streams, partitions, crashes, stalls."""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from discovery.gossip.events import Event, MemberStatus
from discovery.gossip.members import Address
from discovery.gossip.profile import LAN, Profile
from discovery.gossip.security import Keyring, Protection
from discovery.gossip.serf import Serf, SerfOptions
from discovery.gossip.swim import Exchange

LATENCY = (0.0005, 0.005)
PORT = 7946


@dataclass(eq=False)
class Peer:
    """One node of the world; `frozen_until` is when a stalled one goes on, `blocked_until` when its messages move again."""

    name: str
    address: Address
    core: Serf
    protection: Protection
    running: bool = True
    frozen_until: float = 0.0
    blocked_until: float = 0.0
    alarm: float = 0.0
    inbox: list[tuple[bytes, Address]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)

    def told(self, kind: type[Event]) -> list[str]:
        """The names of members of which such an event was told."""
        return [event.member.name for _, event in self.events if isinstance(event, kind) and hasattr(event, "member")]

    def statuses(self) -> dict[str, MemberStatus]:
        return {member.name: member.status for member in self.core.members()}

    def sees(self, status: MemberStatus) -> set[str]:
        return {name for name, seen in self.statuses().items() if seen is status}


class World:
    def __init__(self, seed: int, *, loss: float = 0.0, profile: Profile = LAN, key: bytes | None = None) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.loss = loss
        self.peers: dict[Address, Peer] = {}
        self.delivers: Callable[[Peer, Peer], bool] = lambda sender, receiver: True
        self.packets = 0
        self.bytes = 0
        self._profile = profile
        self._key = key
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.peers.values())

    def add(self, name: str, **changes: object) -> Peer:
        address = (f"10.0.{len(self.peers) // 250}.{len(self.peers) % 250 + 1}", PORT)
        options = SerfOptions(name=name, address=address, profile=self._profile, tags={"id": name}, leave_propagate_delay=1.0)
        return self._run(replace(options, **changes))  # type: ignore[arg-type]

    def restart(self, peer: Peer, **changes: object) -> Peer:
        """The same name at the same address, with nothing remembered."""
        options = SerfOptions(name=peer.name, address=peer.address, profile=self._profile, leave_propagate_delay=1.0)
        return self._run(replace(options, **changes))  # type: ignore[arg-type]

    def _run(self, options: SerfOptions) -> Peer:
        rng = random.Random(self.rng.random())
        protection = Protection(rng, Keyring([self._key]) if self._key else None)
        peer = Peer(options.name, options.address, Serf(options, protection, rng, self.now), protection)
        self.peers[options.address] = peer
        peer.core.start(self.now)
        self.react(peer)
        return peer

    def group(self, size: int) -> list[Peer]:
        """So many peers, joined."""
        peers = [self.add(f"n{index}") for index in range(size)]
        for peer in peers[1:]:
            self.join(peer, peers[0])
        return peers

    def join(self, peer: Peer, to: Peer) -> None:
        exchange = peer.core.join(to.address)
        self._exchange(peer, exchange, lambda: peer.core.joined(self.now))
        self.react(peer)

    # --- time ------------------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, action))

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether the condition came true within so many seconds; it is looked at ten times a second."""
        end = self.now + seconds
        while not condition():
            if self.now >= end:
                return False
            self._run_to(min(self.now + 0.1, end))
        return True

    def _run_to(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def react(self, peer: Peer) -> None:
        """What a shell does after everything that happens to its core."""
        core = peer.core
        core.take_notes()
        for packet in core.take_packets():
            self._send(peer, packet.data, packet.destination)
        for exchange in core.take_exchanges():
            self._exchange(peer, exchange)
        peer.events += [(self.now, event) for event in core.take_events()]
        deadline = core.deadline()
        if deadline != peer.alarm:
            peer.alarm = deadline
            self.at(deadline, lambda: self._tick(peer))

    def _tick(self, peer: Peer) -> None:
        """Ticks that are no longer due do nothing; a stalled peer's come when it wakes."""
        if self.now >= peer.alarm:
            peer.alarm = 0.0
        if not peer.running or self.now < peer.frozen_until or self.now < peer.core.deadline():
            return
        peer.core.tick(self.now)
        self.react(peer)

    def stall(self, peer: Peer, seconds: float) -> None:
        """The process stands still; what arrives waits, and is read before the clock is looked at."""
        peer.frozen_until = self.now + seconds
        self.at(peer.frozen_until, lambda: self._wake(peer))

    def _wake(self, peer: Peer) -> None:
        inbox, peer.inbox = peer.inbox, []
        for data, source in inbox:
            peer.core.receive_packet(data, source, self.now)
        peer.core.tick(self.now)
        self.react(peer)

    def block(self, peer: Peer, seconds: float) -> None:
        """Its packets are held back in both directions while its clock goes on, as on a machine that is starved of time.

        Source: the anomalies of the experiments in the Lifeguard paper.
        """
        peer.blocked_until = self.now + seconds

    def crash(self, peer: Peer) -> None:
        peer.running = False

    # --- network ---------------------------------------------------------------------------------------------------------

    def _latency(self) -> float:
        return self.rng.uniform(*LATENCY)

    def _send(self, sender: Peer, data: bytes, destination: Address) -> None:
        self.packets += 1
        receiver = self.peers.get(destination)
        self.bytes += len(data)
        if receiver is not None and self.delivers(sender, receiver) and self.rng.random() >= self.loss:
            leaves = max(self.now, sender.blocked_until)
            self.at(leaves + self._latency(), lambda: self._deliver(receiver, data, sender.address))

    def _deliver(self, receiver: Peer, data: bytes, source: Address) -> None:
        if not receiver.running:
            return
        if self.now < receiver.blocked_until:
            self.at(receiver.blocked_until, lambda: self._deliver(receiver, data, source))
            return
        if self.now < receiver.frozen_until:
            receiver.inbox.append((data, source))
            return
        receiver.core.receive_packet(data, source, self.now)
        self.react(receiver)

    def _exchange(self, sender: Peer, exchange: Exchange, then: Callable[[], None] = lambda: None) -> None:
        """A stream is retransmitted, so loss does not harm it; it needs both directions."""
        receiver = self.peers.get(exchange.destination)
        reachable = receiver is not None and self.delivers(sender, receiver) and self.delivers(receiver, sender)

        def served() -> None:
            silent = receiver is None or self.now < max(receiver.frozen_until, receiver.blocked_until, sender.blocked_until)
            if receiver is None or silent or not reachable or not receiver.running:
                exchange.fail("timed out")
                return
            reply = receiver.core.serve(sender.address).receive(exchange.request, self.now)
            self.react(receiver)
            self.at(self.now + self._latency(), lambda: answered(reply))

        def answered(reply: bytes) -> None:
            if sender.running:
                exchange.receive(reply, self.now)
                if exchange.error is None:
                    then()
                self.react(sender)

        self.at(self.now + self._latency(), served)

    def split(self, *sides: Iterable[Peer]) -> None:
        """Only peers of the same side hear each other."""
        side_of = {peer: number for number, side in enumerate(sides) for peer in side}
        self.delivers = lambda sender, receiver: side_of[sender] == side_of[receiver]

    def heal(self) -> None:
        self.delivers = lambda sender, receiver: True


def agree(peers: Iterable[Peer], alive: Iterable[Peer]) -> bool:
    """Whether all of `peers` see exactly `alive` as alive."""
    names = {peer.name for peer in alive}
    return all(peer.sees(MemberStatus.ALIVE) == names for peer in peers)

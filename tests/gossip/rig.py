"""One core, alone, whose every packet is looked at; the others are played by the test."""

import random
from dataclasses import replace

from discovery.gossip import serf_messages
from discovery.gossip.codec import encode, unpack
from discovery.gossip.events import Event, MemberStatus
from discovery.gossip.members import Address, ip_bytes
from discovery.gossip.messages import KINDS, Alive, Kind, Message, NodeRecord, NodeState, Wire
from discovery.gossip.packets import PacketCodec
from discovery.gossip.profile import LAN
from discovery.gossip.security import Protection
from discovery.gossip.serf import VSN, Serf, SerfOptions
from discovery.gossip.serf_messages import SerfMessage, encode_tags
from discovery.gossip.streams import PushPull, StreamMessage, StreamParser, encode_push_pull
from discovery.gossip.swim import Swim

ME = "me"
MY_ADDRESS = ("10.0.0.1", 7946)
FORMS: dict[int, type[Wire]] = {kind: form for form, kind in KINDS.items()}


def address_of(name: str) -> Address:
    """Test nodes are named n2 to n99 and live accordingly."""
    return (f"10.0.0.{int(name[1:])}", 7946)


def alive(name: str, incarnation: int = 1, tags: dict[str, str] | None = None, *, at: Address | None = None) -> Alive:
    host, port = at or address_of(name)
    return Alive(incarnation, name, ip_bytes(host), port, encode_tags(tags or {}), VSN)


def record(name: str, state: NodeState = NodeState.ALIVE, incarnation: int = 1) -> NodeRecord:
    host, port = MY_ADDRESS if name == ME else address_of(name)
    return NodeRecord(name, ip_bytes(host), port, encode_tags({}), incarnation, state, VSN)


class Rig:
    def __init__(self, *, profile: object = LAN, seed: int = 1, **changes: object) -> None:
        self.now = 1000.0
        options = SerfOptions(name=ME, address=MY_ADDRESS, profile=LAN)
        options = replace(options, profile=profile, **changes)  # type: ignore[arg-type]
        self.protection = Protection(random.Random(seed))
        self.core = Serf(options, self.protection, random.Random(seed), self.now)
        self.core.start(self.now)
        self._codec = PacketCodec(self.protection)
        self.take_events()

    @property
    def swim(self) -> Swim:
        return self.core.swim

    def hear(self, *messages: Message, source: str = "n2") -> None:
        self._hear([encode(message) for message in messages], source)

    def hear_serf(self, *messages: SerfMessage, source: str = "n2") -> None:
        self._hear([bytes((Kind.USER,)) + serf_messages.encode(message) for message in messages], source)

    def _hear(self, messages: list[bytes], source: str) -> None:
        if messages:
            self.core.receive_packet(self._codec.seal(messages, crc=True), address_of(source), self.now)

    def run(self, seconds: float) -> list[tuple[Address, object]]:
        """Let time pass; every message of every packet that left, with its destination."""
        sent = self.sent()
        end = self.now + seconds
        while self.core.deadline() <= end:
            self.now = max(self.now, self.core.deadline())
            self.core.tick(self.now)
            sent += self.sent()
        self.now = end
        return sent

    def sent(self) -> list[tuple[Address, object]]:
        """User messages come as their bytes."""
        messages: list[tuple[Address, object]] = []
        for packet in self.core.take_packets():
            opened = self._codec.open(packet.data)
            assert opened.complaints == []
            messages += [(packet.destination, _decoded(message)) for message in opened.messages]
        return messages

    def exchange(self, *nodes: NodeRecord, state: bytes = b"", join: bool = False) -> StreamMessage | None:
        """A push/pull that somebody opens to us; our answer."""
        stream = self.core.serve(address_of("n2"))
        reply = stream.receive(encode_push_pull(PushPull(join, list(nodes), state)), self.now)
        return StreamParser(self.protection).feed(reply)

    def take_events(self) -> list[Event]:
        return self.core.take_events()

    def state(self, name: str) -> NodeState:
        node = self.swim.members.get(name)
        assert node is not None
        return NodeState(node.state)

    def status(self, name: str) -> MemberStatus:
        member = self.core.member(name)
        assert member is not None
        return member.status


def _decoded(message: bytes) -> object:
    return message[1:] if message[0] == Kind.USER else unpack(message[1:], FORMS[message[0]])


def of_kind(messages: list[tuple[Address, object]], form: type) -> list[tuple[Address, object]]:
    return [(destination, message) for destination, message in messages if isinstance(message, form)]

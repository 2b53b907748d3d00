"""A living pool under fire: garbage, truncated, replayed, oversized and wrongly encrypted packets and streams for one member.

What the pool believes must be the same after every volley, all that is refused must be counted, and little of it logged. With
a key every damage is refused. Without one a packet with a damaged claim and no checksum would be a valid claim of somebody
else; there what is sent is noise, beginnings of packets, and packets that were heard before.
"""

import random
from collections import Counter
from collections.abc import Callable

from discovery.gossip.codec import deflate, make_compound
from discovery.gossip.messages import Kind
from discovery.gossip.packets import PacketCodec
from discovery.gossip.security import Keyring, Protection
from discovery.gossip.serf import Serf

from .world import Peer, World, agree

KEY = bytes(range(32))
STRANGER = ("10.6.6.6", 7946)
_VOLLEY = 250
_STREAM_SHARE = 0.02
_NOTES_A_SECOND = 1


class Recorder:
    """Keeps what one member of a pool hears while a lot happens in it."""

    def __init__(self, world: World, target: Peer) -> None:
        self.packets: list[bytes] = []
        self.streams: list[bytes] = []
        hear, serve = target.core.receive_packet, target.core.serve

        def receive_packet(data: bytes, source: tuple[str, int], now: float) -> None:
            self.packets.append(data)
            hear(data, source, now)

        def serving(source: tuple[str, int]) -> object:
            stream = serve(source)
            receive = stream.receive

            def recorded(data: bytes, now: float) -> bytes:
                self.streams.append(data)
                return receive(data, now)

            stream.receive = recorded  # type: ignore[method-assign]
            return stream

        target.core.receive_packet = receive_packet  # type: ignore[method-assign]
        target.core.serve = serving  # type: ignore[method-assign,assignment]
        for number, peer in enumerate(world):
            peer.core.update_tags({"id": peer.name, "round": "2"}, world.now)
            peer.core.user_event(f"event{number}", bytes(number), bool(number % 2), world.now)
            world.react(peer)
        world.run(150)
        target.core.receive_packet = hear  # type: ignore[method-assign]
        target.core.serve = serve  # type: ignore[method-assign]


class Attacker:
    """Makes packets and streams, from chance and from what was recorded."""

    def __init__(self, rng: random.Random, recorder: Recorder, *, encrypted: bool) -> None:
        self._rng = rng
        self._packets = recorder.packets
        self._streams = recorder.streams
        self._foreign = PacketCodec(Protection(rng, Keyring([rng.randbytes(32)])))
        self._kinds: list[Callable[[bytes], bytes]] = [
            self._noise, self._typed_noise, self._cut, self._replay, self._oversized, self._wrapped_noise,
        ]  # fmt: skip
        if encrypted:
            self._kinds += [self._flip, self._insert, self._other_key, self._plain, self._joined]

    def packet(self) -> bytes:
        return self._rng.choice(self._kinds)(self._rng.choice(self._packets))

    def stream(self) -> bytes:
        return self._rng.choice(self._kinds)(self._rng.choice(self._streams))

    def _noise(self, _original: bytes) -> bytes:
        return self._rng.randbytes(self._rng.randrange(200))

    def _typed_noise(self, _original: bytes) -> bytes:
        """Begins as a message does, with a map of something in it."""
        return bytes((self._rng.randrange(16), 0x80 | self._rng.randrange(8))) + self._rng.randbytes(self._rng.randrange(100))

    def _wrapped_noise(self, original: bytes) -> bytes:
        noise = self._typed_noise(original)
        return self._rng.choice([deflate, lambda data: make_compound([data, data]), lambda data: deflate(deflate(data))])(noise)

    def _cut(self, original: bytes) -> bytes:
        return original[: self._rng.randrange(len(original))]

    def _replay(self, original: bytes) -> bytes:
        return original

    def _oversized(self, original: bytes) -> bytes:
        return (original + self._rng.randbytes(100) * 700)[:65_507] if self._rng.random() < 0.02 else original[:3] * 500

    def _flip(self, original: bytes) -> bytes:
        damaged = bytearray(original)
        for _ in range(self._rng.randrange(1, 4)):
            damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        return bytes(damaged)

    def _insert(self, original: bytes) -> bytes:
        place = self._rng.randrange(len(original))
        return original[:place] + self._rng.randbytes(self._rng.randrange(1, 9)) + original[place:]

    def _other_key(self, original: bytes) -> bytes:
        return self._foreign.seal([bytes((Kind.DEAD,)) + original], crc=True)

    def _plain(self, _original: bytes) -> bytes:
        """A claim that would kill a member, without the key."""
        return b"\x05\x83\xa4From\xa2n1\xabIncarnation\xce\x7f\xff\xff\xff\xa4Node\xa2n1"

    def _joined(self, original: bytes) -> bytes:
        other = self._rng.choice(self._packets)
        return original[: len(original) // 2] + other[len(other) // 2 :]


def beliefs(core: Serf) -> object:
    """All that a member believes and remembers of the pool."""
    nodes = sorted((node.name, node.address, node.meta, node.incarnation, node.state) for node in core.swim.members)
    members = sorted((member.name, member.status, sorted(member.tags.items())) for member in core.members())
    return nodes, members, core.clocks()


def fuzz(seed: int, packets: int, *, encrypted: bool, verifies: bool = True) -> Counter[str]:
    """So many packets and streams for one member of a pool of five; what was sent and counted. Raises AssertionError.

    Without `verifies` the member takes what is not encrypted too, and must be found out.
    """
    world = World(seed, key=KEY if encrypted else None)
    peers = world.group(5)
    assert world.run_until(lambda: agree(peers, peers), 30)
    target = peers[2]
    target.protection.verify_incoming = verifies
    attacker = Attacker(random.Random(seed), Recorder(world, target), encrypted=encrypted)
    before = [beliefs(peer.core) for peer in peers]
    events = [len(peer.events) for peer in peers]
    refused = target.core.swim.counters.copy()
    sent: Counter[str] = Counter()
    notes = 0
    began = world.now
    while sum(sent.values()) < packets:
        for _ in range(_VOLLEY):
            _fire(world, target.core, attacker, sent)
        notes += len(target.core.take_notes())
        world.react(target)
        world.run(0.25)
        assert [beliefs(peer.core) for peer in peers] == before, f"after {sum(sent.values())} packets of seed {seed}"
    assert [len(peer.events) for peer in peers] == events
    counted = target.core.swim.counters - refused
    assert notes <= 2 + _NOTES_A_SECOND * (world.now - began), f"{notes} lines in the log"
    return sent + Counter({kind: count for kind, count in counted.items() if kind.startswith("bad")})


def _fire(world: World, core: Serf, attacker: Attacker, sent: Counter[str]) -> None:
    if world.rng.random() >= _STREAM_SHARE:
        sent["packets"] += 1
        core.receive_packet(attacker.packet(), STRANGER, world.now)
        return
    sent["streams"] += 1
    stream = core.serve(STRANGER)
    data = attacker.stream()
    cut = world.rng.randrange(len(data) + 1)
    for piece in (data[:cut], data[cut:]):
        if piece and not stream.finished:
            stream.receive(piece, world.now)
    stream.cut_off(world.now)

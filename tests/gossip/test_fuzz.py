"""Whatever comes from the network, the core neither raises nor loses its footing."""

import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.gossip.codec import add_crc, deflate, make_compound
from discovery.gossip.messages import Kind
from discovery.gossip.security import Keyring

from . import vectors
from .fuzzing import fuzz
from .rig import ME, Rig, address_of, alive

PACKETS = [value for value in vars(vectors).values() if isinstance(value, bytes) and len(value) > 16]
NAMES = ["SeqNo", "Node", "Addr", "Port", "Meta", "Vsn", "Incarnation", "From", "Target", "SourceAddr", "SourcePort", "Nack",
         "Algo", "Buf", "LTime", "Name", "Payload", "ID", "Filters", "Flags", "Prune", "CC", "Nodes", "UserStateLen", "Join",
         "State", "Events", "StatusLTimes", "LeftMembers", "EventLTime", "DestAddr", "DestName"]  # fmt: skip

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=True)
    | st.binary(max_size=20)
    | st.sampled_from([ME, "n2", "n3", "_serf_list-keys", b"\x7f\0\0\1", bytes((1, 5, 2, 2, 5, 4)), b"\xff\x80", 1, 7946]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=10).map(lambda plain: msgpack.packb(plain, use_bin_type=False))
messages = st.builds(lambda kind, body: bytes((kind,)) + body, st.integers(0, 15), bodies) | st.builds(
    lambda kind, body: bytes((Kind.USER, kind)) + body, st.integers(0, 10), bodies
)


def check_footing(rig: Rig) -> None:
    """It still is itself, still answers, and still learns."""
    rig.run(3)
    rig.core.take_exchanges()
    rig.core.take_notes()
    assert rig.core.local_member().name == ME
    rig.hear(alive("n98", 2_000_000_000))
    assert rig.core.member("n98") is not None
    stream = rig.core.serve(address_of("n2"))
    assert stream.receive(rig.core.join(address_of("n3")).request, rig.now)
    assert stream.finished
    rig.core.clocks()
    rig.core.stats()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_noise(packets: list[bytes]) -> None:
    rig = Rig()
    for packet in packets:
        rig.core.receive_packet(packet, address_of("n2"), rig.now)
    check_footing(rig)


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, min_size=1, max_size=20), st.sampled_from(["bare", "crc", "compound", "compressed"]))
def test_messages_with_any_fields(sent: list[bytes], wrapping: str) -> None:
    rig = Rig()
    rig.hear(alive("n2"), alive("n3"))
    wrap = {
        "bare": lambda data: data,
        "crc": add_crc,
        "compressed": deflate,
        "compound": lambda data: make_compound([data, data]),
    }
    for message in sent:
        rig.core.receive_packet(wrap[wrapping](message), address_of("n2"), rig.now)
    check_footing(rig)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(PACKETS), st.integers(0, 10_000), st.binary(max_size=6), st.integers(0, 6), st.booleans())
def test_damaged_captures(packet: bytes, place: int, replacement: bytes, removed: int, encrypted: bool) -> None:
    place %= len(packet)
    damaged = packet[:place] + replacement + packet[place + removed :]
    rig = Rig()
    if encrypted:
        rig.protection.keyring = Keyring([vectors.KEY])
    rig.core.receive_packet(damaged, address_of("n2"), rig.now)
    rig.core.receive_packet(packet[:place], address_of("n2"), rig.now)
    rig.protection.keyring = None
    check_footing(rig)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.builds(bytes.__add__, st.just(b"\x06"), bodies), st.data())
def test_streams_of_anything_in_any_pieces(noise: bytes, data: st.DataObject) -> None:
    rig = Rig()
    start = data.draw(
        st.sampled_from([b"", vectors.PUSH_PULL[:200], vectors.PUSH_PULL, b"\x06", b"\x09", b"\x0a", b"\x08", b"\x0d"])
    )
    content = start + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    served, asked = rig.core.serve(address_of("n2")), rig.core.join(address_of("n3"))
    for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        if not served.finished:
            served.receive(content[begin:end], rig.now)
        if not asked.finished:
            asked.receive(content[begin:end], rig.now)
    check_footing(rig)


def test_a_large_claim_of_nested_lists_costs_little() -> None:
    rig = Rig()
    rng = random.Random(1)
    for kind in range(14):
        for packed in (b"\xdd\xff\xff\xff\xff" * 13_000, b"\x91" * 65_000, b"\xdf\xff\xff\xff\xff", rng.randbytes(65_000)):
            rig.core.receive_packet((bytes((kind,)) + packed)[:65_507], address_of("n2"), rig.now)
    check_footing(rig)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_pool_under_fire_believes_what_it_believed(encrypted: bool) -> None:
    counted = fuzz(1, 20_000, encrypted=encrypted)
    assert counted["packets"] + counted["streams"] >= 20_000
    assert counted["bad packets"] > counted["packets"] / 2
    assert counted["bad streams"] > counted["streams"] / 2


def test_a_member_that_takes_what_it_should_not_is_found_out() -> None:
    with pytest.raises(AssertionError, match="of seed 1"):
        fuzz(1, 20_000, encrypted=True, verifies=False)

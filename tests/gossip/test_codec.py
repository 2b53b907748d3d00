"""The messages and wrappings, against captured packets and against the rules of memberlist's msgpack dialect."""

import random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.gossip import codec, serf_messages
from discovery.gossip.codec import MalformedMessage, encode, make_compound, split_compound, unpack
from discovery.gossip.messages import Ack, Alive, Compressed, Dead, ErrorReply, IndirectPing, Message, Nack, Ping, Suspect, Wire
from discovery.gossip.packets import PacketCodec
from discovery.gossip.security import Keyring, Protection
from discovery.gossip.serf_messages import (
    JoinIntent,
    LeaveIntent,
    Query,
    QueryResponse,
    RelayAddress,
    RelayHeader,
    SerfState,
    UserEventMessage,
    decode_tags,
    encode_tags,
)
from discovery.gossip.streams import PushPull, StreamParser, encode_push_pull
from discovery.gossip.vivaldi import Coordinate, decode_payload, encode_payload

from . import vectors

RNG = random.Random(1)
VSN = bytes.fromhex("010502020505")


def loopback(last: int) -> bytes:
    return bytes((127, 0, 0, last))


def opened(data: bytes, keyring: Keyring | None = None) -> list[bytes]:
    result = PacketCodec(Protection(RNG, keyring)).open(data)
    assert result.complaints == []
    return result.messages


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (vectors.PING, Ping(2, "n2", loopback(71), 7946, "n1")),
        (vectors.ACK, Ack(1, encode_payload(Coordinate()))),
        (vectors.INDIRECT_PING, IndirectPing(11, loopback(73), 7946, "n3", True, loopback(72), 7946, "n2")),
        (vectors.NACK, Nack(13)),
        (vectors.DEAD, Dead(1, "n3", "n1")),
        (vectors.SUSPECT, Suspect(1, "fk", "n1")),
        (vectors.TCP_ACK, Ack(77, None)),
        (vectors.TCP_ERROR, ErrorReply("Cannot decompress unknown algorithm 5")),
    ],
)
def test_captured_messages_decode_and_encode_to_the_same_bytes(packet: bytes, expected: Message) -> None:
    (message,) = opened(packet)
    assert unpack(message[1:], type(expected)) == expected
    assert encode(expected) == message
    if packet[0] == 0x0C:
        assert codec.add_crc(message) == packet


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (vectors.SERF_JOIN, JoinIntent(1, "n2")),
        (vectors.SERF_LEAVE, LeaveIntent(3, "n3", False)),
        (vectors.SERF_PRUNE, LeaveIntent(2, "n3", True)),
        (vectors.USER_EVENT, UserEventMessage(1, "deploy", b"payload-bytes-$1", True)),
        (
            vectors.QUERY,
            Query(1, 964405140, loopback(71), 7946, "n1", None, 1, 1, 1_000_000_000, "up", b"x"),
        ),
        (vectors.QUERY_ACK, QueryResponse(1, 964405140, "n1", 1, None)),
    ],
)
def test_captured_serf_messages_decode_and_encode_to_the_same_bytes(packet: bytes, expected: Wire) -> None:
    (message,) = opened(packet)
    assert message[0] == 8
    assert unpack(message[2:], type(expected)) == expected
    assert serf_messages.encode(expected) == message[1:]  # type: ignore[arg-type]
    if packet[0] == 0x0C:
        assert codec.add_crc(message) == packet


def test_a_relayed_message_keeps_its_inner_bytes() -> None:
    header, inner = codec.unpack_leading(vectors.RELAYED_ACK[2:], RelayHeader)
    assert header == RelayHeader(RelayAddress(loopback(71), 7946), "n1")
    assert inner == vectors.QUERY_ACK[1:]


ALIVES = [
    (vectors.ALIVE, [("n3", 73, 1, {"role": "web", "dc": "east"})]),
    (vectors.TWO_ALIVES, [("n2", 72, 1, {"role": "web", "dc": "east"}), ("n1", 71, 1, {"role": "web", "dc": "east"})]),
    (vectors.REFUTATION, [("n1", 71, 2, {"role": "web"})]),
    (vectors.COMPRESSED, [("n2", 72, 1, {"role": "web", "dc": "east"}), ("n1", 71, 1, {"role": "web", "dc": "east"})]),
    (vectors.ENCRYPTED, [("n2", 72, 1, {"role": "web", "dc": "east"}), ("n1", 71, 1, {"role": "web", "dc": "east"})]),
]


@pytest.mark.parametrize(("packet", "expected"), ALIVES)
def test_captured_alives(packet: bytes, expected: list[tuple[str, int, int, dict[str, str]]]) -> None:
    messages = opened(packet, Keyring([vectors.KEY]) if packet == vectors.ENCRYPTED else None)
    claims = [unpack(message[1:], Alive) for message in messages]
    assert {(claim.node, claim.addr, claim.incarnation) for claim in claims} == {
        (name, loopback(last), incarnation) for name, last, incarnation, _ in expected
    }
    assert [decode_tags(claim.meta) for claim in claims] == [tags for *_, tags in expected]
    assert {claim.vsn for claim in claims} == {VSN}
    assert [encode(claim) for claim in claims] == messages


def test_a_probe_of_a_suspect_carries_the_suspicion() -> None:
    ping, suspect = opened(vectors.PING_AND_SUSPECT)
    assert unpack(ping[1:], Ping) == Ping(9, "fk", loopback(72), 7946, "n2")
    assert unpack(suspect[1:], Suspect) == Suspect(1, "fk", "n2")
    assert codec.add_crc(make_compound([ping, suspect])) == vectors.PING_AND_SUSPECT


def test_a_captured_push_pull() -> None:
    assert len(vectors.PUSH_PULL) == 700
    exchange = StreamParser(Protection(RNG)).feed(vectors.PUSH_PULL)
    assert isinstance(exchange, PushPull)
    (node,) = exchange.nodes
    assert (exchange.join, node.name, node.addr, node.incarnation, node.state) == (True, "n2", loopback(72), 1, 0)
    assert exchange.user_state[0] == 2
    state = unpack(exchange.user_state[1:], SerfState)
    assert state == SerfState(1, {"n2": 0}, [], 1, [None] * 512, 1)
    assert serf_messages.encode(state) == exchange.user_state
    assert encode_push_pull(exchange) == vectors.PUSH_PULL


def test_a_stream_may_come_byte_by_byte() -> None:
    parser = StreamParser(Protection(RNG))
    results = [parser.feed(vectors.PUSH_PULL[index : index + 1]) for index in range(len(vectors.PUSH_PULL))]
    assert results[:-1] == [None] * 699
    assert results[-1] == StreamParser(Protection(RNG)).feed(vectors.PUSH_PULL)


def test_a_tcp_ping_with_unsorted_keys() -> None:
    assert StreamParser(Protection(RNG)).feed(vectors.TCP_PING) == Ping(77, "n1")


def test_coordinates_travel_in_acks() -> None:
    ack = unpack(vectors.ACK[1:], Ack)
    assert ack.payload is not None
    assert decode_payload(ack.payload) == Coordinate()


# --- the dialect ---------------------------------------------------------------------------------------------------------


def test_bytes_may_come_as_bin_and_text_as_str8() -> None:
    packed = msgpack.packb({"Node": "n" * 40, "Addr": b"\x7f\0\0\1", "Vsn": VSN, "Meta": b"\xff\xfe"}, use_bin_type=True)
    assert b"\xc4" in packed
    assert b"\xd9" in packed
    assert unpack(packed, Alive) == Alive(node="n" * 40, addr=b"\x7f\0\0\1", vsn=VSN, meta=b"\xff\xfe")


def test_unknown_fields_are_skipped_nil_is_zero_and_what_follows_is_ignored() -> None:
    packed = msgpack.packb({"SeqNo": None, "Node": "a", "Nonsense": [1, {"x": 2}]}) + b"rest"
    assert unpack(packed, Ping) == Ping(0, "a")


def test_positive_numbers_may_be_signed() -> None:
    assert unpack(b"\x81\xa5SeqNo\xd2\x00\x00\x01\x00", Nack) == Nack(256)


@pytest.mark.parametrize(
    "plain",
    [
        {"SeqNo": -1}, {"SeqNo": 1 << 32}, {"SeqNo": "1"}, {"SeqNo": 1.0}, {"SeqNo": True}, {"Node": 5}, {"SourceAddr": 5},
        {"SourcePort": 65536}, {"Node": b"\xff"}, [], 5, None,
    ],
)  # fmt: skip
def test_values_that_do_not_fit_their_field_are_malformed(plain: object) -> None:
    with pytest.raises(MalformedMessage):
        unpack(msgpack.packb(plain, use_bin_type=False), Ping)


@pytest.mark.parametrize("body", [b"", b"\x81", b"\xc1", b"\x81\x90\x01", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000])
def test_what_is_no_msgpack_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack(body, Ping)


def test_source_fields_are_left_out_where_empty() -> None:
    assert msgpack.unpackb(encode(Ping(1, "a"))[1:]) == {"SeqNo": 1, "Node": "a"}


# --- wrappings -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=2, max_size=255))
def test_compounds_come_apart_as_they_were_put_together(parts: list[bytes]) -> None:
    assert split_compound(make_compound(parts)[1:]) == (parts, 0)


def test_a_single_message_is_sent_bare() -> None:
    assert make_compound([b"one"]) == b"one"


def test_of_a_compound_that_is_cut_off_the_whole_parts_count() -> None:
    packet = make_compound([encode(Nack(1)), encode(Nack(2)), encode(Nack(3))])
    result = PacketCodec(Protection(RNG)).open(packet[:-1])
    assert result.messages == [encode(Nack(1)), encode(Nack(2))]
    assert result.complaints == ["1 parts of a compound message were cut off"]
    with pytest.raises(MalformedMessage):
        split_compound(packet[1:6])


@pytest.mark.parametrize("bit", range(0, len(vectors.DEAD) * 8, 5))
def test_a_checksum_notices_every_flipped_bit(bit: int) -> None:
    damaged = bytearray(vectors.DEAD)
    damaged[bit // 8] ^= 1 << bit % 8
    result = PacketCodec(Protection(RNG)).open(bytes(damaged))
    assert bit < 8 or (result.messages == [] and len(result.complaints) == 1)


def test_compression_within_compounds_is_read_and_endless_nesting_is_not() -> None:
    inner = codec.deflate(make_compound([encode(Nack(1)), encode(Nack(2))]))
    assert opened(make_compound([inner, encode(Nack(3))])) == [encode(Nack(1)), encode(Nack(2)), encode(Nack(3))]
    for _ in range(5):
        inner = codec.deflate(inner)
    result = PacketCodec(Protection(RNG)).open(inner)
    assert (result.messages, result.complaints) == ([], ["more than 4 layers"])


def test_an_unknown_compression_is_named() -> None:
    result = PacketCodec(Protection(RNG)).open(encode(Compressed(5, b"x")))
    assert result.complaints == ["Cannot decompress unknown algorithm 5"]


# --- tags ----------------------------------------------------------------------------------------------------------------


def test_tags() -> None:
    assert encode_tags({}) == b"\xff\x80"
    assert decode_tags(b"\xff\x80") == decode_tags(b"\xff\xc0") == decode_tags(b"") == {}
    assert decode_tags(b"database") == {"role": "database"}
    assert decode_tags(encode_tags({"role": "ü", "": "x"})) == {"role": "ü", "": "x"}


def test_tags_fill_at_most_512_bytes() -> None:
    fitting = {"k": "x" * (512 - 1 - 1 - 2 - 3)}
    assert len(encode_tags(fitting)) == 512
    with pytest.raises(serf_messages.TagsTooLarge):
        encode_tags({"k": fitting["k"] + "x"})


@pytest.mark.parametrize("meta", [b"\xff", b"\xff\x91\x01", b"\xff\x81\x01\xa1a", b"\xff\xc1"])
def test_tags_that_are_none(meta: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_tags(meta)

"""Captures of real pools: all that was on the wire decodes, and encodes again to the same meaning.

`captures/serf.hex`: four agents of serf 0.9.4 (one without compression) that join, fire events, query with filters and relays,
change tags, leave, are killed and forced out. `captures/consul.hex`: a Consul 1.8.7 server and two clients, encrypted, with
an event, a new key, a leave and a death. A line is a datagram (`udp`) or one direction of a stream (`tcp`).
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from discovery.gossip import serf_messages
from discovery.gossip.codec import encode, pack, unpack, unpack_leading, unpack_plain
from discovery.gossip.messages import KINDS, Ack, ErrorReply, Kind, NodeRecord, Ping, Wire
from discovery.gossip.packets import PacketCodec
from discovery.gossip.security import Keyring, Protection
from discovery.gossip.serf_messages import (
    ConflictResponse,
    JoinIntent,
    KeyRequest,
    KeyResponse,
    LeaveIntent,
    Query,
    QueryResponse,
    RelayHeader,
    SerfKind,
    SerfState,
    UserEventMessage,
    decode_tags,
    encode_relayed,
    encode_tags,
)
from discovery.gossip.streams import PushPull, StreamParser, encode_push_pull
from discovery.gossip.vivaldi import decode_payload, encode_payload

FORMS: dict[int, type[Wire]] = {kind: form for form, kind in KINDS.items()}
SERF_FORMS: dict[int, type[Wire]] = {
    SerfKind.LEAVE: LeaveIntent,
    SerfKind.JOIN: JoinIntent,
    SerfKind.PUSH_PULL: SerfState,
    SerfKind.USER_EVENT: UserEventMessage,
    SerfKind.QUERY: Query,
    SerfKind.QUERY_RESPONSE: QueryResponse,
    SerfKind.CONFLICT_RESPONSE: ConflictResponse,
    SerfKind.KEY_REQUEST: KeyRequest,
    SerfKind.KEY_RESPONSE: KeyResponse,
}
MAX_ITEMS = 1 << 20

POOLS = {"serf": None, "consul": Keyring([bytes(range(32))])}


def lines(pool: str, kind: str) -> list[bytes]:
    text = (Path(__file__).parent / "captures" / f"{pool}.hex").read_text()
    pairs = [line.split() for line in text.splitlines()]
    return [bytes.fromhex(data) for what, data in pairs if what == kind]


def protection(pool: str, **changes: bool) -> Protection:
    return Protection(random.Random(1), POOLS[pool], **changes)


def same_map(packed: bytes, form: type[Wire]) -> Wire:
    """The struct behind a map; packed again it is the same map, though its order may be another."""
    value = unpack(packed, form, MAX_ITEMS)
    assert unpack_plain(pack(value), MAX_ITEMS) == unpack_plain(packed, MAX_ITEMS)
    return value


def check_message(message: bytes) -> str:
    """What it is."""
    kind, body = message[0], message[1:]
    if kind == Kind.USER:
        return check_serf_message(body)
    value = same_map(body, FORMS[kind])
    assert encode(value)[0] == kind  # type: ignore[arg-type]
    if isinstance(value, Ack) and value.payload:
        assert unpack_plain(encode_payload(decode_payload(value.payload))[1:]) == unpack_plain(value.payload[1:])
    if hasattr(value, "meta"):
        assert unpack_plain(encode_tags(decode_tags(value.meta))[1:]) == unpack_plain(value.meta[1:])
    return Kind(kind).name


def check_serf_message(message: bytes) -> str:
    kind, body = message[0], message[1:]
    if kind == SerfKind.RELAY:
        header, inner = unpack_leading(body, RelayHeader)
        check_serf_message(inner)
        again, inner_again = unpack_leading(encode_relayed(header, inner)[1:], RelayHeader)
        assert (again, inner_again) == (header, inner)
        return SerfKind(kind).name
    value = same_map(body, SERF_FORMS[kind])
    assert serf_messages.encode(value)[0] == kind  # type: ignore[arg-type]
    payload = getattr(value, "payload", None)
    if isinstance(value, Query | QueryResponse) and payload and payload[0] in (SerfKind.KEY_REQUEST, SerfKind.KEY_RESPONSE):
        check_serf_message(payload)
    return SerfKind(kind).name


@pytest.mark.parametrize("pool", POOLS)
def test_packets_of_a_real_pool(pool: str) -> None:
    codec = PacketCodec(protection(pool))
    ways = [PacketCodec(protection(pool, compress=compress)) for compress in (False, True)]
    found: Counter[str] = Counter()
    for packet in lines(pool, "udp"):
        opened = codec.open(packet)
        assert opened.complaints == []
        found.update(map(check_message, opened.messages))
        for way in ways:
            for crc in (False, True):
                assert way.open(way.seal(opened.messages, crc=crc)) == opened
    expected = {"PING", "ACK", "SUSPECT", "ALIVE", "DEAD", "JOIN", "LEAVE", "USER_EVENT", "QUERY", "QUERY_RESPONSE"}
    assert expected <= found.keys()
    if pool == "serf":
        assert {"INDIRECT_PING", "RELAY"} <= found.keys()


@pytest.mark.parametrize("pool", POOLS)
def test_streams_of_a_real_pool(pool: str) -> None:
    exchanges = 0
    for stream in lines(pool, "tcp"):
        message = StreamParser(protection(pool)).feed(stream)
        if isinstance(message, Ping | Ack | ErrorReply):
            assert StreamParser(protection(pool)).feed(protection(pool).seal_stream(encode(message))) == message
            continue
        assert isinstance(message, PushPull)
        exchanges += 1
        for node in message.nodes:
            assert unpack(pack(node), NodeRecord) == node
        check_serf_message(message.user_state)
        for compress in (False, True):
            sealed = protection(pool, compress=compress).seal_stream(encode_push_pull(message))
            assert StreamParser(protection(pool)).feed(sealed) == message
    assert exchanges >= 4

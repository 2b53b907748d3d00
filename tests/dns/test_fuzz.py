"""Whatever arrives, the server answers or drops it, and what it answers is DNS."""

import asyncio

import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery.dns.options import DnsOptions
from discovery.dns.wire import Malformed, parse_answers, parse_query
from tests.dns.catalog import reference_catalog
from tests.dns.fuzzing import fuzz
from tests.dns.rig import make_server

NAMES = [
    "web.service.consul",
    "_web._tcp.consul",
    "node1.node.consul",
    "webq.query.consul",
    "0a010203.addr.consul",
    "3.2.1.10.in-addr.arpa",
]
KINDS = ["A", "AAAA", "SRV", "ANY", "TXT", "SOA", "NS", "MX"]


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Questions with some bytes changed, inserted or cut off."""
    query = dns.message.make_query(draw(st.sampled_from(NAMES)), draw(st.sampled_from(KINDS)), use_edns=draw(st.booleans()))
    packet = bytearray(query.to_wire())
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(packet)))
        change = draw(st.binary(max_size=3) | st.sampled_from([b"\xc0\x0c", b"\xc0\x00", b"\x3f", b"\xff\xff"]))
        packet[place : place + draw(st.integers(0, 3))] = change
    return bytes(packet[: draw(st.integers(0, len(packet) + 20))])


async def answer_to(packet: bytes, *, tcp: bool) -> bytes:
    server = make_server(reference_catalog(), DnsOptions())
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    server.take(packet, "127.0.0.1", answered.set_result, tcp=tcp)
    answer = await asyncio.wait_for(answered, 5)
    again = server.ready(packet, 0.0, tcp=tcp)
    assert again is None or again[:2] == packet[:2]
    return answer


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(packet=packets(), tcp=st.booleans())
def test_mutated_questions(packet: bytes, tcp: bool) -> None:
    answer = asyncio.run(answer_to(packet, tcp=tcp))
    if len(packet) < 12 or packet[2] & 0x80:
        assert answer == b""
        return
    assert answer[:2] == packet[:2]
    assert answer[2] & 0x80
    message = dns.message.from_wire(answer, question_only=len(answer) == 12)
    assert message.rcode() in (0, 1, 2, 3, 4, 5)
    assert tcp or len(answer) <= 4096


@given(packet=st.binary(max_size=300))
def test_any_bytes(packet: bytes) -> None:
    header = b"\0\1\1\0\0\1\0\0\0\0\0\0"
    for data in (header + packet, header[:6] + packet.ljust(6, b"\0")):
        try:
            query = parse_query(data)
        except Malformed:
            continue
        assert query.id == 1


@given(packet=packets())
def test_replies_of_others_that_are_broken(packet: bytes) -> None:
    try:
        records = parse_answers(packet)
    except Malformed:
        return
    assert all(record.ttl >= 0 for record in records)


def test_names_that_point_at_names_without_end() -> None:
    head = b"\0\1\x81\x80\0\1\0\2\0\0\0\0" + b"\0\0\1\0\1"
    start = len(head) + 11
    chain = b"".join((0xC000 | max(12, start + 2 * place - 2)).to_bytes(2) for place in range(1500))
    holder = b"\0\0\x63\0\1" + bytes(4) + len(chain).to_bytes(2) + chain
    last = (0xC000 | start + len(chain) - 2).to_bytes(2) + b"\0\1\0\1" + bytes(4) + b"\0\4" + bytes(4)
    with pytest.raises(Malformed, match="RecursionError"):
        parse_answers(head + holder + last)


@pytest.mark.parametrize("seed", range(4))
async def test_kept_and_fresh_answers_to_mutated_questions_agree_and_are_right(seed: int) -> None:
    seen = await fuzz(4000, seed)
    assert seen["NOERROR"] > 500
    assert min(seen["NXDOMAIN"], seen["FORMERR"], seen["dropped"], seen["kept"]) > 50
    assert seen["lost"] == 0

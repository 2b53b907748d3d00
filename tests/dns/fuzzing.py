"""Mutated questions by the thousand. `python -m tests.dns.fuzzing 1000000 7` runs a million with seed 7 and counts.

Every packet goes to two servers over the same catalog, one that keeps answers and one that does not, and both have to agree.
dnspython judges: an answer is DNS, has the question's id, and echoes the question as dnspython reads it from the packet. What is
asked for rightly must be answered rightly: the names and addresses of each answer are the ones of the catalog.
"""

import asyncio
import random
import sys
from collections import Counter

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from discovery.dns.options import DnsOptions
from discovery.dns.server import DnsServer
from tests.dns.catalog import reference_catalog
from tests.dns.rig import make_server

EXPECTED = {
    ("web.service.consul.", "A"): ["10.1.2.3", "127.0.0.61"],
    ("primary.web.service.consul.", "A"): ["127.0.0.61"],
    ("node1.node.consul.", "A"): ["127.0.0.61"],
    ("web6.service.consul.", "AAAA"): ["2001:db8::1"],
    ("_my_svc._tcp.consul.", "SRV"): ["1 1 90 node1.node.dc1.consul."],
    ("webq.query.consul.", "A"): ["127.0.0.61"],
    ("0a010203.addr.consul.", "A"): ["10.1.2.3"],
    ("3.2.1.10.in-addr.arpa.", "PTR"): ["web.service.dc1.consul."],
    ("nope.service.consul.", "A"): [],
    ("critsvc.service.consul.", "SRV"): [],
}
"""Questions and the records that answer them; none: there is no such name."""
PIECES = (b"\xc0\x0c", b"\xc0\x00", b"\x00", b"\x3f", b"\xff\xff", b"\x00\x29", b"\x00\x08\x00\x07\x00\x01\x18\x00\x0a\x00\x00")
AT_ONCE = 100


class Wrong(Exception):
    """An answer that must not be."""


def a_packet(rng: random.Random) -> bytes:
    """A question, changed a little or not at all."""
    name, kind = rng.choice(list(EXPECTED))
    if rng.random() < 0.3:
        name = "".join(letter.upper() if rng.random() < 0.5 else letter for letter in name)
    edns = rng.random() < 0.4
    query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=rng.choice((512, 1232, 4096)))
    query.id = rng.randrange(1 << 16)
    packet = bytearray(query.to_wire())
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        place = rng.randrange(0 if rng.random() < 0.3 else 12, max(13, len(packet) + 1))
        change = rng.choice(PIECES) if rng.random() < 0.4 else rng.randbytes(rng.randrange(4))
        packet[place : place + rng.randrange(4)] = change
    return bytes(packet[: rng.randrange(len(packet) + 1)] if rng.random() < 0.05 else packet)


async def answer_of(server: DnsServer, packet: bytes, *, tcp: bool) -> bytes:
    kept = server.ready(packet, asyncio.get_running_loop().time(), tcp=tcp)
    if kept is not None:
        return kept
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    server.take(packet, "127.0.0.1", answered.set_result, tcp=tcp)
    return await answered


def judge(packet: bytes, answer: bytes, fresh: bytes) -> str:
    """What came back, in a word; raises `Wrong`."""
    if len(packet) < 12 or packet[2] & 0x80:
        _require(answer == b"" == fresh, "an answer to what is no question")
        return "dropped"
    _require(answer[:2] == packet[:2], "another id")
    _require(bool(answer[2] & 0x80), "no response")
    try:
        reply = dns.message.from_wire(answer, question_only=len(answer) == 12, one_rr_per_rrset=True)
        other = dns.message.from_wire(fresh, question_only=len(fresh) == 12, one_rr_per_rrset=True)
    except dns.exception.DNSException as error:
        raise Wrong(f"no DNS message: {error!r}") from None
    _require(_essence(reply) == _essence(other), "kept and fresh answers differ")
    if reply.question:
        _judge_question(packet, reply)
    return dns.rcode.to_text(reply.rcode())


def _judge_question(packet: bytes, reply: dns.message.Message) -> None:
    try:
        asked = dns.message.from_wire(packet, question_only=True).question[0]
    except (dns.exception.DNSException, IndexError, ValueError):
        return
    question = reply.question[0]
    # dnspython compares names without regard to case, so their text is compared.
    _require(str(question.name) == str(asked.name), "another name in the question")
    _require((question.rdtype, question.rdclass) == (asked.rdtype, asked.rdclass), "another question")
    expected = EXPECTED.get((str(asked.name).lower(), dns.rdatatype.to_text(asked.rdtype)))
    if expected is None:
        return
    _require(reply.rcode() == (dns.rcode.NOERROR if expected else dns.rcode.NXDOMAIN), f"rcode {reply.rcode()}")
    found = sorted(str(record) for records in reply.answer for record in records)
    _require(found == expected, f"{found} for {expected}")


def _essence(message: dns.message.Message) -> object:
    sections = [sorted(str(each) for each in section if each.rdtype != dns.rdatatype.SOA) for section in message.sections]
    return message.id, message.flags, message.rcode(), message.edns, message.payload, sections


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise Wrong(text)


async def fuzz(count: int, seed: int) -> Counter[str]:
    """How often each outcome was seen; raises `Wrong` with the packet in hexadecimal."""
    rng = random.Random(seed)
    options = DnsOptions()
    keeping = make_server(reference_catalog(), options)
    fresh = make_server(reference_catalog(), DnsOptions(kept_answers=0))
    seen: Counter[str] = Counter()
    for start in range(0, count, AT_ONCE):
        packets = [(a_packet(rng), rng.random() < 0.3) for _ in range(min(AT_ONCE, count - start))]
        answers = await asyncio.gather(*(answer_of(keeping, packet, tcp=tcp) for packet, tcp in packets))
        others = await asyncio.gather(*(answer_of(fresh, packet, tcp=tcp) for packet, tcp in packets))
        for (packet, tcp), answer, other in zip(packets, answers, others, strict=True):
            try:
                seen[judge(packet, answer, other)] += 1
            except Wrong as wrong:
                raise Wrong(f"{wrong}: seed {seed}, packet {packet.hex()}, tcp {tcp}, answer {answer.hex()}") from None
    seen["kept"] = keeping.hits
    seen["malformed"] = keeping.malformed
    seen["lost"] = keeping.lost
    return seen


if __name__ == "__main__":
    print(dict(asyncio.run(fuzz(int(sys.argv[1]), int(sys.argv[2])))))

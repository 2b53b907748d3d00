"""How much of an answer fits: the verified counts of Consul 1.8.7, and the limits themselves."""

import random

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.dns.answers import Group, Plan, SoaPlace, address_record
from discovery.dns.options import DnsOptions
from discovery.dns.packing import pack
from discovery.dns.wire import SRV, A, Edns, Query, Record, name_of
from tests.dns.rig import serving

BIG, HUGE = "big.service.consul", "huge.service.consul"


@pytest.mark.parametrize(
    ("name", "kind", "edns", "tcp", "answers", "additional"),
    [
        (BIG, "A", 0, False, 3, 0),
        (BIG, "SRV", 0, False, 3, 3),
        (BIG, "A", 512, False, 3, 0),
        (BIG, "A", 1232, False, 12, 0),
        (HUGE, "A", 600, False, 34, 0),
        (HUGE, "SRV", 1232, False, 20, 20),
        (HUGE, "SRV", 600, False, 9, 9),
        (HUGE, "SRV", 4096, False, 60, 60),
        (HUGE, "SRV", 0, True, 60, 60),
        (HUGE, "A", 0, True, 60, 0),
    ],
)
async def test_counts(name: str, kind: str, edns: int, tcp: bool, answers: int, additional: int) -> None:
    async with serving() as client:
        reply = await client.ask(name, kind, edns=edns, tcp=tcp)
    assert (len(reply.answer), len(reply.additional)) == (answers, additional)
    assert "TC" not in reply.flags
    assert reply.edns == (edns or None)
    assert tcp or reply.size <= max(edns, 512)


async def with_options(name: str, kind: str = "A", *, tcp: bool = False, edns: int = 0, **options: object) -> tuple[int, bool]:
    """How many answers there were, and whether the reply said that it was cut."""
    async with serving(options=DnsOptions(**options)) as client:
        reply = await client.ask(name, kind, tcp=tcp, edns=edns)
        if not reply.answer:
            assert len(reply.authority) == 1
        return len(reply.answer), "TC" in reply.flags


async def test_udp_answer_limit() -> None:
    assert await with_options(HUGE, udp_answer_limit=100) == (8, False)
    assert await with_options(BIG, udp_answer_limit=0) == (0, False)
    assert await with_options(BIG, udp_answer_limit=1) == (1, False)
    assert await with_options(BIG, udp_answer_limit=0, edns=1232) == (12, False)


async def test_a_record_limit_holds_everywhere_but_for_srv() -> None:
    for tcp in (False, True):
        for edns in (0, 1232):
            expected = 4 if tcp or edns else 3
            assert await with_options(BIG, a_record_limit=4, enable_truncate=True, tcp=tcp, edns=edns) == (
                expected,
                expected == 3,
            )
    assert await with_options(BIG, "SRV", a_record_limit=4, tcp=True) == (12, False)
    assert await with_options(BIG, a_record_limit=4, udp_answer_limit=8) == (4, False)


async def test_truncation_is_told_if_enabled() -> None:
    assert await with_options(HUGE, "SRV", udp_answer_limit=5, enable_truncate=True) == (4, True)
    assert await with_options(HUGE, "SRV", udp_answer_limit=5) == (4, False)
    assert await with_options(BIG, "SRV", udp_answer_limit=8, enable_truncate=True) == (5, True)
    assert await with_options(HUGE, "SRV", edns=1232, enable_truncate=True) == (20, True)
    assert await with_options(HUGE, "SRV", edns=4096, enable_truncate=True) == (60, False)


async def test_without_compression_less_fits() -> None:
    assert await with_options(HUGE, edns=600, disable_compression=True) == (15, False)
    async with serving(options=DnsOptions(disable_compression=True)) as client:
        reply = await client.ask(HUGE, "SRV", tcp=True)
    assert len(reply.answer) == 60
    message = reply.message
    assert reply.size > len(message.to_wire()) + 60 * 20


async def test_cut_answers_keep_one_address_for_each_target_and_no_metadata() -> None:
    async with serving() as client:
        reply = await client.ask("metas2.service.consul", "SRV")
        assert len(reply.answer) == len(reply.additional) == 2
        assert all(" A " in record for record in reply.additional)
        alone = await client.ask("metas.service.consul", "SRV")
        assert (len(alone.answer), len(alone.additional)) == (1, 1)
        assert alone.size <= 512
        whole = await client.ask("metas.service.consul", "SRV", tcp=True)
        assert len(whole.additional) == 11


async def test_what_must_be_whole_and_is_not_says_so() -> None:
    async with serving() as client:
        cut = await client.ask("metan.node.consul", "TXT")
        assert 0 < len(cut.answer) < 10
        assert "TC" in cut.flags
        assert len((await client.ask("metan.node.consul", "TXT", tcp=True)).answer) == 10
        address = await client.ask("metan.node.consul", "A")
        assert (len(address.answer), address.additional) == (1, [])
        assert "TC" not in address.flags


async def test_all_instances_get_their_turn() -> None:
    """Also beyond the handful of answers that are kept at any one time."""
    seen: set[str] = set()
    async with serving() as client:
        for _ in range(60):
            seen.update((await client.ask(BIG)).answer)
    assert len(seen) == 12


OWNER = name_of("svc.service.consul")


def plan_of(kind: int, count: int, *, text: int = 0) -> Plan:
    groups = []
    for number in range(count):
        address = bytes((10, 0, number >> 8, number & 255))
        if kind == A:
            groups.append(Group((address_record(OWNER, address, 0),)))
            continue
        target = name_of(f"n{number}.node.dc1.consul")
        extra = [address_record(target, address, 0), *[Record(target, 16, 0, (b"\x05hello",))] * text]
        groups.append(Group((Record(OWNER, SRV, 0, (bytes(6), target)),), tuple(extra)))
    return Plan(groups=groups, shuffled=True, any_part_will_do=True, soa=SoaPlace.IF_EMPTY)


@given(
    kind=st.sampled_from([A, SRV]),
    count=st.integers(0, 200),
    text=st.integers(0, 3),
    size=st.none() | st.integers(0, 65535),
    tcp=st.booleans(),
    plain=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_reply_is_larger_than_agreed(
    kind: int, count: int, text: int, size: int | None, tcp: bool, plain: bool, seed: int
) -> None:
    query = Query(7, 0x0100, OWNER, kind, edns=None if size is None else Edns(size))
    options = DnsOptions(disable_compression=plain, enable_truncate=True)
    packet = pack(query, plan_of(kind, count, text=text), options, random.Random(seed), tcp=tcp, serial=1)
    assert len(packet) <= (65535 if tcp else max(512, size or 0))
    message = dns.message.from_wire(packet, one_rr_per_rrset=True)
    assert bool(message.answer) == bool(count)
    targets = {str(record[0].target) for record in message.answer} if kind == SRV else set()
    addressed = {str(record.name) for record in message.additional if record.rdtype == A}
    assert targets == addressed
    assert bool(message.flags & 0x0200) == (len(message.answer) < count)


def test_compression_pointers_stay_within_their_reach() -> None:
    query = Query(7, 0, OWNER, SRV)
    packet = pack(query, plan_of(SRV, 1000), DnsOptions(), random.Random(1), tcp=True, serial=1)
    assert len(packet) > 0x4000 * 2
    message = dns.message.from_wire(packet, one_rr_per_rrset=True)
    assert len({str(record[0].target) for record in message.answer}) == 1000
    assert {str(record.name) for record in message.additional} == {str(record[0].target) for record in message.answer}


def test_tcp_answers_have_a_limit_of_records() -> None:
    packet = pack(Query(7, 0, OWNER, SRV), plan_of(SRV, 1100), DnsOptions(), random.Random(1), tcp=True, serial=1)
    message = dns.message.from_wire(packet, one_rr_per_rrset=True)
    assert len(message.answer) == 1024
    many = pack(Query(7, 0, OWNER, A), plan_of(A, 5000), DnsOptions(), random.Random(1), tcp=True, serial=1)
    assert 4000 < len(dns.message.from_wire(many, one_rr_per_rrset=True).answer) <= 4096

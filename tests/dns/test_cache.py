"""Answers kept as bytes: when they may be given, and when not."""

import struct
from typing import Final

import dns.edns
import pytest

from discovery.dns.cache import LONG, LONG_VARIANTS, MAX_AGE, VARIANT_AGE, VARIANTS, AnswerCache, Kept
from discovery.dns.options import DnsOptions
from tests.dns.catalog import FakeCatalog, FakeWatch, reference_catalog
from tests.dns.rig import serving, until

QUESTION: Final = b"question"


class Drawing:
    """Numbers its answers."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return b"id" + struct.pack("!I", self.count)


def kept(
    draw: Drawing, watch: FakeWatch | None = None, *, varies: bool = True, leader_only: bool = False, example: bytes = b"abcd"
) -> Kept:
    return Kept(draw, example, watch=watch or FakeWatch(), varies=varies, leader_only=leader_only, until=MAX_AGE)


def cache_of(*, leads: bool = True, max_entries: int = 4, max_bytes: int = 1 << 20) -> AnswerCache:
    return AnswerCache(lambda: leads, max_entries=max_entries, max_bytes=max_bytes)


def numbers(cache: AnswerCache, count: int, now: float) -> list[int]:
    return [int.from_bytes(cache.find(QUESTION, now) or b"") for _ in range(count)]


def test_variants_take_turns_and_are_drawn_anew() -> None:
    cache, draw = cache_of(), Drawing()
    cache.keep(QUESTION, kept(draw))
    first = numbers(cache, VARIANTS, 0.5)
    assert first == list(range(1, VARIANTS + 1))
    assert sorted(numbers(cache, VARIANTS, 1.0)) == first
    assert numbers(cache, 1, 0.5 + VARIANT_AGE) == [VARIANTS + 1]


def test_long_answers_have_fewer_variants() -> None:
    cache, draw = cache_of(), Drawing()
    cache.keep(QUESTION, kept(draw, example=b"x" * (LONG + 1)))
    assert sorted(set(numbers(cache, 100, 0.5))) == list(range(1, LONG_VARIANTS + 1))


def test_answers_that_cannot_vary_are_drawn_once() -> None:
    cache, draw = cache_of(), Drawing()
    cache.keep(QUESTION, kept(draw, varies=False))
    assert numbers(cache, 5, 0.5) == [1] * 5


def test_a_fired_watch_ends_it() -> None:
    cache, watch = cache_of(), FakeWatch()
    cache.keep(QUESTION, kept(Drawing(), watch))
    assert cache.find(QUESTION, 0.0) is not None
    watch.fired = True
    assert cache.find(QUESTION, 0.0) is None
    assert len(cache) == 0
    cache.keep(QUESTION, kept(Drawing(), watch))
    assert len(cache) == 0


def test_age_ends_it() -> None:
    cache = cache_of()
    cache.keep(QUESTION, kept(Drawing()))
    assert cache.find(QUESTION, MAX_AGE - 0.1) is not None
    assert cache.find(QUESTION, MAX_AGE) is None


@pytest.mark.parametrize("leads", [False, True])
def test_what_only_a_leader_may_say(leads: bool) -> None:
    cache = cache_of(leads=leads)
    cache.keep(QUESTION, kept(Drawing(), leader_only=True))
    assert (cache.find(QUESTION, 0.0) is not None) == leads


def test_the_least_recently_used_go_first() -> None:
    cache = cache_of(max_entries=2)
    for question in (b"a", b"b"):
        cache.keep(question, kept(Drawing()))
    assert cache.find(b"a", 0.0)
    cache.keep(b"c", kept(Drawing()))
    assert cache.find(b"b", 0.0) is None
    assert cache.find(b"a", 0.0)
    assert cache.find(b"c", 0.0)


def test_bytes_are_bounded() -> None:
    example = b"x" * 100
    weight = kept(Drawing(), example=example).weight
    cache = cache_of(max_entries=1000, max_bytes=10 * weight)
    for number in range(100):
        cache.keep(b"%d" % number, kept(Drawing(), example=example))
    assert len(cache) == 9
    cache.keep(b"large", kept(Drawing(), example=b"x" * 200))
    assert cache.find(b"large", 0.0) is None
    assert len(cache) == 9


# --- in the server ---------------------------------------------------------------------------------------------------


async def test_repeated_questions_do_not_ask_again_until_something_changes() -> None:
    catalog = reference_catalog()
    async with serving(catalog) as client:
        for _ in range(5):
            assert len((await client.ask("web.service.consul")).answer) == 2
        assert len(catalog.asked) == 1
        assert client.server.hits == 4
        catalog.service(catalog.nodes[0], "web", 82, address="10.1.2.4")
        assert len((await client.ask("web.service.consul")).answer) == 3
        catalog.remove("web")
        assert (await client.ask("web.service.consul")).rcode == "NXDOMAIN"
        catalog.service(catalog.nodes[0], "web", 83)
        assert (await client.ask("web.service.consul")).rcode == "NOERROR"


@pytest.mark.parametrize(
    ("name", "kind"), [("web.service.consul", "SRV"), ("node1.node.consul", "A"), ("nope.service.consul", "A"), ("consul", "SOA")]
)
async def test_kinds_of_answers_that_are_kept(name: str, kind: str) -> None:
    async with serving() as client:
        first = await client.ask(name, kind)
        again = await client.ask(name, kind)
        assert client.server.hits == 1
        assert (first.rcode, first.answer, first.authority) == (again.rcode, again.answer, again.authority)
        assert first.message.id != again.message.id


async def test_questions_that_differ_are_kept_apart() -> None:
    async with serving() as client:
        assert (await client.ask("web.service.consul")).edns is None
        assert (await client.ask("web.service.consul", edns=1232)).edns == 1232
        assert (await client.ask("web.service.consul", edns=600)).edns == 600
        assert len((await client.ask("big.service.consul", tcp=True)).answer) == 12
        assert len((await client.ask("big.service.consul")).answer) == 3
        assert client.server.hits == 0


@pytest.mark.parametrize("tcp", [False, True])
async def test_spellings_of_a_name_share_an_answer(tcp: bool) -> None:
    async with serving() as client:
        for number, name in enumerate(("WeB.seRVice.CONSUL", "web.service.consul", "WEB.SERVICE.CONSUL")):
            reply = await client.ask(name, "SRV", tcp=tcp)
            assert all(line.startswith(f"{name}. ") for line in reply.answer)
            assert any(line.endswith(" 80 node1.node.dc1.consul.") for line in reply.answer)
            assert any(line.startswith("node1.node.dc1.consul. ") for line in reply.additional)
            assert client.server.hits == number


async def test_without_compression_owners_are_spelt_as_asked() -> None:
    async with serving(options=DnsOptions(disable_compression=True)) as client:
        for name in ("WeB.service.consul", "web.service.consul", "WeB.service.consul"):
            assert all(line.startswith(f"{name}. ") for line in (await client.ask(name)).answer)
        assert client.server.hits == 1


async def test_options_that_do_not_matter_share_an_answer() -> None:
    async with serving() as client:
        for number in range(3):
            cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes((number,)) * 8)
            reply = await client.ask("web.service.consul", edns=1232, options=[cookie])
            assert (len(reply.answer), reply.edns, reply.message.options) == (2, 1232, ())
        assert client.server.hits == 2
        for _ in range(2):
            subnet = dns.edns.ECSOption("192.0.2.0", 24)
            reply = await client.ask("web.service.consul", edns=1232, options=[subnet])
            assert [option.to_text() for option in reply.message.options] == ["ECS 192.0.2.0/24 scope/0"]
        assert client.server.hits == 2


async def test_prepared_queries_and_aliases_are_not_kept() -> None:
    async with serving() as client:
        for name in ("webq.query.consul", "cnamesvc.service.consul"):
            await client.ask(name)
            await client.ask(name)
        assert client.server.hits == 0


async def test_an_alias_follows_its_target() -> None:
    catalog = reference_catalog()
    async with serving(catalog) as client:
        assert len((await client.ask("cnamesvc.service.consul")).answer) == 3
        catalog.service(catalog.nodes[0], "web", 82, address="10.1.2.4")
        assert len((await client.ask("cnamesvc.service.consul", edns=1232)).answer) == 4


async def test_answers_without_a_watch_are_not_kept() -> None:
    catalog = reference_catalog()
    catalog.watching = False
    async with serving(catalog, DnsOptions(allow_stale=False)) as client:
        for _ in range(3):
            await client.ask("web.service.consul")
        assert len(catalog.asked) == 3
        assert client.server.hits == 0


async def test_hot_questions_are_kept_where_the_store_is_elsewhere() -> None:
    catalog = reference_catalog()
    catalog.watching = False
    async with serving(catalog) as client:
        for _ in range(10):
            assert len((await client.ask("web.service.consul", edns=1232)).answer) == 2
        assert client.server.hits == 8
        await until(lambda: catalog.blocked == 1)
        catalog.service(catalog.nodes[0], "web", 82, address="10.1.2.4")
        await until(lambda: catalog.blocked == 1)
        for _ in range(2):
            assert len((await client.ask("web.service.consul", edns=1232)).answer) == 3
        assert client.server.hits == 9
        catalog.remove("web")
        await until(lambda: catalog.blocked == 1)
        assert (await client.ask("web.service.consul")).rcode == "NXDOMAIN"


async def test_other_options_forget_what_was_kept() -> None:
    async with serving() as client:
        assert (await client.ask("web.service.consul")).message.answer[0].ttl == 0
        client.server.reconfigure(DnsOptions(service_ttl={"*": 3 * 10**9}))
        assert (await client.ask("web.service.consul")).message.answer[0].ttl == 3


async def test_consistent_answers_are_kept_only_while_we_lead() -> None:
    catalog = reference_catalog()
    async with serving(catalog, DnsOptions(allow_stale=False)) as client:
        await client.ask("web.service.consul")
        await client.ask("web.service.consul")
        assert (len(catalog.asked), catalog.asked[0][1].allow_stale) == (1, False)
        catalog.leading = False
        await client.ask("web.service.consul")
        assert len(catalog.asked) == 2


async def test_too_stale_an_answer_is_asked_of_the_leader() -> None:
    catalog = reference_catalog()
    catalog.last_contact = 11 * 10**9
    async with serving(catalog, DnsOptions(max_stale=10 * 10**9)) as client:
        await client.ask("web.service.consul")
        assert [request.allow_stale for _, request in catalog.asked] == [True, False]


async def test_stale_answers_are_counted() -> None:
    catalog = FakeCatalog()
    catalog.last_contact = 6 * 10**9
    async with serving(catalog) as client:
        await client.ask("web.service.consul")
        assert client.server._metrics.dns_stale_queries.count == 1

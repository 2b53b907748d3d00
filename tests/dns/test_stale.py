"""While the cluster can't be asked: SERVFAIL, or the last known answer where the operator wants that."""

import asyncio

from discovery.dns.last_known import PATIENCE, PAUSE, LastKnown, NotRemembered
from discovery.dns.options import DnsOptions
from discovery.model.errors import NoLeader, NoServers
from discovery.model.requests import ServiceSpecificRequest
from tests.dns.catalog import FakeCatalog, reference_catalog
from tests.dns.rig import SECOND, serving
from tests.local.rig import now, simulate

OPT_IN = DnsOptions(serve_stale_for=3600 * SECOND, serve_stale_ttl=7 * SECOND, service_ttl={"*": 60 * SECOND})


def fail(catalog: FakeCatalog) -> None:
    catalog.failure = NoServers()
    catalog.changed()


async def test_nothing_old_is_given_by_default() -> None:
    catalog = reference_catalog()
    async with serving(catalog) as client:
        assert (await client.ask("web.service.consul")).rcode == "NOERROR"
        fail(catalog)
        for name in ("web.service.consul", "nope.service.consul", "webq.query.consul", "node1.node.consul", "nope.node.consul"):
            for kind in ("A", "ANY", "SOA", "NS"):
                reply = await client.ask(name, kind)
                assert (reply.rcode, reply.answer, reply.authority) == ("SERVFAIL", [], []), (name, kind)


async def test_the_last_known_answer_is_given_with_a_short_ttl() -> None:
    catalog = reference_catalog()
    async with serving(catalog, OPT_IN) as client:
        fresh = await client.ask("web.service.consul", "SRV", edns=4096)
        await client.ask("node1.node.consul")
        await client.ask("webq.query.consul")
        fail(catalog)
        old = await client.ask("web.service.consul", "SRV", edns=4096)
        assert old.answer == [line.replace(" 60 ", " 7 ", 1) for line in fresh.answer]
        assert {record.ttl for record in old.message.additional} == {7}
        assert (await client.ask("web.service.consul")).answer == [
            "web.service.consul. 7 A 10.1.2.3",
            "web.service.consul. 7 A 127.0.0.61",
        ], "another type of a name that is known"
        assert (await client.ask("node1.node.consul")).answer == ["node1.node.consul. 7 A 127.0.0.61"]
        assert (await client.ask("webq.query.consul")).answer == ["webq.query.consul. 7 A 127.0.0.61"]
        assert (await client.ask("web6.service.consul")).rcode == "SERVFAIL", "never asked before"


async def test_an_old_denial_is_never_given() -> None:
    catalog = reference_catalog()
    async with serving(catalog, OPT_IN) as client:
        assert (await client.ask("nope.service.consul")).rcode == "NXDOMAIN"
        assert (await client.ask("critsvc.service.consul")).rcode == "NXDOMAIN"
        assert (await client.ask("web.service.consul")).rcode == "NOERROR"
        catalog.remove("web")
        assert (await client.ask("web.service.consul")).rcode == "NXDOMAIN"
        fail(catalog)
        for name in ("nope", "critsvc", "web"):
            assert (await client.ask(f"{name}.service.consul")).rcode == "SERVFAIL", name


async def test_news_are_given_once_the_cluster_answers_again() -> None:
    catalog = reference_catalog()
    async with serving(catalog, OPT_IN) as client:
        await client.ask("web.service.consul")
        fail(catalog)
        assert (await client.ask("web.service.consul")).message.answer[0].ttl == 7
        catalog.failure = None
        catalog.service(catalog.nodes[0], "web", 82, address="10.1.2.4")

        async def fresh() -> bool:
            reply = await client.ask("web.service.consul")
            return len(reply.answer) == 3 and reply.message.answer[0].ttl == 60

        for _ in range(100):
            if await fresh():
                return
            await asyncio.sleep(PAUSE / 10)
        raise AssertionError("the old answer is still given")


async def test_who_waits_too_long_gets_the_old_answer_and_who_has_none_waits_on() -> None:
    catalog = reference_catalog()
    async with serving(catalog, OPT_IN) as client:
        await client.ask("web.service.consul")
        catalog.changed()
        catalog.gate = asyncio.Event()
        begin = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(client.ask("web6.service.consul", "AAAA"))
        assert (await client.ask("web.service.consul")).message.answer[0].ttl == 7
        assert asyncio.get_running_loop().time() - begin >= PATIENCE * 0.9
        assert not waiting.done()
        catalog.gate.set()
        assert (await waiting).answer == ["web6.service.consul. 60 AAAA 2001:db8::1"]


async def test_a_reload_keeps_what_is_known() -> None:
    catalog = reference_catalog()
    async with serving(catalog, OPT_IN) as client:
        await client.ask("web.service.consul")
        fail(catalog)
        client.server.reconfigure(DnsOptions(serve_stale_for=SECOND * 60, serve_stale_ttl=SECOND))
        assert (await client.ask("web.service.consul")).message.answer[0].ttl == 1
        client.server.reconfigure(DnsOptions())
        assert (await client.ask("web.service.consul")).rcode == "SERVFAIL"


def test_what_is_known_grows_too_old() -> None:
    async def scenario() -> None:
        catalog = reference_catalog()
        known = LastKnown(catalog, now)
        known.keep_for(10.0)
        request = ServiceSpecificRequest(datacenter="dc1", service_name="web", allow_stale=True)
        await known.ask("Health.ServiceNodes", request)
        await asyncio.sleep(9.9)
        assert len((await known.recall.ask("Health.ServiceNodes", request)).reply.nodes) == 2
        await asyncio.sleep(0.2)
        try:
            await known.recall.ask("Health.ServiceNodes", request)
        except NotRemembered:
            return
        raise AssertionError("it was remembered for too long")

    simulate(scenario())


async def test_no_leader_is_servfail() -> None:
    catalog = reference_catalog()
    catalog.failure = NoLeader()
    async with serving(catalog, DnsOptions(allow_stale=False)) as asking:
        for name in ("web.service.consul", "nope.node.consul", "x.query.consul"):
            reply = await asking.ask(name)
            assert (reply.rcode, reply.authority) == ("SERVFAIL", [])

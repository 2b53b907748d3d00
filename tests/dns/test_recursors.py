"""Names of others: forwarded to upstream servers on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from discovery.dns.options import DnsOptions
from discovery.dns.sockets import bind
from tests.dns.catalog import reference_catalog
from tests.dns.rig import HOST, Client, serving, until

SECOND = 10**9
TTL5 = {"*": 5 * SECOND}
Answering = Callable[[dns.message.Message], list[bytes]]


class Upstream(asyncio.DatagramProtocol):
    """Another server; `answering` gives the packets it sends for a query."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[dns.message.Message] = []
        self.transport: asyncio.DatagramTransport | None = None
        self.port = 0
        self.gate: asyncio.Event | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.answering_now = asyncio.ensure_future(self._send(data, addr))

    async def _send(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        if self.gate is not None:
            await self.gate.wait()
        for packet in self._answers(data):
            self.transport.sendto(packet, addr)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        for packet in self._answers(await reader.readexactly(size)):
            writer.write(len(packet).to_bytes(2) + packet)
        await writer.drain()
        writer.close()

    def _answers(self, data: bytes) -> list[bytes]:
        query = dns.message.from_wire(data)
        self.asked.append(query)
        return self.answering(query)


def reply_to(query: dns.message.Message, *records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(rcode)
    for record in records:
        reply.answer.append(dns.rrset.from_text(*record.split(" ")))
    return reply


def good(query: dns.message.Message) -> list[bytes]:
    name = str(query.question[0].name)
    if name == "www.example.com.":
        return [reply_to(query, f"{name} 60 IN CNAME real.example.com.", "real.example.com. 30 IN A 93.184.216.34").to_wire()]
    if name == "nx.example.org.":
        return [reply_to(query, rcode=dns.rcode.NXDOMAIN).to_wire()]
    if name.endswith("arpa."):
        return [reply_to(query, f"{name} 60 IN PTR host.example.org.").to_wire()]
    return [reply_to(query, f"{name} 300 IN A 192.0.2.1").to_wire()]


def failing(query: dns.message.Message) -> list[bytes]:
    return [reply_to(query, rcode=dns.rcode.SERVFAIL).to_wire()]


def silent(_query: dns.message.Message) -> list[bytes]:
    return []


@asynccontextmanager
async def upstream(answering: Answering) -> AsyncIterator[Upstream]:
    udp, tcp = bind(HOST, 0)
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Upstream(answering), sock=udp)
    streams = await asyncio.start_server(server.connected, sock=tcp)
    server.port = udp.getsockname()[1] if udp.fileno() >= 0 else transport.get_extra_info("sockname")[1]
    try:
        yield server
    finally:
        transport.close()
        streams.close()


@asynccontextmanager
async def forwarding(*upstreams: Upstream, **options: object) -> AsyncIterator[Client]:
    settings = {"service_ttl": TTL5, "recursor_timeout": SECOND // 5, **options}
    addresses = tuple(server.address for server in upstreams)
    async with serving(options=DnsOptions(recursors=addresses, **settings)) as client:
        yield client


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_foreign_names_are_relayed(tcp: bool) -> None:
    async with upstream(good) as server, forwarding(server) as client:
        reply = await client.ask("www.example.org", tcp=tcp, edns=1400)
        assert reply.answer == ["www.example.org. 300 A 192.0.2.1"]
        assert reply.flags == {"QR", "RD", "RA"}
        assert server.asked[0].payload == 1400
        missing = await client.ask("nx.example.org", tcp=tcp)
        assert missing.rcode == "NXDOMAIN"


async def test_names_without_recursion_desired_are_relayed() -> None:
    async with upstream(good) as server, forwarding(server) as client:
        query = dns.message.make_query("www.example.org", "A")
        query.flags &= ~dns.flags.RD
        assert len((await client.send(query)).answer) == 1
        assert not server.asked[0].flags & dns.flags.RD


@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_aliases_are_followed_with_the_service_ttl(kind: str) -> None:
    async with upstream(good) as server, forwarding(server) as client:
        reply = await client.ask("ext.service.consul", kind)
        assert reply.answer == [
            "ext.service.consul. 5 CNAME www.example.com.",
            "real.example.com. 5 A 93.184.216.34",
            "www.example.com. 5 CNAME real.example.com.",
        ]
        assert reply.flags == {"QR", "AA", "RD", "RA"}
        assert server.asked[0].question[0].rdtype == 1


async def test_srv_targets_of_others_are_looked_up() -> None:
    async with upstream(good) as server, forwarding(server, enable_additional_node_meta_txt=False) as client:
        reply = await client.ask("ext.service.consul", "SRV")
        assert reply.answer == ["ext.service.consul. 5 SRV 1 1 8080 www.example.com."]
        assert reply.additional == ["real.example.com. 5 A 93.184.216.34", "www.example.com. 5 CNAME real.example.com."]


async def test_nodes_keep_the_ttl_of_others() -> None:
    async with upstream(good) as server, forwarding(server) as client:
        reply = await client.ask("fqdnnode.node.consul")
        assert reply.answer == ["fqdnnode.node.consul. 0 CNAME host.example.net.", "host.example.net. 300 A 192.0.2.1"]


async def test_aliases_through_others_are_not_kept() -> None:
    async with upstream(good) as server, forwarding(server) as client:
        await client.ask("ext.service.consul")
        await client.ask("ext.service.consul")
        assert len(server.asked) == 2


def many(query: dns.message.Message) -> list[bytes]:
    name = str(query.question[0].name)
    return [reply_to(query, *(f"{name} 60 IN A 192.0.2.{number}" for number in range(9))).to_wire()]


async def test_an_alias_adds_few_records_without_edns() -> None:
    async with upstream(many) as server, forwarding(server, udp_answer_limit=8) as client:
        assert len((await client.ask("ext.service.consul")).answer) == 6
        assert len((await client.ask("ext.service.consul", edns=1232)).answer) == 10


async def test_reverse_lookups_are_forwarded_if_missed() -> None:
    async with upstream(good) as server, forwarding(server) as client:
        missed = await client.ask("1.255.255.10.in-addr.arpa", "PTR")
        assert missed.answer == ["1.255.255.10.in-addr.arpa. 60 PTR host.example.org."]
        known = await client.ask("3.2.1.10.in-addr.arpa", "PTR")
        assert known.answer == ["3.2.1.10.in-addr.arpa. 0 PTR web.service.dc1.consul."]
        assert len(server.asked) == 1


async def test_our_own_names_are_never_forwarded() -> None:
    async with upstream(good) as server, forwarding(server, alt_domain="alt.example") as client:
        for name in ("nope.service.consul", "foo.consul", "consul", "nope.node.alt.example", "alt.example", "web.virtual.consul"):
            reply = await client.ask(name)
            assert (reply.rcode, len(reply.authority)) == ("NXDOMAIN", 1)
            assert reply.flags == {"QR", "AA", "RD", "RA"}
        assert server.asked == []


async def test_the_next_is_asked_after_a_failure() -> None:
    async with upstream(failing) as bad, upstream(silent) as mute, upstream(good) as fine:
        async with forwarding(bad, mute, fine) as client:
            assert len((await client.ask("www.example.org")).answer) == 1
        async with forwarding(bad, fine) as client:
            assert (await client.ask("ext.service.consul")).answer == ["ext.service.consul. 5 CNAME www.example.com."]
        async with forwarding(mute, fine) as client:
            assert len((await client.ask("ext.service.consul")).answer) == 3


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_all_fail(tcp: bool) -> None:
    async with upstream(failing) as bad, upstream(silent) as mute, forwarding(bad, mute) as client:
        reply = await client.ask("www.example.org", tcp=tcp)
        assert (reply.rcode, reply.flags, reply.authority) == ("SERVFAIL", {"QR", "RD", "RA"}, [])
        assert (len(bad.asked), len(mute.asked)) == (1, 1)
        reverse = await client.ask("1.255.255.10.in-addr.arpa", "PTR", tcp=tcp)
        assert (reverse.rcode, reverse.flags) == ("SERVFAIL", {"QR", "RD", "RA"})


async def test_nobody_listens() -> None:
    async with upstream(good) as gone:
        pass
    async with forwarding(gone) as client:
        assert (await client.ask("www.example.org")).rcode == "SERVFAIL"
        assert (await client.ask("www.example.org", tcp=True)).rcode == "SERVFAIL"


def forged(query: dns.message.Message) -> list[bytes]:
    """Replies with another id, another question, and none that is a reply, before the right one."""
    wrong_id = reply_to(query, f"{query.question[0].name} 1 IN A 198.51.100.1")
    wrong_id.id = query.id ^ 1
    other = dns.message.make_query("other.example.org", "A", id=query.id)
    wrong_name = reply_to(other, "other.example.org. 1 IN A 198.51.100.2")
    wrong_type = reply_to(dns.message.make_query(query.question[0].name, "AAAA", id=query.id))
    packets = [message.to_wire() for message in (wrong_id, wrong_name, wrong_type, query)]
    return [b"", packets[0][:7], *packets, *good(query)]


async def test_forged_replies_are_not_believed() -> None:
    async with upstream(forged) as server, forwarding(server) as client:
        assert (await client.ask("www.example.org")).answer == ["www.example.org. 300 A 192.0.2.1"]
        assert len((await client.ask("ext.service.consul")).answer) == 3
        assert len({query.id for query in server.asked}) == 2


def garbled(query: dns.message.Message) -> list[bytes]:
    return [good(query)[0][:-3]]


async def test_a_garbled_reply_about_an_alias_leaves_it_alone() -> None:
    async with upstream(garbled) as server, forwarding(server) as client:
        assert (await client.ask("ext.service.consul")).answer == ["ext.service.consul. 5 CNAME www.example.com."]


async def test_the_order_can_be_random() -> None:
    async with upstream(good) as one, upstream(good) as two, forwarding(one, two, recursor_strategy="random") as client:
        for _ in range(30):
            await client.ask("www.example.org")
        assert len(one.asked) + len(two.asked) == 30
        assert one.asked
        assert two.asked
    async with upstream(good) as one, upstream(good) as two, forwarding(one, two) as client:
        for _ in range(5):
            await client.ask("www.example.org")
        assert (len(one.asked), len(two.asked)) == (5, 0)


async def test_an_agent_does_not_ask_itself() -> None:
    async with serving() as client:
        host, port = client.address
        client.server.reconfigure(DnsOptions(recursors=(f"{host}:{port}",)))
        assert (await client.ask("www.example.org")).rcode == "REFUSED"


async def test_equal_questions_at_once_are_asked_once() -> None:
    gate = asyncio.Event()
    async with upstream(good) as server, forwarding(server) as client:
        server.gate = gate
        asking = [asyncio.create_task(client.ask("www.example.org")) for _ in range(5)]
        await until(lambda: len(client.server._tasks) == 5)
        gate.set()
        replies = await asyncio.gather(*asking)
        assert [len(reply.answer) for reply in replies] == [1] * 5
        assert len(server.asked) == 1
        await client.ask("www.example.org")
        assert len(server.asked) == 2


async def test_agents_that_ask_each_other_come_to_an_end() -> None:
    async with serving(reference_catalog()) as one, serving(reference_catalog()) as two:
        for client, other in ((one, two), (two, one)):
            address = f"{HOST}:{other.address[1]}"
            client.server.reconfigure(DnsOptions(recursors=(address,), recursor_timeout=SECOND // 5))
        assert (await one.ask("www.example.org")).rcode == "SERVFAIL"
        assert len(one.server._tasks) <= 1
        assert one.server.lost == two.server.lost == 0


async def test_recursors_come_and_go_with_a_reload() -> None:
    async with upstream(good) as server, serving() as client:
        assert (await client.ask("www.example.org")).rcode == "REFUSED"
        client.server.reconfigure(DnsOptions(recursors=(server.address,)))
        assert (await client.ask("www.example.org")).rcode == "NOERROR"
        client.server.reconfigure(DnsOptions())
        assert (await client.ask("www.example.org")).rcode == "REFUSED"
        with pytest.raises(ValueError):
            client.server.reconfigure(DnsOptions(recursors=("0.0.0.0",)))

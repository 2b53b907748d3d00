"""A DNS server on loopback sockets, and dnspython as the client and judge of what it sends."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import msgspec

from discovery.dns.options import DnsOptions
from discovery.dns.server import DnsServer
from discovery.model.delegate import Delegate
from discovery.telemetry import Metrics
from tests.dns.catalog import FakeCatalog, reference_catalog

HOST = "127.0.0.1"
PATIENCE = 5.0
SECOND = 10**9


class Reply(msgspec.Struct):
    """A reply as dnspython understood it; records as text, sorted, SOA serials replaced."""

    rcode: str
    flags: set[str]
    answer: list[str]
    authority: list[str]
    additional: list[str]
    edns: int | None
    size: int
    message: dns.message.Message


def _lines(section: Sequence[dns.rrset.RRset]) -> list[str]:
    lines = []
    for record in section:
        words = record.to_text().split(" ")
        if words[3] == "SOA":
            words[6] = "<now>"
        lines.append(" ".join(word for word in words if word != "IN"))
    return sorted(lines)


class Client:
    def __init__(self, server: DnsServer) -> None:
        self.server = server
        self.address = server.addresses[0]

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False, edns: int = 0, **more: object) -> Reply:
        query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=edns, **more)
        return await self.send(query, tcp=tcp)

    async def send(self, query: dns.message.Message, *, tcp: bool = False) -> Reply:
        host, port = self.address
        exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        message = await exchange(query, host, PATIENCE, port, one_rr_per_rrset=True)
        assert [str(each) for each in message.question] == [str(each) for each in query.question], "the question is echoed"
        return Reply(
            rcode=dns.rcode.to_text(message.rcode()),
            flags=set(dns.flags.to_text(message.flags).split()),
            answer=_lines(message.answer),
            authority=_lines(message.authority),
            additional=_lines(message.additional),
            edns=int(message.payload) if message.edns >= 0 else None,
            size=len(message.wire or b""),
            message=message,
        )


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until `condition` holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("what was waited for did not come")


def make_server(delegate: Delegate, options: DnsOptions, *, seed: int = 1, datacenter: str = "dc1") -> DnsServer:
    metrics = Metrics(node="node1")
    return DnsServer(delegate, options, random.Random(seed), node_name="node1", datacenter=datacenter, metrics=metrics)


@asynccontextmanager
async def serving(catalog: FakeCatalog | None = None, options: DnsOptions | None = None, **more: object) -> AsyncIterator[Client]:
    server = make_server(catalog or reference_catalog(), options or DnsOptions(alt_domain="alt.example"), **more)
    await server.start([(HOST, 0)])
    try:
        yield Client(server)
    finally:
        await server.stop()

"""The server on real sockets: failures of the cluster, broken packets, connections and their limits."""

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Coroutine
from contextlib import closing

import dns.flags
import dns.message
import dns.rcode
import pytest

from discovery.dns.options import DnsOptions
from discovery.dns.tcp import MAX_PIPELINED, Connections, TcpConnection
from discovery.dns.wire import MAX_QUERY
from discovery.model.errors import DiscoveryError, NoLeader, NoPathToDatacenter, NoServers, RemoteError, RequestFailed
from tests.dns.catalog import FakeCatalog, reference_catalog
from tests.dns.rig import HOST, Client, make_server, serving, until


def question(name: str = "web.service.consul", kind: str = "A", *, number: int = 1) -> bytes:
    return dns.message.make_query(name, kind, id=number).to_wire()


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2) + packet


async def raw_udp(client: Client, packet: bytes) -> bytes:
    """The next datagram after `packet` was sent, which for a dropped packet is the answer to a good question sent after it."""
    loop = asyncio.get_running_loop()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.setblocking(False)
        sender.connect(client.address)
        await loop.sock_sendall(sender, packet)
        await loop.sock_sendall(sender, question(number=0xFFFF))
        return await asyncio.wait_for(loop.sock_recv(sender, 65535), 5)


# --- when the cluster can't be asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [NoLeader(), NoServers(), RequestFailed("rpc error"), RemoteError("x"), DiscoveryError("?")])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.service.consul", "A"),
        ("node1.node.consul", "A"),
        ("webq.query.consul", "A"),
        ("consul", "SOA"),
        ("consul", "NS"),
        ("3.2.1.10.in-addr.arpa", "PTR"),
    ],
)
async def test_failures_are_no_proof_of_absence(failure: DiscoveryError, name: str, kind: str) -> None:
    catalog = reference_catalog()
    catalog.failure = failure
    async with serving(catalog) as client:
        reply = await client.ask(name, kind)
        assert (reply.rcode, reply.answer, reply.authority) == ("SERVFAIL", [], [])
        catalog.failure = None
        assert (await client.ask(name, kind)).rcode == "NOERROR"


@pytest.mark.parametrize("failure", [NoPathToDatacenter(), RemoteError("No path to datacenter")])
async def test_an_unknown_datacenter_has_no_names(failure: DiscoveryError) -> None:
    catalog = reference_catalog()
    catalog.failure = failure
    async with serving(catalog) as client:
        reply = await client.ask("web.service.dc7.consul")
        assert (reply.rcode, len(reply.authority)) == ("NXDOMAIN", 1)
        assert catalog.asked[0][1].datacenter == "dc7"


async def test_an_unknown_prepared_query_told_by_another_server() -> None:
    async with serving() as client:
        assert (await client.ask("nope.query.consul")).rcode == "NXDOMAIN"


async def test_a_broken_alias_does_not_spoil_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    catalog = FakeCatalog()
    catalog.service(catalog.node("n", "10.0.0.1"), "far", address="web.service.dc9.consul")
    async with serving(catalog) as client:
        assert (await client.ask("far.service.consul")).answer == ["far.service.consul. 0 CNAME web.service.dc9.consul."]


async def test_faults_of_our_own_are_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    catalog = reference_catalog()
    catalog.failure = ZeroDivisionError()  # type: ignore[assignment]
    async with serving(catalog) as client:
        packet = await raw_udp(client, question(number=7))
        assert dns.message.from_wire(packet).rcode() == dns.rcode.SERVFAIL
    assert "ZeroDivisionError" in caplog.text


async def test_addresses_that_are_neither(caplog: pytest.LogCaptureFixture) -> None:
    catalog = FakeCatalog()
    catalog.service(catalog.node("n", "10.0.0.1"), "odd", address="not..a host")
    async with serving(catalog) as client:
        reply = await client.ask("odd.service.consul")
        assert (reply.rcode, reply.answer, len(reply.authority)) == ("NOERROR", [], 1)
    assert "not..a host" in caplog.text


# --- packets that are no questions -----------------------------------------------------------------------------------

HEADER = bytes.fromhex("0007 0100 0001 0000 0000 0000")
ASKED = question(number=7)


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (HEADER, "FORMERR"),
        (ASKED[:-1], "FORMERR"),
        (ASKED[:13], "FORMERR"),
        (HEADER + b"\x3f", "FORMERR"),
        (HEADER + b"\xc0\x0c\0\x01\0\x01", "FORMERR"),
        (HEADER + b"\xff" * 40, "FORMERR"),
        (HEADER + b"\x01\xff\0\0\x01\0\x01", "FORMERR"),
        (HEADER + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\x01\0\x01", "FORMERR"),
        (ASKED[:4] + b"\0\0" + ASKED[6:], "FORMERR"),
        (ASKED[:4] + b"\0\2" + ASKED[6:], "FORMERR"),
        (ASKED[:6] + b"\xff\xff" + ASKED[8:], "FORMERR"),
        (ASKED[:8] + b"\0\1" + ASKED[10:], "FORMERR"),
        (ASKED[:10] + b"\0\1" + ASKED[12:], "FORMERR"),
        (ASKED[:10] + b"\xff\xff" + ASKED[12:], "FORMERR"),
        (ASKED + b"x" * MAX_QUERY, "FORMERR"),
        (ASKED[:2] + b"\x28\0" + ASKED[4:], "NOTIMP"),
        (ASKED[:2] + b"\x20\0" + ASKED[4:], "NOTIMP"),
        (b"\0\7\x10\0" + bytes(8), "NOTIMP"),
    ],
)
async def test_broken_questions_are_turned_down(packet: bytes, rcode: str) -> None:
    async with serving() as client:
        reply = await raw_udp(client, packet)
        assert reply[:2] == b"\0\7"
        message = dns.message.from_wire(reply, question_only=True)
        assert dns.rcode.to_text(message.rcode()) == rcode
        assert len(reply) == 12
        assert client.server.malformed == (rcode == "FORMERR")


@pytest.mark.parametrize("packet", [b"", b"\0", ASKED[:11], ASKED[:2] + b"\x81\x80" + ASKED[4:]])
async def test_what_must_not_be_answered_is_dropped(packet: bytes) -> None:
    async with serving() as client:
        reply = await raw_udp(client, packet)
        assert reply[:2] == b"\xff\xff"
        assert client.server.malformed == 1


async def test_transfers_are_not_implemented() -> None:
    async with serving() as client:
        for tcp in (False, True):
            query = dns.message.make_query("consul", "AXFR")
            reply = await client.send(query, tcp=tcp)
            assert (reply.rcode, reply.answer, reply.authority) == ("NOTIMP", [], [])


async def test_complaints_are_counted_and_not_repeated_without_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with serving() as client:
        for _ in range(20):
            await raw_udp(client, HEADER)
        assert client.server.malformed == 20
    assert len([record for record in caplog.records if "malformed" in record.message]) <= 2


async def test_flags_are_echoed() -> None:
    async with serving() as client:
        query = dns.message.make_query("web.service.consul", "A", flags=dns.flags.CD | dns.flags.AD)
        assert (await client.send(query)).flags == {"QR", "AA", "CD"}


async def test_the_class_is_ignored() -> None:
    async with serving() as client:
        packet = question(number=7)[:-2] + b"\0\3"
        reply = await raw_udp(client, packet)
        assert reply[:2] == b"\0\7"
        assert int.from_bytes(reply[6:8]) == 2


# --- TCP -------------------------------------------------------------------------------------------------------------


async def connect(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*client.address)


async def read_reply(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(5):
        size = int.from_bytes(await reader.readexactly(2))
        return dns.message.from_wire(await reader.readexactly(size))


async def test_questions_in_one_segment_are_all_answered() -> None:
    async with serving() as client:
        reader, writer = await connect(client)
        count = 3 * MAX_PIPELINED
        writer.write(b"".join(framed(question(f"n{number % 50}.node.consul", number=number)) for number in range(count)))
        replies = [await read_reply(reader) for _ in range(count)]
        assert sorted(reply.id for reply in replies) == list(range(count))
        writer.close()


async def test_questions_in_single_bytes_are_answered() -> None:
    async with serving() as client:
        reader, writer = await connect(client)
        for packet in (framed(question(number=1)), framed(question(number=2))):
            for byte in packet:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            assert len((await read_reply(reader)).answer) == 1
        writer.close()


async def test_waiting_questions_do_not_hold_up_ready_answers() -> None:
    catalog = reference_catalog()
    async with serving(catalog) as client:
        await client.ask("web.service.consul", tcp=True)
        catalog.gate = asyncio.Event()
        reader, writer = await connect(client)
        writer.write(framed(question("nope.service.consul", number=1)))
        query = dns.message.make_query("web.service.consul", "A", id=2)
        writer.write(framed(query.to_wire()))
        assert (await read_reply(reader)).id == 2
        catalog.gate.set()
        assert (await read_reply(reader)).id == 1
        writer.close()


async def test_a_client_with_too_many_open_questions_has_to_wait() -> None:
    catalog = reference_catalog()
    catalog.gate = asyncio.Event()
    async with serving(catalog) as client:
        reader, writer = await connect(client)
        writer.write(b"".join(framed(question(number=number)) for number in range(2 * MAX_PIPELINED)))
        await until(lambda: len(catalog.asked) >= MAX_PIPELINED)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(client.server._tasks) == MAX_PIPELINED
        catalog.gate.set()
        for _ in range(2 * MAX_PIPELINED):
            await read_reply(reader)
        writer.close()


@pytest.mark.parametrize("announced", [0, 11, MAX_QUERY + 1, 65535])
async def test_sizes_are_checked_before_they_are_believed(announced: int) -> None:
    async with serving() as client:
        reader, writer = await connect(client)
        writer.write(announced.to_bytes(2) + b"x" * 100)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_reply(reader)
        writer.close()
        assert client.server.lost == 1


async def test_broken_questions_over_tcp() -> None:
    async with serving() as client:
        reader, writer = await connect(client)
        writer.write(framed(HEADER) + framed(ASKED[:2] + b"\x81\x80" + ASKED[4:]) + framed(question(number=9)))
        assert (await read_reply(reader)).rcode() == dns.rcode.FORMERR
        assert (await read_reply(reader)).id == 9
        writer.close()


async def listening(connections: Connections) -> tuple[asyncio.Server, Callable[[], Coroutine[None, None, tuple]]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TcpConnection(connections), HOST, 0)
    address = server.sockets[0].getsockname()
    return server, lambda: asyncio.open_connection(*address)


async def test_silent_connections_are_closed() -> None:
    connections = Connections(make_server(reference_catalog(), DnsOptions()), idle_timeout=0.05)
    server, opening = await listening(connections)
    reader, writer = await opening()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_reply(reader)
    writer.close()
    assert len(connections) == 0
    server.close()


async def test_connections_are_bounded() -> None:
    desk = make_server(reference_catalog(), DnsOptions())
    connections = Connections(desk, limit=1)
    server, opening = await listening(connections)
    reader, writer = await opening()
    writer.write(framed(question()))
    await read_reply(reader)
    second, second_writer = await opening()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await read_reply(second)
    assert (len(connections), desk.lost) == (1, 1)
    writer.close()
    second_writer.close()
    connections.close()
    server.close()


# --- starting and stopping -------------------------------------------------------------------------------------------


async def test_a_taken_port_is_an_error_and_nothing_stays_open() -> None:
    async with serving() as client:
        other = make_server(reference_catalog(), DnsOptions())
        with pytest.raises(OSError):
            await other.start([(HOST, 0), client.address])
        assert other.addresses == []


async def test_several_addresses() -> None:
    server = make_server(reference_catalog(), DnsOptions())
    await server.start([(HOST, 0), ("::1", 0)])
    assert len(server.addresses) == 2
    for address in server.addresses:
        client = Client(server)
        client.address = address
        assert (await client.ask("web.service.consul")).rcode == "NOERROR"
        assert (await client.ask("web.service.consul", tcp=True)).rcode == "NOERROR"
    await server.stop()
    await server.start([(HOST, 0)])
    assert (await Client(server).ask("web.service.consul")).rcode == "NOERROR"
    await server.stop()


async def test_stopping_gives_up_on_open_questions() -> None:
    catalog = reference_catalog()
    catalog.gate = asyncio.Event()
    server = make_server(catalog, DnsOptions())
    await server.start([(HOST, 0)])
    asking = asyncio.create_task(Client(server).ask("web.service.consul", tcp=True))
    await until(lambda: bool(catalog.asked))
    await server.stop()
    with pytest.raises((EOFError, OSError)):
        await asking


async def test_many_questions_at_once() -> None:
    names = ["web.service.consul", "node1.node.consul", "nope.service.consul", "huge.service.consul", "consul"]
    rng = random.Random(5)
    async with serving() as client:
        asking = [client.ask(rng.choice(names), rng.choice(["A", "SRV", "SOA"]), tcp=rng.random() < 0.1) for _ in range(300)]
        replies = await asyncio.gather(*asking)
        assert {reply.rcode for reply in replies} <= {"NOERROR", "NXDOMAIN"}
        metrics = client.server._metrics
        assert metrics.dns_domain_query.count == 300


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "127.0.0.77"), ("::", "::1")])
async def test_answers_leave_from_the_address_that_was_asked(wildcard: str, asked: str) -> None:
    """The client's socket is connected, so that it sees nothing from elsewhere."""
    server = make_server(reference_catalog(), DnsOptions())
    await server.start([(wildcard, 0)])
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as sender:
        sender.setblocking(False)
        sender.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        sender.connect((asked, server.addresses[0][1]))
        for number in (1, 2):
            await loop.sock_sendall(sender, question(number=number))
            reply = await asyncio.wait_for(loop.sock_recv(sender, 65535), 5)
            assert reply[:2] == number.to_bytes(2)
    await server.stop()

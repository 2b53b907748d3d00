"""The verified answers of Consul 1.8.7, question by question."""

from collections.abc import AsyncIterator

import pytest

from discovery.dns.options import DnsOptions
from discovery.model.records import ServiceAddress
from tests.dns.catalog import QUERY_ID, FakeCatalog
from tests.dns.rig import Client, serving

SOA = "consul. 0 SOA ns.consul. hostmaster.consul. <now> 3600 600 86400 0"
HEX6 = "20010db80000000000000000000000"
META = ["consul-network-segment=", "env=prod", "role=a=b``c", "verbatim text"]


def meta(owner: str) -> list[str]:
    return [f'{owner} 0 TXT "{text}"' for text in META]


NODE1 = "node1.node.dc1.consul."
NODE1_A = f"{NODE1} 0 A 127.0.0.61"
WITH_META = [NODE1_A, *meta(NODE1)]
WEB_SRV = ["1 1 80 node1.node.dc1.consul.", "1 10 81 0a010203.addr.dc1.consul."]
WEB_EXTRA = ["0a010203.addr.dc1.consul. 0 A 10.1.2.3", *WITH_META, *meta(NODE1)]
WEB_A = ["A 127.0.0.61", "A 10.1.2.3"]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving() as client:
        yield client


def owned(name: str, kind: str, answers: list[str]) -> list[str]:
    """Answers whose owner and TTL are left out belong to the name asked, spelt as asked."""
    prefix = f"{name}. 0 SRV " if kind == "SRV" else f"{name}. 0 "
    return sorted(answer if " 0 " in answer else prefix + answer for answer in answers)


ANSWERED: list[tuple[str, str, list[str], list[str]]] = [
    ("node1.node.consul", "A", ["A 127.0.0.61"], meta("node1.node.consul.")),
    ("node1.node.dc1.consul", "A", ["A 127.0.0.61"], meta("node1.node.dc1.consul.")),
    ("node1.node.consul", "AAAA", [], meta("node1.node.consul.")),
    ("node1.node.consul", "ANY", ["A 127.0.0.61", *(f'TXT "{text}"' for text in META)], []),
    ("node1.node.consul", "TXT", [f'TXT "{text}"' for text in META], []),
    ("node1.node.consul", "SRV", [], []),
    ("node1.node.consul", "MX", [], []),
    ("NODE1.Node.ConSul", "A", ["A 127.0.0.61"], meta("NODE1.Node.ConSul.")),
    ("web.service.consul", "A", WEB_A, []),
    ("web.service.consul", "SRV", WEB_SRV, WEB_EXTRA),
    ("web.service.consul", "TXT", WEB_A, []),
    ("primary.web.service.consul", "SRV", ["1 1 80 node1.node.dc1.consul."], WITH_META),
    ("_web._tcp.service.consul", "SRV", WEB_SRV, WEB_EXTRA),
    ("_web._tcp.consul", "SRV", WEB_SRV, WEB_EXTRA),
    ("_web._tcp.dc1.consul", "SRV", WEB_SRV, WEB_EXTRA),
    ("_web._v2.service.consul", "SRV", ["1 10 81 0a010203.addr.dc1.consul."], [WEB_EXTRA[0], *meta(NODE1)]),
    ("_web._tcp.service.consul", "A", WEB_A, []),
    ("web6.service.consul", "AAAA", ["AAAA 2001:db8::1"], []),
    (
        "web6.service.consul",
        "SRV",
        [f"1 1 443 {HEX6}01.addr.dc1.consul."],
        [f"{HEX6}01.addr.dc1.consul. 0 AAAA 2001:db8::1", *meta(NODE1)],
    ),
    ("ext.service.consul", "A", ["CNAME www.example.com."], []),
    ("ext.service.consul", "AAAA", ["CNAME www.example.com."], []),
    ("ext.service.consul", "ANY", ["CNAME www.example.com."], []),
    ("ext.service.consul", "CNAME", ["CNAME www.example.com."], []),
    ("ext.service.consul", "SRV", ["1 1 8080 www.example.com."], meta(NODE1)),
    (
        "cnamesvc.service.consul",
        "A",
        ["CNAME web.service.consul.", "web.service.consul. 0 A 10.1.2.3", "web.service.consul. 0 A 127.0.0.61"],
        [],
    ),
    ("my_svc.service.consul", "A", ["A 127.0.0.61"], []),
    ("warnsvc.service.consul", "A", ["A 127.0.0.61"], []),
    ("weightsvc.service.consul", "SRV", ["1 3 91 node1.node.dc1.consul."], WITH_META),
    ("UPCASE.service.consul", "A", ["A 127.0.0.61"], []),
    ("a.b.mtag.service.consul", "A", ["A 127.0.0.61"], []),
    ("mixed.mtag.service.consul", "A", ["A 127.0.0.61"], []),
    ("dup.service.consul", "A", ["A 127.0.0.61"], []),
    (
        "dup.service.consul",
        "SRV",
        ["1 1 130 node1.node.dc1.consul.", "1 1 131 node1.node.dc1.consul."],
        [*WITH_META, *WITH_META],
    ),
    ("dual.service.consul", "A", ["A 10.8.8.8"], []),
    ("dual.service.consul", "AAAA", ["AAAA 2001:db8::88"], []),
    (
        "dual.service.consul",
        "SRV",
        [f"1 1 110 {HEX6}88.addr.dc1.consul."],
        [f"{HEX6}88.addr.dc1.consul. 0 AAAA 2001:db8::88", *meta(NODE1)],
    ),
    ("nat.connect.consul", "SRV", ["1 1 140 node1.node.dc1.consul."], WITH_META),
    ("dot.query.query.consul", "A", WEB_A, []),
    ("0a010203.addr.consul", "A", ["A 10.1.2.3"], []),
    ("0a010203.addr.dc9.consul", "A", ["A 10.1.2.3"], []),
    ("0a010203.addr.consul", "AAAA", ["A 10.1.2.3"], []),
    ("0a010203.addr.consul", "SRV", ["0a010203.addr.consul. 0 A 10.1.2.3"], []),
    ("0a010203.addr.consul", "TXT", ["A 10.1.2.3"], []),
    ("0A010203.ADDR.Consul", "A", ["0a010203.addr.consul. 0 A 10.1.2.3"], []),
    ("0a0102.addr.consul", "A", [], []),
    ("consul", "NS", [f"consul. 0 NS {NODE1}"], [NODE1_A]),
    ("web.service.consul", "NS", [f"consul. 0 NS {NODE1}"], [NODE1_A]),
    ("consul.service.consul", "SRV", ["1 1 8300 node1.node.dc1.consul."], WITH_META),
    ("web.service.alt.example", "SRV", WEB_SRV, WEB_EXTRA),
    ("61.0.0.127.in-addr.arpa", "PTR", [f"PTR {NODE1}"], []),
    ("3.2.1.10.in-addr.arpa", "PTR", ["PTR web.service.dc1.consul."], []),
    ("3.2.1.10.in-addr.arpa", "A", ["PTR web.service.dc1.consul."], []),
    (
        "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        "PTR",
        ["PTR ipv6node.node.dc1.consul."],
        [],
    ),
    ("web.dotted.node.consul", "A", ["A 172.20.1.11"], []),
    ("extnode.node.consul", "ANY", ["AAAA 2001:db8::99", 'TXT "external=yes"'], []),
    (
        "extsvc.service.consul",
        "SRV",
        [f"1 1 5000 {HEX6}99.addr.dc1.consul."],
        [f"{HEX6}99.addr.dc1.consul. 0 AAAA 2001:db8::99", 'extnode.node.dc1.consul. 0 TXT "external=yes"'],
    ),
    ("fqdnnode.node.consul", "A", ["CNAME host.example.net."], []),
    ("fqdnsvc.service.consul", "A", ["CNAME host.example.net."], []),
    ("fqdnsvc.service.consul", "SRV", ["1 1 5001 host.example.net."], []),
    (
        "v6svc.service.consul",
        "SRV",
        ["1 1 5003 ipv6node.node.dc1.consul."],
        ["ipv6node.node.dc1.consul. 0 AAAA 2001:db8::7"],
    ),
    ("selfsvc.service.consul", "A", ["A 10.9.9.9"], []),
    ("selfsvc.service.consul", "SRV", ["1 1 7 self.node.dc1.consul."], ["self.node.dc1.consul. 0 A 10.9.9.9"]),
    ("mixhost.service.consul", "A", ["A 10.9.9.13"], []),
    ("only6.service.consul", "A", ["A 10.9.8.1"], []),
    ("only6.service.consul", "ANY", ["AAAA 2001:db8::5"], []),
    ("nodetag.service.consul", "A", ["A 10.9.8.2"], []),
    ("lan4.service.consul", "SRV", ["1 1 7 0a090805.addr.dc1.consul."], ["0a090805.addr.dc1.consul. 0 A 10.9.8.5"]),
    ("hosttag.service.consul", "A", ["A 10.2.2.2"], []),
    ("hosttag.service.consul", "AAAA", ["CNAME h.example.com."], []),
]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "kind", "answer", "additional"), ANSWERED, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_answered(client: Client, name: str, kind: str, answer: list[str], additional: list[str], tcp: bool) -> None:
    reply = await client.ask(name, kind, tcp=tcp)
    assert reply.rcode == "NOERROR"
    assert reply.flags == {"QR", "AA", "RD"}
    assert reply.answer == owned(name, kind, answer)
    assert reply.authority == []
    assert reply.additional == sorted(additional)
    assert reply.edns is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nope.node.consul", "A"),
        ("node1.node.dc9.consul", "A"),
        ("nosuchtag.web.service.consul", "A"),
        ("_web._tcp.consul", "A"),
        ("_web._udp.service.consul", "SRV"),
        ("critsvc.service.consul", "A"),
        ("web.connect.consul", "A"),
        ("web.ingress.consul", "A"),
        ("web.virtual.consul", "A"),
        ("_web._tcp.query.consul", "SRV"),
        ("nope.query.consul", "A"),
        ("webq.query.dc9.consul", "A"),
        ("zz010203.addr.consul", "A"),
        ("0a0102030.addr.consul", "A"),
        ("x.0a010203.addr.consul", "A"),
        ("consul", "A"),
        ("consul", "ANY"),
        ("consul", "TXT"),
        ("foo.consul", "A"),
        ("ns.consul", "A"),
        ("service.consul", "A"),
        ("xx.alt.example", "A"),
        ("web.service.foo.dc1.consul", "A"),
        ("web.service.dc1.dc.consul", "A"),
        ("nope.service.consul", "MX"),
    ],
)
async def test_no_such_name(client: Client, name: str, kind: str) -> None:
    reply = await client.ask(name, kind)
    assert (reply.rcode, reply.answer, reply.authority, reply.additional) == ("NXDOMAIN", [], [SOA], [])
    assert reply.flags == {"QR", "AA", "RD"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.service.consul", "AAAA"),
        ("web.service.consul", "MX"),
        ("web.service.consul", "PTR"),
        ("web6.service.consul", "A"),
        ("v6svc.service.consul", "A"),
        ("v4on6.service.consul", "AAAA"),
        ("svc4.service.consul", "AAAA"),
    ],
)
async def test_no_such_record(client: Client, name: str, kind: str) -> None:
    reply = await client.ask(name, kind)
    assert (reply.rcode, reply.answer, reply.authority, reply.additional) == ("NOERROR", [], [SOA], [])


@pytest.mark.parametrize("name", ["consul", "alt.example", "foo.bar.consul"])
async def test_start_of_authority(client: Client, name: str) -> None:
    reply = await client.ask(name, "SOA")
    assert reply.rcode == "NOERROR"
    assert (reply.answer, reply.authority, reply.additional) == ([SOA], [f"consul. 0 NS {NODE1}"], [NODE1_A])


@pytest.mark.parametrize("name", ["webq.query.consul", f"{QUERY_ID}.query.consul", "webq.query.dc1.consul"])
async def test_prepared_query(client: Client, name: str) -> None:
    reply = await client.ask(name)
    assert reply.answer == [f"{name}. 7 A 127.0.0.61"]


async def test_reverse_lookup_missed(client: Client) -> None:
    reply = await client.ask("1.255.255.10.in-addr.arpa", "PTR")
    assert (reply.rcode, reply.flags) == ("SERVFAIL", {"QR", "RD", "RA"})
    assert (reply.answer, reply.authority) == ([], [])


async def test_reverse_lookup_asked_for_soa(client: Client) -> None:
    reply = await client.ask("3.2.1.10.in-addr.arpa", "SOA")
    assert reply.answer == ["3.2.1.10.in-addr.arpa. 0 PTR web.service.dc1.consul."]
    assert reply.authority == [SOA]


@pytest.mark.parametrize("name", ["www.example.org", "web.service.consulate", "org", "."])
async def test_outside_of_the_zones(client: Client, name: str) -> None:
    reply = await client.ask(name)
    assert (reply.rcode, reply.flags) == ("REFUSED", {"QR", "RD"})
    assert (reply.answer, reply.authority, reply.additional) == ([], [], [])


async def test_aliases_in_a_circle_end(client: Client) -> None:
    reply = await client.ask("l1.node.consul")
    assert reply.answer == ["l1.node.consul. 0 CNAME l2.node.consul."] * 2 + ["l2.node.consul. 0 CNAME l1.node.consul."] * 2
    service = await client.ask("loopsvc.service.consul")
    assert len(service.answer) == 3


async def test_an_alias_to_itself_is_none_in_any_letters(client: Client) -> None:
    for name in ("selfsvc.service.consul", "SELFsvc.service.consul"):
        assert (await client.ask(name)).answer == [f"{name}. 0 A 10.9.9.9"]


async def test_only_one_of_several_aliases_is_given(client: Client) -> None:
    seen = set()
    for _ in range(40):
        reply = await client.ask("allhost.service.consul")
        assert len(reply.answer) == 1
        seen.add(reply.answer[0].split()[-1])
    assert seen == {"a.example.com.", "b.example.com."}


async def test_a_node_name_too_long_for_dns_is_reached_by_address(client: Client) -> None:
    reply = await client.ask("longnode.service.consul", "SRV")
    assert reply.answer == ["longnode.service.consul. 0 SRV 1 1 9 0a090911.addr.dc1.consul."]


async def test_addresses_for_another_datacenter() -> None:
    catalog = FakeCatalog()
    catalog.datacenters = {"dc1", "dc2"}
    tagged = {"lan_ipv6": "2001:db8::99", "wan": "198.51.100.9"}
    node = catalog.node("extnode", "172.20.1.9", **tagged)
    wan = {"wan": ServiceAddress("203.0.113.7", 7777)}
    catalog.service(node, "far", 5000, address="10.7.7.7", tagged=wan)
    async with serving(catalog, DnsOptions(translate_wan_addrs=True), datacenter="dc2") as client:
        assert (await client.ask("extnode.node.dc1.consul")).answer == ["extnode.node.dc1.consul. 0 A 198.51.100.9"]
        srv = await client.ask("far.service.dc1.consul", "SRV")
        assert srv.answer == ["far.service.dc1.consul. 0 SRV 1 1 7777 cb007107.addr.dc1.consul."]
        assert (await client.ask("far.service.dc1.consul")).answer == ["far.service.dc1.consul. 0 A 203.0.113.7"]
        near = await client.ask("far.service.consul", "SRV")
        assert near.answer == ["far.service.consul. 0 SRV 1 1 5000 0a070707.addr.dc2.consul."]


async def test_servers_with_names_unfit_for_hosts_are_no_name_servers() -> None:
    catalog = FakeCatalog()
    for number, name in enumerate(("good", "bad_name", "a", "b", "c")):
        catalog.service(catalog.node(name, f"10.0.0.{number + 1}"), "consul", 8300)
    async with serving(catalog) as client:
        reply = await client.ask("consul", "NS")
        assert len(reply.answer) == len(reply.additional) == 3
        assert "bad_name" not in " ".join(reply.answer)

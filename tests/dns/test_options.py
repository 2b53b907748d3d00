"""What each option changes in the answers."""

import dns.edns
import pytest

from discovery.dns.options import DnsOptions, SoaOptions, recursor_address
from tests.dns.catalog import FakeCatalog
from tests.dns.rig import Client, serving


async def test_ttls() -> None:
    ttls = {"*": 5 * 10**9, "we*": 6 * 10**9, "web": 90 * 10**9, "w*": 7 * 10**9}
    async with serving(options=DnsOptions(service_ttl=ttls, node_ttl=11 * 10**9)) as client:
        assert await _ttls(client, "web.service.consul", "SRV") == {90}
        assert await _ttls(client, "WEB6.service.consul", "AAAA") == {6}
        assert await _ttls(client, "dup.service.consul", "A") == {5}
        assert await _ttls(client, "warnsvc.service.consul", "A") == {7}
        assert await _ttls(client, "cnamesvc.service.consul", "A") == {5}
        assert await _ttls(client, "webq.query.consul", "SRV") == {7}
        assert await _ttls(client, "dot.query.query.consul", "A") == {90}
        assert await _ttls(client, "node1.node.consul", "ANY") == {11}
        assert await _ttls(client, "0a010203.addr.consul", "A") == {11}
        assert await _ttls(client, "consul", "NS") == {11}
        assert await _ttls(client, "61.0.0.127.in-addr.arpa", "PTR") == {0}


async def _ttls(client: Client, name: str, kind: str) -> set[int]:
    message = (await client.ask(name, kind)).message
    assert message.answer
    return {record.ttl for record in (*message.answer, *message.additional)}


async def test_soa_settings() -> None:
    soa = SoaOptions(refresh=1, retry=2, expire=3, min_ttl=4)
    async with serving(options=DnsOptions(soa=soa)) as client:
        reply = await client.ask("nope.service.consul")
        assert reply.authority == ["consul. 4 SOA ns.consul. hostmaster.consul. <now> 1 2 3 4"]


async def test_only_passing() -> None:
    async with serving(options=DnsOptions(only_passing=True)) as client:
        assert (await client.ask("warnsvc.service.consul")).rcode == "NXDOMAIN"
        assert (await client.ask("web.service.consul")).rcode == "NOERROR"


async def test_metadata_can_be_left_out() -> None:
    async with serving(options=DnsOptions(enable_additional_node_meta_txt=False)) as client:
        assert (await client.ask("node1.node.consul")).additional == []
        assert len((await client.ask("web.service.consul", "SRV")).additional) == 2
        assert len((await client.ask("node1.node.consul", "TXT")).answer) == 4
        assert len((await client.ask("node1.node.consul", "ANY")).answer) == 5


async def test_metadata_is_escaped() -> None:
    meta = {"RFC1035-x": "bare = `text`", " a=b`c ": "v`w", "long": "x" * 300, "": "nameless", "ключ": "é"}
    catalog = FakeCatalog()
    catalog.node("n", "10.0.0.1", meta=meta)
    async with serving(catalog) as client:
        message = (await client.ask("n.node.consul", "TXT", edns=4096)).message
    texts = [b"".join(record[0].strings) for record in message.answer]
    assert texts == [
        b"bare = `text`",
        b"` a`=b``c` =v``w",
        b"long=" + b"x" * 300,
        b"=nameless",
        "ключ=é".encode(),
    ]


async def test_client_subnet_is_echoed() -> None:
    subnet = dns.edns.ECSOption("10.1.2.0", 24, 0)
    async with serving() as client:
        plain = await client.ask("web.service.consul", edns=1232, options=[subnet])
        assert [option.to_text() for option in plain.message.options] == ["ECS 10.1.2.0/24 scope/0"]
        scoped = await client.ask("webq.query.consul", edns=1232, options=[subnet])
        assert [option.to_text() for option in scoped.message.options] == ["ECS 10.1.2.0/24 scope/24"]
        missed = await client.ask("nope.query.consul", edns=1232, options=[subnet])
        assert [option.to_text() for option in missed.message.options] == ["ECS 10.1.2.0/24 scope/0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.8.8.8", ("8.8.8.8", 53)),
        ("8.8.8.8:5353", ("8.8.8.8", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[2001:DB8::1]:99", ("2001:db8::1", 99)),
    ],
)
def test_recursor_addresses(text: str, expected: tuple[str, int]) -> None:
    assert recursor_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "0.0.0.0", "[::]:53", "dns.example.com", "8.8.8.8:", "8.8.8.8:0", "8.8.8.8:70000", "[::1]x"]
)
def test_bad_recursor_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        recursor_address(text)


async def test_lookups_carry_token_and_consistency() -> None:
    catalog = FakeCatalog()
    async with serving(catalog, DnsOptions(token="secret", use_cache=True, cache_max_age=9, allow_stale=False)) as client:
        await client.ask("web.service.dc1.consul")
    request = catalog.asked[0][1]
    assert (request.token, request.allow_stale, request.use_cache, request.max_age) == ("secret", True, True, 9)
    assert (request.datacenter, request.service_name, request.tag_filter) == ("dc1", "web", False)

"""What names ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.dns.names import (
    AddressLookup,
    Bare,
    Foreign,
    Lookup,
    NodeLookup,
    Nothing,
    QueryLookup,
    ReverseLookup,
    ServiceLookup,
    Zones,
    classify,
)
from discovery.dns.wire import SRV, A, name_of

ZONES = Zones(name_of("consul."), name_of("sub.consul."))


@pytest.mark.parametrize(
    ("name", "lookup"),
    [
        ("a.node.consul", NodeLookup("a")),
        ("a.b.node.consul", NodeLookup("a.b")),
        ("A.Node.DC2.CONSUL", NodeLookup("a", "dc2")),
        ("node.consul", Nothing()),
        ("web.service.consul", ServiceLookup("web")),
        ("a.b.web.service.dc2.consul", ServiceLookup("web", "a.b", "dc2")),
        ("_web._tcp.service.consul", ServiceLookup("web")),
        ("_web._udp.service.dc2.consul", ServiceLookup("web", "udp", "dc2")),
        ("x._web._udp.service.consul", ServiceLookup("_udp", "x._web")),
        ("_web._tcp.consul", Nothing()),
        ("web.service.a.b.consul", Nothing()),
        ("service.service.consul", ServiceLookup("service")),
        ("node.service.consul", ServiceLookup("node")),
        ("web.connect.consul", ServiceLookup("web", connect=True)),
        ("web.ingress.dc2.consul", ServiceLookup("web", datacenter="dc2", ingress=True)),
        ("a.b.query.consul", QueryLookup("a.b")),
        ("0a010203.addr.consul", AddressLookup(bytes((10, 1, 2, 3)))),
        ("0a010203.addr.any.thing.consul", AddressLookup(bytes((10, 1, 2, 3)))),
        ("f" * 32 + ".addr.consul", AddressLookup(b"\xff" * 16)),
        ("0a0102.addr.consul", Bare()),
        ("0a0102031.addr.consul", Nothing()),
        ("0a01020 .addr.consul", Nothing()),
        ("a.0a010203.addr.consul", Nothing()),
        ("consul", Nothing()),
        ("foo.consul", Nothing()),
        ("sub.consul", Nothing()),
        ("web.service.sub.consul", ServiceLookup("web")),
        ("consul.org", Foreign()),
        ("xconsul", Foreign()),
        ("", Foreign()),
        ("4.3.2.1.in-addr.arpa", ReverseLookup(bytes((1, 2, 3, 4)))),
        ("3.2.1.in-addr.arpa", ReverseLookup(b"")),
        ("256.3.2.1.in-addr.arpa", ReverseLookup(b"")),
        ("x.3.2.1.in-addr.arpa", ReverseLookup(b"")),
        ("0." * 31 + "1.IP6.arpa", ReverseLookup(b"\x10" + bytes(15))),
        ("arpa", ReverseLookup(b"")),
    ],
)
def test_names(name: str, lookup: Lookup) -> None:
    assert classify(name_of(name), A, ZONES) == lookup


@pytest.mark.parametrize(
    ("name", "lookup"),
    [
        ("_web._tcp.consul", ServiceLookup("web")),
        ("_web._tcp.dc2.consul", ServiceLookup("web", "", "dc2")),
        ("_web._main.dc2.consul", ServiceLookup("web", "main", "dc2")),
        ("_web._tcp.a.b.consul", Nothing()),
        ("web._tcp.consul", ServiceLookup("_tcp", "web")),
        ("_web._tcp.node.consul", NodeLookup("_web._tcp")),
    ],
)
def test_srv_names_without_the_keyword(name: str, lookup: Lookup) -> None:
    assert classify(name_of(name), SRV, ZONES) == lookup


def test_names_of_an_alternative_domain_that_is_not_set_are_foreign() -> None:
    assert classify(name_of("web.service.sub.example"), A, Zones(name_of("consul"))) == Foreign()


labels = st.binary(min_size=1, max_size=63).filter(lambda label: _is_text(label)) | st.sampled_from(
    [b"service", b"node", b"query", b"addr", b"connect", b"consul", b"arpa", b"in-addr", b"_tcp", b"0a010203"]
)


def _is_text(label: bytes) -> bool:
    try:
        label.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(name=st.lists(labels, max_size=6).map(tuple), kind=st.integers(0, 255))
def test_every_name_asks_for_something(name: tuple[bytes, ...], kind: int) -> None:
    foreign = classify(name, kind, ZONES) == Foreign()
    last = name[-1].lower() if name else b""
    assert foreign == (last not in (b"consul", b"arpa"))


@pytest.mark.parametrize("text", ["a" * 64, "a..b", ".a", "a." * 127 + "bc"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError):
        name_of(text)


def test_the_longest_name() -> None:
    assert len(name_of("a." * 126 + "b")) == 127

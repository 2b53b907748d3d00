"""Every option reaches the room it is for."""

from pathlib import Path

import msgspec
import pytest

from discovery.config.options import Autopilot, DnsConfig, HttpConfig, ListenAddresses, Options, Performance, Ports, UnixSockets
from discovery.daemon import settings
from discovery.model.duration import Duration

NODE_ID = "11111111-1111-1111-1111-111111111111"


def options(**changed: object) -> Options:
    base = Options(node_name="n1", data_dir="d", advertise_addr="127.0.0.1", bind_addr="127.0.0.1")
    return msgspec.structs.replace(base, **changed)


def test_client_tags_are_consuls() -> None:
    assert settings.gossip_tags(options(), NODE_ID) == {
        "role": "node",
        "dc": "dc1",
        "segment": "",
        "id": NODE_ID,
        "vsn": "2",
        "vsn_min": "2",
        "vsn_max": "3",
        "build": "1.8.7:",
        "acls": "0",
    }


@pytest.mark.parametrize(("expect", "tags"), [(0, {}), (1, {"bootstrap": "1"}), (3, {"expect": "3"})])
def test_servers_say_where_they_listen_and_whom_they_wait_for(expect: int, tags: dict[str, str]) -> None:
    found = settings.gossip_tags(options(server=True, bootstrap_expect=expect), NODE_ID)
    assert found["role"] == "consul"
    assert found["port"] == "8300"
    assert found["wan_join_port"] == "8302"
    assert {key: found[key] for key in ("bootstrap", "expect") if key in found} == tags


def test_a_server_in_development_mode_does_not_claim_to_bootstrap_others() -> None:
    assert "bootstrap" not in settings.gossip_tags(options(server=True, bootstrap_expect=1, dev_mode=True), NODE_ID)


def test_a_server_without_wan_pool_announces_none() -> None:
    assert "wan_join_port" not in settings.gossip_tags(options(server=True), NODE_ID, wan=True)
    assert "wan_join_port" not in settings.gossip_tags(options(server=True, ports=Ports(serf_wan=-1)), NODE_ID)


def test_raft_timing_follows_the_multiplier(tmp_path: Path) -> None:
    made = settings.server_options(options(performance=Performance(raft_multiplier=3)), NODE_ID, tmp_path)
    assert made.raft.raft_multiplier == 3
    assert made.directory == tmp_path


def test_autopilot_begins_with_what_the_file_says(tmp_path: Path) -> None:
    given = Autopilot(cleanup_dead_servers=False, last_contact_threshold=0.5, redundancy_zone_tag="zone")
    made = settings.server_options(options(autopilot=given), NODE_ID, tmp_path).autopilot
    assert (made.cleanup_dead_servers, made.redundancy_zone_tag) == (False, "zone")
    assert made.last_contact_threshold == Duration.from_seconds(0.5)


def test_listeners_are_made_of_addresses_and_ports() -> None:
    addresses = ListenAddresses(http=("127.0.0.1", "unix:///run/d.sock"), dns=("127.0.0.1", "::1"))
    given = options(addresses=addresses, unix_sockets=UnixSockets(mode="770"), ports=Ports(dns=53))
    tcp, unix = settings.http_listeners(given)
    assert (tcp.host, tcp.port) == ("127.0.0.1", 8500)
    assert (unix.unix_path, unix.unix_mode) == ("/run/d.sock", 0o770)
    assert settings.dns_addresses(given) == [("127.0.0.1", 53), ("::1", 53)]


def test_a_port_of_minus_one_switches_a_door_off() -> None:
    closed = options(addresses=ListenAddresses(http=("127.0.0.1",), dns=("127.0.0.1",)), ports=Ports(http=-1, dns=-1))
    assert settings.http_listeners(closed) == []
    assert settings.dns_addresses(closed) == []


def test_durations_become_nanoseconds_for_the_doors() -> None:
    dns = settings.dns_options(options(dns_config=DnsConfig(node_ttl=1.5, service_ttl={"*": 2.0})))
    assert (dns.node_ttl, dns.service_ttl) == (1_500_000_000, {"*": 2_000_000_000})
    http = settings.http_options(options(http_config=HttpConfig(use_cache=False), default_query_time=2.0))
    assert (http.default_query_time, http.use_cache) == (2_000_000_000, False)
    assert type(dns.max_stale) is type(http.default_query_time) is int, "requests that carry them are encoded"


def test_definitions_of_files_become_specs() -> None:
    given = options(services=({"Name": "web", "Port": 80, "Check": {"HTTP": "http://x", "Interval": "10s"}},))
    (service,) = settings.service_specs(given)
    assert (service.name, service.port) == ("web", 80)
    assert service.check is not None
    assert service.check.interval == Duration.from_seconds(10)


@pytest.mark.parametrize(
    ("go", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"),
        (" TLS_RSA_WITH_AES_128_GCM_SHA256 , TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-GCM-SHA256:AES128-SHA"),
    ],
)
def test_cipher_suites_are_named_as_openssl_names_them(go: str, openssl: str) -> None:
    assert settings.server_tls(options(tls_cipher_suites=go)).cipher_suites == openssl

"""What a reload needs to know, and what other commands read out of configuration files."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.config.load import Loaded, Sources, load, needing_restart, read_services
from discovery.config.schema import known_keys
from discovery.config.tree import ConfigError

from .rig import BASE, MACHINE, by_key, options

SEED = Path(__file__).parent / "production.hcl"


def changed(before: str, after: str) -> list[str]:
    return needing_restart(options(before), options(after))


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("", 'datacenter = "dc2"', ["datacenter"]),
        ('primary_datacenter = "a"', 'primary_datacenter = "b"', ["primary_datacenter"]),
        ("", 'advertise_addr = "10.0.0.1"', ["advertise_addr"]),
        ("", 'advertise_addr_wan = "10.0.0.1"', ["advertise_addr_wan"]),
        ("", 'advertise_addr_ipv4 = "10.0.0.1"', ["advertise_addr_ipv4"]),
        ("", 'tagged_addresses { vpn = "10.0.0.1" }', ["tagged_addresses"]),
        ("", 'client_addr = "127.0.0.2"', ["client_addr"]),
        ("", 'addresses { http = "127.0.0.2" }', ["addresses.http"]),
        ("", "server = true", ["server"]),
        ("server = true", "server = true bootstrap = true", ["bootstrap"]),
        ("server = true", "server = true bootstrap_expect = 3", ["bootstrap_expect"]),
        ("", "ports { http = 1 dns = 2 }", ["ports.dns", "ports.http"]),
        ("", "gossip_lan { gossip_nodes = 4 }", ["gossip_lan.gossip_nodes"]),
        ("", "verify_server_hostname = true", ["verify_server_hostname"]),
        ("", 'retry_join = ["a"]', ["retry_join"]),
        ("", 'log_level = "warn"', []),
        ("", 'service { name = "a" }', []),
        ("", 'check { name = "a" ttl = "1s" }', []),
        ("", 'node_meta { a = "b" }', []),
        ("", 'dns_config { node_ttl = "1s" service_ttl { a = "1s" } soa { expire = 1 } }', []),
        ("", 'recursors = ["8.8.8.8"]', []),
        ("", 'acl { tokens { default = "a" agent = "b" } }', []),
        ("", "discard_check_output = true", []),
        ("", 'telemetry { prefix_filter = ["+a"] }', []),
        ("", 'telemetry { metrics_prefix = "a" }', ["telemetry.metrics_prefix"]),
        ("", "limits { http_max_conns_per_client = 1 }", []),
        ("", 'raft_snapshot_threshold = 1 raft_snapshot_interval = "1s" raft_trailing_logs = 1', []),
        ("", 'ca_file = "/a" cert_file = "/b" key_file = "/c"', []),
    ],
)
def test_what_needs_a_restart(before: str, after: str, keys: list[str]) -> None:
    assert changed(before, after) == keys
    assert changed(after, before) == keys


def test_a_changed_bind_address_says_it_all() -> None:
    base = BASE.replace("127.0.0.1", "127.0.0.2")
    other = load(Sources(fragments=(base,)), lambda: MACHINE).options
    assert needing_restart(options(), other) == ["bind_addr"]


def test_every_key_that_needs_a_restart_is_found() -> None:
    old = options()
    for key, value in by_key(old).items():
        if isinstance(value, bool) and key in known_keys():
            head, _, name = key.rpartition(".")
            text = f"{name} = {str(not value).lower()}"
            new = options(f"{head} {{ {text} }}" if head else text, dev=False) if key not in ("bootstrap",) else None
            if new is not None:
                assert (key in needing_restart(old, new)) != known_keys()[key].reloadable


# --- definitions for other commands --------------------------------------------------------------------------------


def test_services_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "web.hcl"
    file.write_text('service { name = "web" port = 80 check { ttl = "5s" } }\nservices = [{ name = "db" }]\nserver = true\n')
    web = {"Name": "web", "Port": 80, "Check": {"TTL": "5s"}}
    assert read_services(file) == [web, {"Name": "db"}]
    (tmp_path / "more.json").write_text('{"service": {"name": "more"}}')
    assert read_services(tmp_path) == [{"Name": "more"}, web, {"Name": "db"}]


def test_services_of_a_file_without_any(tmp_path: Path) -> None:
    file = tmp_path / "none.hcl"
    file.write_text("server = true")
    assert read_services(file) == []


@pytest.mark.parametrize(
    ("text", "message"), [("server = 1", "'server' expected type 'bool'"), ("=", "unexpected '='"), (None, "Open failed on")]
)
def test_services_of_a_broken_file(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "web.hcl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_services(file)


# --- whatever comes ------------------------------------------------------------------------------------------------


def outcome(sources: Sources) -> Loaded | str:
    """What was loaded, or what was told."""
    try:
        return load(sources, lambda: MACHINE)
    except ConfigError as error:
        return str(error)


_KEYS = st.sampled_from([key.path.replace(".", " { ") for key in known_keys().values()])
_VALUES = st.sampled_from(
    ["1", "-1", "0", "1.5", "true", '""', '"x"', '"10s"', '"127.0.0.1"', '"{{ GetPrivateIP }}"', "[]", '["x"]', "{}",
     '{ a = "b" }', "[{}]", '[{ name = "a" }]', '{ a = "1s" }', "[[]]", '"-1s"', "9223372036854775808", '"0.0.0.0"', '"unix:///x"']
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=4), st.booleans(), st.booleans())
def test_any_known_key_with_any_value_is_taken_or_refused(pairs: list[tuple[str, str]], dev: bool, base: bool) -> None:
    fragments = [f"{key} = {value}{' }' * key.count('{')}" for key, value in pairs]
    result = outcome(Sources(dev=dev, fragments=(BASE if base else "", *fragments)))
    assert isinstance(result, Loaded) or result
    if isinstance(result, Loaded):
        assert result.options.bind_addr
        assert result.options.advertise_addr
        assert result.options.node_name
        assert outcome(Sources(dev=dev, fragments=(BASE if base else "", *fragments))) == result


@pytest.mark.parametrize("suffix", ["hcl", "json"])
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_are_loaded_or_refused(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("bytes") / f"a.{suffix}"
    file.write_bytes(data.draw(st.binary(max_size=60)))
    result = outcome(Sources(paths=(file,), fragments=(BASE,)))
    assert isinstance(result, Loaded) or result.startswith((f"failed to parse {file}: ", "config: "))


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_file_is_loaded_or_refused(tmp_path: Path, seed: int) -> None:
    """A production file with a piece cut out, doubled or replaced; the seed is the parameter."""
    rng = random.Random(seed)
    text = SEED.read_text()
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text))
        end = min(len(text), start + rng.randint(0, 12))
        text = text[:start] + rng.choice(["", text[start:end] * 2, rng.choice('{}[]"=,\\#\n\x00é')]) + text[end:]
    file = tmp_path / "a.hcl"
    file.write_text(text)
    result = outcome(Sources(paths=(file,)))
    assert isinstance(result, Loaded) or result


# --- the file of a production server -------------------------------------------------------------------------------


def test_a_production_file_loads_as_it_stands() -> None:
    loaded = load(Sources(paths=(SEED,)), lambda: MACHINE)
    found = loaded.options
    assert (found.server, found.bootstrap_expect, found.retry_join) == (True, 3, ("10.0.1.11", "10.0.1.12"))
    assert (found.bind_addr, found.advertise_addr, found.client_addr) == ("10.0.1.10", "10.0.1.10", ("0.0.0.0",))
    assert (found.raft_snapshot_threshold, found.raft_snapshot_interval, found.raft_trailing_logs) == (8192, 5.0, 10000)
    assert (found.performance.raft_multiplier, found.telemetry.prometheus_retention_time) == (1, 86400.0)
    assert (found.verify_incoming, found.verify_outgoing, found.verify_server_hostname) == (True, True, True)
    assert loaded.warnings == (
        "bootstrap_expect > 0: expecting 3 servers",
        f"connect.enabled has no effect yet ({SEED}:27:3)",
    )

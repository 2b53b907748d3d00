"""What wins: defaults, -dev, list flags, files, other flags, fragments; and how values of several sources become one."""

from pathlib import Path

import pytest

from discovery.config.load import Loaded, Sources, load
from discovery.config.tree import ConfigError

from .rig import BASE, MACHINE, by_key, loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.hcl").write_text(
        """
        data_dir   = "/a"
        datacenter = "a"
        log_level  = "warn"
        retry_join = ["a"]
        node_meta { x = "a" y = "a" }
        dns_config { node_ttl = "1s" only_passing = true service_ttl { web = "1s" db = "1s" } }
        service { name = "a" }
        """
    )
    (tmp_path / "b.json").write_text(
        """
        {"datacenter": "b", "retry_join": ["b"], "node_meta": {"y": "b"}, "bind_addr": "127.0.0.1",
         "dns_config": {"node_ttl": "2s", "service_ttl": {"web": "2s"}}, "services": [{"name": "b"}]}
        """
    )
    return tmp_path


def test_later_files_win_lists_are_joined_and_maps_are_merged(folder: Path) -> None:
    options = loaded(paths=[folder]).options
    assert (options.datacenter, options.log_level, options.data_dir) == ("b", "warn", "/a")
    assert options.retry_join == ("a", "b")
    assert options.node_meta == {"x": "a", "y": "b"}
    assert (options.dns_config.node_ttl, options.dns_config.only_passing) == (2.0, True)
    assert options.dns_config.service_ttl == {"web": 2.0, "db": 1.0}
    assert options.services == ({"Name": "a"}, {"Name": "b"})


def test_the_order_of_paths_counts_not_that_of_names(folder: Path) -> None:
    options = loaded(paths=[folder / "b.json", folder / "a.hcl"]).options
    assert (options.datacenter, options.retry_join) == ("a", ("b", "a"))


def test_flags_win_over_files_and_their_lists_go_first(folder: Path) -> None:
    flags = {"datacenter": ("flag",), "retry_join": ("f1", "f2"), "node_meta": ("y:flag", "z:1:2"), "ports.http": ("1",)}
    options = loaded(paths=[folder], flags=flags).options
    assert (options.datacenter, options.ports.http) == ("flag", 1)
    assert options.retry_join == ("f1", "f2", "a", "b")
    assert options.node_meta == {"x": "a", "y": "flag", "z": "1:2"}


def test_fragments_win_over_flags_and_their_lists_go_last(folder: Path) -> None:
    flags = {"datacenter": ("flag",), "retry_join": ("flag",), "node_meta": ("x:flag",)}
    fragments = ('datacenter = "h1" retry_join = ["h1"]', 'datacenter = "h2" node_meta { x = "h2" }')
    options = loaded(*fragments, paths=[folder], flags=flags).options
    assert options.datacenter == "h2"
    assert options.retry_join == ("flag", "a", "b", "h1")
    assert options.node_meta == {"x": "h2", "y": "b"}


def test_a_flag_that_is_repeated_counts_as_given_last() -> None:
    assert loaded(BASE, flags={"datacenter": ("a", "b")}).options.datacenter == "b"


def test_files_win_over_the_defaults_of_dev(folder: Path) -> None:
    options = loaded(paths=[folder], dev=True).options
    assert (options.log_level, options.bind_addr, options.datacenter) == ("warn", "127.0.0.1", "b")


def test_dev() -> None:
    options = loaded(dev=True).options
    assert (options.dev_mode, options.server, options.bootstrap_expect, options.data_dir) == (True, True, 1, "")
    assert (options.bind_addr, options.advertise_addr, options.log_level) == ("127.0.0.1", "127.0.0.1", "DEBUG")
    assert (options.disable_keyring_file, options.performance.raft_multiplier) == (True, 1)
    for gossip in (options.gossip_lan, options.gossip_wan):
        assert (gossip.gossip_interval, gossip.probe_interval, gossip.probe_timeout) == (0.1, 0.1, 0.1)
        assert (gossip.gossip_nodes, gossip.suspicion_mult, gossip.retransmit_mult) == (3, 3, 4)


def test_dev_warns_of_nothing_by_itself() -> None:
    assert not [warning for warning in loaded(dev=True).warnings if not warning.startswith("Node name")]


def test_a_dev_client_does_not_elect_itself() -> None:
    assert loaded("server = false", dev=True).options.bootstrap_expect == 0


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("server", "true", True),
        ("server", "0", False),
        ("ports.http", "8501", 8501),
        ("ports.http", "0x10", 16),
        ("retry_interval", "1m30s", 90.0),
        ("node_name", "5", "5"),
        ("bind_addr", "127.0.0.9", "127.0.0.9"),
        ("client_addr", "127.0.0.1 ::1", ("127.0.0.1", "::1")),
        ("recursors", "8.8.8.8", ("8.8.8.8",)),
        ("node_meta", "novalue", {"novalue": ""}),
    ],
)
def test_texts_of_flags_are_read_by_the_kind_of_their_key(key: str, text: str, value: object) -> None:
    options = load(Sources(flags={"data_dir": ("/d",), "bind_addr": ("127.0.0.1",), key: (text,)}), lambda: MACHINE).options
    assert by_key(options)[key] == value


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("retry_interval", "5", 'retry_interval: invalid duration: "5": time: missing unit in duration "5" (command line)'),
        ("ports.http", "many", 'ports.http: invalid value "many" (command line; expected a whole number)'),
        ("server", "maybe", 'server: invalid value "maybe" (command line; expected true or false)'),
    ],
)
def test_a_flag_of_the_wrong_kind(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(BASE, flags={key: (text,)})
    assert str(caught.value) == message


def test_faults_point_to_the_source_that_won(folder: Path) -> None:
    (folder / "c.hcl").write_text('\nlog_level = "loud"')
    with pytest.raises(ConfigError, match=rf"Invalid log level: loud\..*\({folder}/c\.hcl:2:1\)$"):
        loaded(paths=[folder])
    with pytest.raises(ConfigError, match=r"Invalid log level: loudest\..*\(command line\)$"):
        loaded(paths=[folder], flags={"log_level": ("loudest",)})


def test_what_replaced_a_legacy_key_wins_wherever_it_stands() -> None:
    late_legacy = loaded(BASE, 'acl { tokens { default = "new" } }', 'acl_token = "old"')
    assert late_legacy.options.acl.tokens.default == "new"
    assert late_legacy.warnings == (
        "The 'acl_token' field is deprecated. Use the 'acl.tokens.default' field instead. (flags-2.hcl:1:1)",
    )
    assert loaded(BASE, 'acl_token = "old"').options.acl.tokens.default == "old"


def test_loading_twice_gives_the_same(folder: Path) -> None:
    sources = Sources(paths=(folder,), fragments=('node_meta { h = "1" }',), flags={"retry_join": ("flag",)})
    first, second = (load(sources, lambda: MACHINE) for _ in range(2))
    assert isinstance(first, Loaded)
    assert first == second

"""`agent` up to the running agent: what its flags stand for, and how it refuses to start."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from discovery.cli import agent
from discovery.cli.flags import Kind
from discovery.config.load import Loaded, Sources
from discovery.config.schema import known_keys

_CONSUL_FLAGS = """
    advertise advertise-wan allow-write-http-from alt-domain bind bootstrap bootstrap-expect check_output_max_size client
    config-dir config-file config-format data-dir datacenter default-query-time dev disable-host-node-id disable-keyring-file
    dns-port domain enable-local-script-checks enable-script-checks encrypt grpc-port hcl http-port https-port join join-wan
    log-file log-json log-level log-rotate-bytes log-rotate-duration log-rotate-max-files max-query-time node node-id node-meta
    non-voting-server pid-file primary-gateway protocol raft-protocol recursor rejoin retry-interval retry-interval-wan
    retry-join retry-join-wan retry-max retry-max-wan segment serf-lan-allowed-cidrs serf-lan-bind serf-lan-port
    serf-wan-allowed-cidrs serf-wan-bind serf-wan-port server server-port syslog ui ui-content-path ui-dir
    auto-reload-config grpc-tls-port license-path
"""
CONSUL_FLAGS = _CONSUL_FLAGS.split()
"""Of Consul 1.8.7, and after it those of newer versions."""


class Started:
    """What the agent was started with, instead of starting it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sources, Loaded]] = []

    def __call__(self, sources: Sources, loaded: Loaded) -> int:
        self.calls.append((sources, loaded))
        return 7


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    started = Started()
    monkeypatch.setattr("discovery.daemon.run.run_agent", started)
    return started


def start(started: Started, *arguments: str) -> tuple[Sources, Loaded]:
    assert agent.run(arguments) == 7
    return started.calls[-1]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert agent.run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_every_flag_of_consul_is_there() -> None:
    assert sorted(flag.name for flag in agent.FLAGS) == sorted(CONSUL_FLAGS)


def test_every_flag_says_what_it_does() -> None:
    assert all(flag.help.endswith(".") for flag in agent.FLAGS)


def test_flags_that_stand_for_keys_have_their_kinds() -> None:
    kinds = {flag.name: flag.kind for flag in agent.FLAGS}
    assert {key.path for key in known_keys().values()} >= set(agent._KEYS.values())
    assert kinds["server"] is kinds["syslog"] is kinds["rejoin"] is kinds["non-voting-server"] is Kind.BOOL
    assert kinds["http-port"] is kinds["bootstrap-expect"] is kinds["retry-max"] is Kind.INT
    assert kinds["join"] is kinds["recursor"] is kinds["node-meta"] is kinds["hcl"] is Kind.LIST
    assert kinds["client"] is kinds["retry-interval"] is kinds["node"] is Kind.TEXT


def test_dev(started: Started) -> None:
    sources, loaded = start(started, "-dev")
    assert sources == Sources(dev=True)
    assert loaded.options.dev_mode


def test_flags_of_both_spellings_reach_the_options(started: Started, tmp_path: Path) -> None:
    _, loaded = start(
        started, "-server", f"--data-dir={tmp_path}", "-bind", "127.0.20.9", "--client", "127.0.20.9 127.0.20.10", "-node=one",
        "-bootstrap-expect", "3", "-retry-join=a", "-retry-join", "b", "-retry-interval=5s", "-retry-max=9", "-http-port=18500",
        "-serf-wan-port=-1", "-node-meta=a:b", "-node-meta", "c:d:e", "-domain=example", "-recursor=8.8.8.8",
        "-log-json=false", "-disable-host-node-id=false", "-hcl=raft_trailing_logs = 5", "-rejoin", "-join-wan=w",
        "-check_output_max_size=10", "-allow-write-http-from=127.0.0.0/8", "-serf-lan-bind=127.0.20.11", "-datacenter=DC7",
    )  # fmt: skip
    options = loaded.options
    assert (options.server, options.data_dir, options.bind_addr, options.node_name) == (True, str(tmp_path), "127.0.20.9", "one")
    assert (options.client_addr, options.bootstrap_expect) == (("127.0.20.9", "127.0.20.10"), 3)
    assert (options.retry_join, options.retry_interval, options.retry_max) == (("a", "b"), 5.0, 9)
    assert (options.ports.http, options.ports.serf_wan) == (18500, -1)
    assert (options.node_meta, options.domain, options.recursors) == ({"a": "b", "c": "d:e"}, "example.", ("8.8.8.8",))
    assert (options.log_json, options.disable_host_node_id, options.raft_trailing_logs) == (False, False, 5)
    assert (options.rejoin_after_leave, options.start_join_wan, options.check_output_max_size) == (True, ("w",), 10)
    assert (options.http_config.allow_write_http_from, options.serf_lan) == (("127.0.0.0/8",), "127.0.20.11")
    assert options.datacenter == "dc7"


def test_files_and_directories_keep_their_order(started: Started, tmp_path: Path) -> None:
    one, folder, two = tmp_path / "one.hcl", tmp_path / "folder", tmp_path / "two.txt"
    folder.mkdir()
    for path, text in ((one, 'datacenter = "a"'), (folder / "x.hcl", 'datacenter = "b"'), (two, 'log_level = "warn"')):
        path.write_text(text)
    sources, loaded = start(
        started, "-dev", "-config-file", str(one), "-config-dir", str(folder), "-config-file", str(two), "-config-format=hcl"
    )
    assert (sources.paths, sources.format) == ((one, folder, two), "hcl")
    assert (loaded.options.datacenter, loaded.options.log_level) == ("b", "warn")
    _, loaded = start(started, "-dev", "-config-dir", str(folder), "-config-file", str(one))
    assert loaded.options.datacenter == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "==> data_dir cannot be empty\n"),
        (("-dev", "extra", "more"), "==> Unexpected extra arguments: [extra more]\n"),
        (
            ("-config-file=/no/such.hcl",),
            "==> config: Open failed on /no/such.hcl. open /no/such.hcl: no such file or directory\n",
        ),
        (("-config-file=",), "==> -config-file names no file\n"),
        (("-config-format=yaml",), "==> config: -config-format must be either 'hcl' or 'json'\n"),
        (("-dev", "-client=here"), "==> client_addr: invalid ip address: here (command line)\n"),
        (("-dev", "-http-port=70000"), "==> ports.http: invalid port: 70000 (command line)\n"),
        (
            ("-dev", "-retry-interval=5"),
            '==> retry_interval: invalid duration: "5": time: missing unit in duration "5" (command line)\n',
        ),
        (("-dev", "-hcl=="), "==> failed to parse flags-0.hcl: unexpected '=' (flags-0.hcl:1:1)\n"),
        (
            ("-dev", "-hcl=server = true", "-hcl", "foo = 1"),
            "==> failed to parse flags-1.hcl: 1 error occurred:\n\t* invalid config key foo (flags-1.hcl:1:1)\n\n",
        ),
        (("-dev", "-segment=a"), "==> Network segments are not supported in this version of Consul (command line)\n"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], started: Started, arguments: Sequence[str], message: str) -> None:
    assert refusal(capsys, *arguments) == message
    assert not started.calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-bogus",), "flag provided but not defined: -bogus"),
        (("-join",), "flag needs an argument: -join"),
        (("-bootstrap=x",), 'invalid boolean value "x" for -bootstrap: parse error'),
        (("-http-port=abc",), 'invalid value "abc" for flag -http-port: parse error'),
    ],
)
def test_mistakes_in_flags(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        agent.run(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.splitlines()[:2]) == (1, "", [message, "Usage:"])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        agent.run(["-h"])
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    assert "agent [options]" in out.splitlines()[0]
    for name in CONSUL_FLAGS:
        assert f"\n  -{name}" in out

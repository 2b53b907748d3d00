"""`agent`: from the command line to a running agent. Most flags stand for a key of the configuration."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from discovery.config.kinds import LISTS, MAPS
from discovery.config.kinds import Kind as KeyKind
from discovery.config.load import Sources, load
from discovery.config.schema import known_keys
from discovery.config.tree import ConfigError

from .flags import Command, Flag, Kind, Parsed, parse

_COMMAND: Final = Command(
    "agent [options]",
    "Starts an agent and runs until it is told to end. Every machine runs one: as a server, which\n"
    "keeps the catalog together with the other servers, or as a client, which asks them.",
)


class _KeyFlag(NamedTuple):
    name: str
    key: str
    """The path of the key that the flag sets."""
    help: str
    word: str = "value"


_KEY_FLAGS: Final = (
    _KeyFlag("advertise", "advertise_addr", "The address that other agents are told to reach this one at."),
    _KeyFlag("advertise-wan", "advertise_addr_wan", "The address that other datacenters are told; -advertise if not given."),
    _KeyFlag(
        "allow-write-http-from",
        "http_config.allow_write_http_from",
        "A network, such as 10.0.0.0/8, from which HTTP requests may write; without this flag all may. May be repeated.",
    ),
    _KeyFlag("alt-domain", "alt_domain", "A second domain that DNS names may end in."),
    _KeyFlag("auto-reload-config", "auto_reload_config", "Reload the configuration when its files change."),
    _KeyFlag("bind", "bind_addr", "The address where RPC and gossip listen."),
    _KeyFlag("bootstrap", "bootstrap", "Let this server elect itself. Only for a cluster with a single server."),
    _KeyFlag("bootstrap-expect", "bootstrap_expect", "How many servers to wait for before the first leader is elected."),
    _KeyFlag("check_output_max_size", "check_output_max_size", "The most bytes that are kept of a check's output."),
    _KeyFlag("client", "client_addr", "The addresses where HTTP, HTTPS and DNS listen, separated by spaces."),
    _KeyFlag("data-dir", "data_dir", "The directory where the agent keeps its state."),
    _KeyFlag("datacenter", "datacenter", "The datacenter of the agent."),
    _KeyFlag("default-query-time", "default_query_time", "How long blocking queries that name no time wait."),
    _KeyFlag(
        "disable-host-node-id",
        "disable_host_node_id",
        "Make a random node id, instead of one that follows from the machine. True unless set to false.",
    ),
    _KeyFlag("disable-keyring-file", "disable_keyring_file", "Keep gossip keys in memory only."),
    _KeyFlag("dns-port", "ports.dns", "The port of DNS."),
    _KeyFlag("domain", "domain", "The domain that DNS names end in."),
    _KeyFlag(
        "enable-local-script-checks",
        "enable_local_script_checks",
        "Run the programs of checks that configuration files define.",
    ),
    _KeyFlag("enable-script-checks", "enable_script_checks", "Run the programs of checks, wherever they were defined."),
    _KeyFlag("encrypt", "encrypt", "The gossip encryption key, base64 of 16, 24 or 32 bytes."),
    _KeyFlag("grpc-port", "ports.grpc", "The port of gRPC."),
    _KeyFlag("grpc-tls-port", "ports.grpc_tls", "The port of gRPC with TLS."),
    _KeyFlag("http-port", "ports.http", "The port of the HTTP API."),
    _KeyFlag("https-port", "ports.https", "The port of the HTTP API with TLS."),
    _KeyFlag("join", "start_join", "An agent to join at start; the start fails if that fails. May be repeated."),
    _KeyFlag("join-wan", "start_join_wan", "A server of another datacenter to join at start. May be repeated."),
    _KeyFlag("license-path", "license_path", "A license file of Consul Enterprise."),
    _KeyFlag("log-file", "log_file", "The beginning of the path of log files; with a / at the end, their directory."),
    _KeyFlag("log-json", "log_json", "Log in JSON."),
    _KeyFlag("log-level", "log_level", "The lowest level that is logged: trace, debug, info, warn or err."),
    _KeyFlag("log-rotate-bytes", "log_rotate_bytes", "The bytes after which a new log file is begun."),
    _KeyFlag("log-rotate-duration", "log_rotate_duration", "The time after which a new log file is begun."),
    _KeyFlag("log-rotate-max-files", "log_rotate_max_files", "How many finished log files are kept: 0 for all, -1 for none."),
    _KeyFlag("max-query-time", "max_query_time", "The longest that a blocking query may wait."),
    _KeyFlag("node", "node_name", "The name of this node, unique in the cluster; the host's name if not given."),
    _KeyFlag("node-id", "node_id", "The id of this node, a UUID; a random one is kept in the data directory if not given."),
    _KeyFlag("node-meta", "node_meta", "A piece of metadata of this node, `key:value`. May be repeated.", "key:value"),
    _KeyFlag("non-voting-server", "non_voting_server", "A server without a vote, in Consul Enterprise."),
    _KeyFlag("pid-file", "pid_file", "The file where the agent's process id is written."),
    _KeyFlag("primary-gateway", "primary_gateways", "A mesh gateway in the primary datacenter. May be repeated."),
    _KeyFlag("protocol", "protocol", "The version of the gossip protocol."),
    _KeyFlag("raft-protocol", "raft_protocol", "The version of the Raft protocol."),
    _KeyFlag("recursor", "recursors", "A DNS server for names outside our domain. May be repeated."),
    _KeyFlag("rejoin", "rejoin_after_leave", "Join the former members even after having left them."),
    _KeyFlag("retry-interval", "retry_interval", "The time between attempts to join."),
    _KeyFlag("retry-interval-wan", "retry_interval_wan", "The time between attempts to join other datacenters."),
    _KeyFlag("retry-join", "retry_join", "An agent to join, tried until it succeeds. May be repeated."),
    _KeyFlag(
        "retry-join-wan", "retry_join_wan", "A server of another datacenter to join, tried until it succeeds. May be repeated."
    ),
    _KeyFlag("retry-max", "retry_max", "How often joining is tried before the agent gives up and ends; 0 for ever."),
    _KeyFlag("retry-max-wan", "retry_max_wan", "How often joining other datacenters is tried; 0 for ever."),
    _KeyFlag("segment", "segment", "A network segment, in Consul Enterprise."),
    _KeyFlag(
        "serf-lan-allowed-cidrs",
        "serf_lan_allowed_cidrs",
        "A network, such as 10.0.0.0/8, from which members of the LAN pool may come. May be repeated.",
    ),
    _KeyFlag("serf-lan-bind", "serf_lan", "The address where gossip of the LAN pool listens; -bind if not given."),
    _KeyFlag("serf-lan-port", "ports.serf_lan", "The port of gossip in the LAN pool."),
    _KeyFlag(
        "serf-wan-allowed-cidrs",
        "serf_wan_allowed_cidrs",
        "A network from which members of the WAN pool may come. May be repeated.",
    ),
    _KeyFlag("serf-wan-bind", "serf_wan", "The address where gossip of the WAN pool listens; -bind if not given."),
    _KeyFlag("serf-wan-port", "ports.serf_wan", "The port of gossip in the WAN pool; -1 for no WAN pool."),
    _KeyFlag("server", "server", "Be a server."),
    _KeyFlag("server-port", "ports.server", "The port of RPC between agents and servers."),
    _KeyFlag("syslog", "enable_syslog", "Log to syslog as well."),
    _KeyFlag("ui", "ui", "Serve the web UI."),
    _KeyFlag("ui-content-path", "ui_content_path", "The path of the web UI; /ui/ if not given."),
    _KeyFlag("ui-dir", "ui_dir", "The directory that holds the web UI."),
)

_CONFIG_FILE, _CONFIG_DIR, _CONFIG_FORMAT, _DEV, _HCL = "config-file", "config-dir", "config-format", "dev", "hcl"
_OTHER_FLAGS: Final = (
    Flag(_CONFIG_DIR, Kind.LIST, "A directory whose .hcl and .json files are read in the order of their names. May be repeated."),
    Flag(_CONFIG_FILE, Kind.LIST, "A configuration file, in HCL or JSON by the end of its name. May be repeated."),
    Flag(_CONFIG_FORMAT, Kind.TEXT, "Read all configuration files as this, `hcl` or `json`, whatever their names."),
    Flag(_DEV, Kind.BOOL, "Be a server alone that keeps nothing on disk, for development."),
    Flag(_HCL, Kind.LIST, "A fragment of configuration. May be repeated."),
)


def _flag(key_flag: _KeyFlag) -> Flag:
    return Flag(key_flag.name, _kind(known_keys()[key_flag.key].kind), key_flag.help, metavar=key_flag.word)


def _kind(kind: KeyKind) -> Kind:
    """Durations and addresses are texts here; the configuration reads them and says what is wrong with them."""
    if kind in LISTS or kind in MAPS:
        return Kind.LIST
    return {KeyKind.BOOL: Kind.BOOL, KeyKind.INT: Kind.INT}.get(kind, Kind.TEXT)


FLAGS: Final = (*map(_flag, _KEY_FLAGS), *_OTHER_FLAGS)
_KEYS: Final = {flag.name: flag.key for flag in _KEY_FLAGS}


def run(arguments: Sequence[str]) -> int:
    """The exit code of the agent, once it has ended."""
    parsed = parse(_COMMAND, FLAGS, arguments)
    if parsed.rest:
        return _failed(f"Unexpected extra arguments: [{' '.join(parsed.rest)}]")
    try:
        sources = sources_of(parsed)
        loaded = load(sources)
    except ConfigError as error:
        return _failed(str(error))
    # What an agent is made of takes time to import, which mistakes in the configuration need not wait for.
    from discovery.daemon.run import run_agent

    return run_agent(sources, loaded)


def _failed(text: str) -> int:
    print(f"==> {text}", file=sys.stderr)
    return 1


def sources_of(parsed: Parsed) -> Sources:
    """Raises `ConfigError`."""
    flags: dict[str, tuple[str, ...]] = {}
    for name, text in parsed.typed:
        if key := _KEYS.get(name):
            flags[key] = (*flags.get(key, ()), text)
    return Sources(
        dev=parsed.flag(_DEV),
        paths=tuple(_paths(parsed)),
        format=parsed.text(_CONFIG_FORMAT),
        fragments=parsed.texts(_HCL),
        flags=flags,
    )


def _paths(parsed: Parsed) -> Iterator[Path]:
    for name, text in parsed.typed:
        if name in (_CONFIG_FILE, _CONFIG_DIR):
            if not text:
                raise ConfigError(f"-{name} names no file")
            yield Path(text)

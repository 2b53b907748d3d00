"""What an operator may configure and this program heeds, one struct per object of Consul's configuration language.

A field has the name of its key, so `options.dns_config.max_stale` is `dns_config { max_stale }`. Durations are seconds. The
defaults stand here and nowhere else; `schema` derives the known keys, their types and defaults from these structs. A key that
comes into effect gets its field here and leaves the table of keys without effect in `schema`.

Source: Consul documentation (agent configuration reference).
"""

from typing import Annotated, TypeAlias

import msgspec

from .kinds import Kind

Seconds: TypeAlias = Annotated[float, Kind.DURATION]
"""Written as text such as `1h30m`."""
Address: TypeAlias = Annotated[str, Kind.ADDRESS]
"""One IP address, or a template that yields one."""
Addresses: TypeAlias = Annotated[tuple[str, ...], Kind.ADDRESSES]
"""Written as one text of addresses with spaces between; templates may stand in it."""
Hosts: TypeAlias = Annotated[tuple[str, ...], Kind.HOSTS]
"""A list of hosts, with or without port; templates may stand in it."""
SecondsByName: TypeAlias = Annotated[dict[str, float], Kind.DURATIONS]
Definitions: TypeAlias = tuple[dict[str, object], ...]
"""Services or checks with the field names and shapes of the HTTP API's bodies; durations stay text."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """An object of the configuration language."""


class Ports(Section, frozen=True, kw_only=True):
    """A port of 0 or less switches its listener off."""

    dns: int = 8600
    http: int = 8500
    https: int = -1
    grpc: int = -1
    grpc_tls: int = -1
    serf_lan: int = 8301
    serf_wan: int = 8302
    server: int = 8300
    sidecar_min_port: int = 21000
    sidecar_max_port: int = 21255


class ListenAddresses(Section, frozen=True, kw_only=True):
    """Where each door opens, `unix://path` included for HTTP; loaded options hold `client_addr` where nothing was set."""

    dns: Addresses = ()
    http: Addresses = ()
    https: Addresses = ()


class UnixSockets(Section, frozen=True, kw_only=True):
    mode: str = ""
    """Octal, such as `770`; empty: what the process's umask gives."""


class Soa(Section, frozen=True, kw_only=True):
    """Whole seconds, as the SOA record carries them."""

    refresh: int = 3600
    retry: int = 600
    expire: int = 86400
    min_ttl: int = 0


class DnsConfig(Section, frozen=True, kw_only=True):
    allow_stale: bool = True
    max_stale: Seconds = 87600 * 3600.0
    node_ttl: Seconds = 0.0
    service_ttl: SecondsByName = {}
    enable_truncate: bool = False
    only_passing: bool = False
    disable_compression: bool = False
    udp_answer_limit: int = 3
    a_record_limit: int = 0
    recursor_timeout: Seconds = 2.0
    recursor_strategy: str = "sequential"
    enable_additional_node_meta_txt: bool = True
    use_cache: bool = False
    cache_max_age: Seconds = 0.0
    serve_stale_for: Seconds = 0.0
    """Ours: how old an answer may be that is given while the cluster can't be asked; 0: none is."""
    serve_stale_ttl: Seconds = 5.0
    soa: Soa = Soa()


class Performance(Section, frozen=True, kw_only=True):
    raft_multiplier: int = 5
    """Times heartbeat and election timeout of 1 s each and the leader's lease of 500 ms; 1 to 10."""
    leave_drain_time: Seconds = 5.0
    rpc_hold_timeout: Seconds = 7.0


class Telemetry(Section, frozen=True, kw_only=True):
    metrics_prefix: str = "consul"
    disable_hostname: bool = False
    prometheus_retention_time: Seconds = 0.0
    """0: no metrics are kept for Prometheus."""
    filter_default: bool = True
    prefix_filter: tuple[str, ...] = ()
    """`+prefix` lets metrics through, `-prefix` holds them back."""


class Limits(Section, frozen=True, kw_only=True):
    """Sizes are bytes."""

    http_max_conns_per_client: int = 200
    https_handshake_timeout: Seconds = 5.0
    rpc_handshake_timeout: Seconds = 5.0
    rpc_max_conns_per_client: int = 100
    rpc_client_timeout: Seconds = 60.0
    rpc_rate: float = -1.0
    """Requests to servers per second; negative: no limit."""
    rpc_max_burst: int = 1000
    kv_max_value_size: int = 512 * 1024
    txn_max_req_len: int = 512 * 1024


class GossipWan(Section, frozen=True, kw_only=True):
    gossip_interval: Seconds = 0.5
    gossip_nodes: int = 3
    probe_interval: Seconds = 5.0
    probe_timeout: Seconds = 3.0
    suspicion_mult: int = 6
    retransmit_mult: int = 4


class GossipLan(Section, frozen=True, kw_only=True):
    gossip_interval: Seconds = 0.2
    gossip_nodes: int = 3
    probe_interval: Seconds = 1.0
    probe_timeout: Seconds = 0.5
    suspicion_mult: int = 4
    retransmit_mult: int = 4


class HttpConfig(Section, frozen=True, kw_only=True):
    block_endpoints: tuple[str, ...] = ()
    """Path prefixes that are answered 403."""
    response_headers: dict[str, str] = {}
    allow_write_http_from: tuple[str, ...] = ()
    """CIDRs."""
    use_cache: bool = True


class AclTokens(Section, frozen=True, kw_only=True):
    """The tokens this agent hands on; they mean something once the servers it talks to have ACLs on."""

    default: str = ""
    agent: str = ""
    replication: str = ""


class Acl(Section, frozen=True, kw_only=True):
    enabled: bool = False
    default_policy: str = "allow"
    down_policy: str = "extend-cache"
    tokens: AclTokens = AclTokens()


class Autopilot(Section, frozen=True, kw_only=True):
    """Written into the cluster's state once, by the first leader."""

    cleanup_dead_servers: bool = True
    last_contact_threshold: Seconds = 0.2
    max_trailing_logs: int = 250
    min_quorum: int = 0
    server_stabilization_time: Seconds = 10.0
    redundancy_zone_tag: str = ""
    """The `node_meta` key whose value is a server's zone; empty: no zones."""
    disable_upgrade_migration: bool = False
    upgrade_version_tag: str = ""
    """The `node_meta` key whose value is a server's version; empty: the version of the program."""


class Options(Section, frozen=True, kw_only=True):
    """Everything, settled: templates resolved, defaults that depend on other keys filled in (see `load`)."""

    dev_mode: bool = False
    """`-dev`: a single server that keeps nothing on disk. A flag, not a key."""

    datacenter: str = "dc1"
    primary_datacenter: str = ""
    """`datacenter` once loaded, if not configured."""
    data_dir: str = ""
    node_name: str = ""
    node_id: str = ""
    """Empty: one kept in `data_dir`, or a new one."""
    disable_host_node_id: bool = True
    node_meta: dict[str, str] = {}
    server: bool = False
    bootstrap: bool = False
    bootstrap_expect: int = 0
    """1 where `bootstrap` was set."""
    pid_file: str = ""
    enable_debug: bool = False

    bind_addr: Address = "0.0.0.0"
    advertise_addr: Address = ""
    """Never empty once loaded."""
    advertise_addr_ipv4: Address = ""
    advertise_addr_ipv6: Address = ""
    advertise_addr_wan: Address = ""
    """`advertise_addr` once loaded, if not configured."""
    advertise_addr_wan_ipv4: Address = ""
    advertise_addr_wan_ipv6: Address = ""
    serf_lan: Address = ""
    """Where gossip listens; `bind_addr` once loaded, if not configured. `serf_wan` likewise."""
    serf_wan: Address = ""
    client_addr: Addresses = ("127.0.0.1",)
    addresses: ListenAddresses = ListenAddresses()
    unix_sockets: UnixSockets = UnixSockets()
    ports: Ports = Ports()
    tagged_addresses: dict[str, str] = {}
    """The configured ones and `lan`, `wan` and their families."""
    translate_wan_addrs: bool = False

    retry_join: Hosts = ()
    retry_interval: Seconds = 30.0
    retry_max: int = 0
    """0: for ever."""
    start_join: Hosts = ()
    retry_join_wan: Hosts = ()
    retry_interval_wan: Seconds = 30.0
    retry_max_wan: int = 0
    start_join_wan: Hosts = ()
    rejoin_after_leave: bool = False
    leave_on_terminate: bool = False
    """Unless configured: true on clients."""
    skip_leave_on_interrupt: bool = False
    """Unless configured: true on servers."""
    reconnect_timeout: Seconds = 72 * 3600.0
    reconnect_timeout_wan: Seconds = 72 * 3600.0

    encrypt: str = ""
    """Base64 of a gossip key of 16, 24 or 32 bytes."""
    encrypt_verify_incoming: bool = True
    encrypt_verify_outgoing: bool = True
    disable_keyring_file: bool = False
    gossip_lan: GossipLan = GossipLan()
    gossip_wan: GossipWan = GossipWan()

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify_incoming: bool = False
    verify_incoming_rpc: bool = False
    verify_incoming_https: bool = False
    verify_outgoing: bool = False
    verify_server_hostname: bool = False
    server_name: str = ""
    tls_min_version: str = "tls12"
    tls_cipher_suites: str = ""

    performance: Performance = Performance()
    raft_protocol: int = 3
    raft_snapshot_threshold: int = 16384
    raft_snapshot_interval: Seconds = 30.0
    raft_trailing_logs: int = 10000
    autopilot: Autopilot = Autopilot()
    session_ttl_min: Seconds = 10.0
    default_query_time: Seconds = 300.0
    max_query_time: Seconds = 600.0
    discovery_max_stale: Seconds = 0.0

    domain: str = "consul."
    alt_domain: str = ""
    recursors: Hosts = ()
    dns_config: DnsConfig = DnsConfig()

    http_config: HttpConfig = HttpConfig()
    limits: Limits = Limits()
    disable_http_unprintable_char_filter: bool = False
    ui: bool = False
    ui_dir: str = ""
    ui_content_path: str = "/ui/"

    log_level: str = "INFO"
    log_json: bool = False
    log_file: str = ""
    log_rotate_bytes: int = 0
    log_rotate_duration: Seconds = 24 * 3600.0
    log_rotate_max_files: int = 0
    enable_syslog: bool = False
    syslog_facility: str = "LOCAL0"
    telemetry: Telemetry = Telemetry()

    acl: Acl = Acl()

    services: Annotated[Definitions, Kind.SERVICES] = ()
    checks: Annotated[Definitions, Kind.CHECKS] = ()
    enable_script_checks: bool = False
    enable_local_script_checks: bool = False
    check_update_interval: Seconds = 300.0
    check_output_max_size: int = 4096
    discard_check_output: bool = False
    enable_agent_tls_for_checks: bool = False
    """Whether checks trust the agent's authorities and show its certificate."""
    disable_coordinates: bool = False

"""From the settled configuration to what each room is told: pure translation, every option in one place."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from discovery.config.options import Options
from discovery.dns.options import DnsOptions, SoaOptions
from discovery.gossip.profile import LAN, LOCAL, WAN, Profile
from discovery.http.options import HttpOptions, Listener
from discovery.local.checks.tls import AgentTls
from discovery.local.difference import Identity
from discovery.local.settings import Settings as LocalSettings
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.records import AutopilotConfig
from discovery.raft.core import Options as RaftOptions
from discovery.server.operator import COORDINATE_UPDATE_PERIOD
from discovery.server.server import ServerOptions
from discovery.server.snapshotting import SnapshotPolicy
from discovery.telemetry import LogOptions
from discovery.transport.tls import Tls, TlsOptions

from .info import COMPATIBLE_VERSION

_DEV_RAFT: Final = RaftOptions(heartbeat_timeout=0.05, election_timeout=0.05, lease_timeout=0.025)
"""A server alone in a process has nobody to wait for."""
_DEV_COORDINATE_UPDATE_PERIOD: Final = 0.1
_UNIX: Final = "unix://"


def _nanoseconds(seconds: float) -> int:
    return int(Duration.from_seconds(seconds))


# --- who we are ----------------------------------------------------------------------------------------------------


def identity(options: Options, node_id: str) -> Identity:
    return Identity(
        name=options.node_name,
        id=node_id,
        address=options.advertise_addr,
        datacenter=options.datacenter,
        tagged_addresses=dict(options.tagged_addresses),
        meta={**options.node_meta, "consul-network-segment": ""},
    )


def bootstraps(options: Options) -> bool:
    """Whether this server was told to elect itself; one in development mode is alone anyway."""
    return options.bootstrap_expect == 1 and not options.dev_mode


def gossip_tags(options: Options, node_id: str, *, wan: bool = False) -> dict[str, str]:
    """Consul's conventions for what a member of the LAN or WAN pool says of itself. Source: tags that Consul agents send."""
    tags = {
        "role": "consul" if options.server else "node",
        "dc": options.datacenter,
        "segment": "",
        "id": node_id,
        "vsn": "2",
        "vsn_min": "2",
        "vsn_max": "3",
        "build": f"{COMPATIBLE_VERSION}:",
        "acls": "0",
    }
    if not options.server:
        return tags
    tags |= {"raft_vsn": "3", "port": str(options.ports.server)}
    if options.ports.serf_wan > 0 and not wan:
        tags["wan_join_port"] = str(options.ports.serf_wan)
    if bootstraps(options):
        tags["bootstrap"] = "1"
    elif options.bootstrap_expect > 1:
        tags["expect"] = str(options.bootstrap_expect)
    if options.cert_file:
        tags["use_tls"] = "1"
    return tags


# --- gossip --------------------------------------------------------------------------------------------------------


def lan_profile(options: Options) -> Profile:
    gossip = options.gossip_lan
    base = LOCAL if options.dev_mode else LAN
    return base if options.dev_mode else replace(base, **msgspec.structs.asdict(gossip))


def wan_profile(options: Options) -> Profile:
    return LOCAL if options.dev_mode else replace(WAN, **msgspec.structs.asdict(options.gossip_wan))


# --- the server ----------------------------------------------------------------------------------------------------


def server_options(options: Options, node_id: str, directory: Path) -> ServerOptions:
    raft = _DEV_RAFT if options.dev_mode else RaftOptions(raft_multiplier=options.performance.raft_multiplier)
    return ServerOptions(
        node_id=node_id,
        node_name=options.node_name,
        datacenter=options.datacenter,
        directory=directory,
        bind_address=options.bind_addr,
        advertise_address=options.advertise_addr,
        port=options.ports.server,
        bootstrap_expect=options.bootstrap_expect,
        raft=raft,
        snapshots=snapshot_policy(options),
        rpc_hold_time=options.performance.rpc_hold_timeout,
        default_query_time=options.default_query_time,
        max_query_time=options.max_query_time,
        session_ttl_min=options.session_ttl_min,
        rpc_handshake_timeout=options.limits.rpc_handshake_timeout,
        rpc_max_conns_per_client=options.limits.rpc_max_conns_per_client,
        autopilot=autopilot_config(options),
        coordinate_update_period=_DEV_COORDINATE_UPDATE_PERIOD if options.dev_mode else COORDINATE_UPDATE_PERIOD,
    )


def autopilot_config(options: Options) -> AutopilotConfig:
    autopilot = options.autopilot
    return AutopilotConfig(
        cleanup_dead_servers=autopilot.cleanup_dead_servers,
        last_contact_threshold=Duration.from_seconds(autopilot.last_contact_threshold),
        max_trailing_logs=autopilot.max_trailing_logs,
        min_quorum=autopilot.min_quorum,
        server_stabilization_time=Duration.from_seconds(autopilot.server_stabilization_time),
        redundancy_zone_tag=autopilot.redundancy_zone_tag,
        disable_upgrade_migration=autopilot.disable_upgrade_migration,
        upgrade_version_tag=autopilot.upgrade_version_tag,
    )


def snapshot_policy(options: Options) -> SnapshotPolicy:
    return SnapshotPolicy(
        threshold=options.raft_snapshot_threshold,
        interval=options.raft_snapshot_interval,
        trailing=options.raft_trailing_logs,
    )


# --- TLS -----------------------------------------------------------------------------------------------------------


def server_tls(options: Options) -> TlsOptions:
    """For the server port."""
    return TlsOptions(
        ca_file=options.ca_file,
        ca_path=options.ca_path,
        cert_file=options.cert_file,
        key_file=options.key_file,
        verify_incoming=options.verify_incoming or options.verify_incoming_rpc,
        verify_outgoing=options.verify_outgoing,
        verify_server_hostname=options.verify_server_hostname,
        min_version=options.tls_min_version,
        cipher_suites=_openssl_ciphers(options.tls_cipher_suites),
        datacenter=options.datacenter,
        domain=options.domain,
    )


def https_context(options: Options) -> ssl.SSLContext | None:
    """For HTTPS listeners; raises `InvalidTls`."""
    incoming = msgspec.structs.replace(
        server_tls(options),
        verify_incoming=options.verify_incoming or options.verify_incoming_https,
        verify_outgoing=False,
        verify_server_hostname=False,
    )
    return Tls(incoming).incoming


def _openssl_ciphers(names: str) -> str:
    """Go's cipher suite names, separated by commas, as OpenSSL's."""
    translated = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        exchange, _, cipher = name.removeprefix("TLS_").partition("_WITH_")
        cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("_CBC_", "_")
        cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305")
        translated.append("-".join(filter(None, ("" if exchange == "RSA" else exchange, cipher))).replace("_", "-"))
    return ":".join(translated)


# --- the doors -----------------------------------------------------------------------------------------------------


def http_options(options: Options) -> HttpOptions:
    return HttpOptions(
        response_headers=options.http_config.response_headers,
        allow_write_http_from=options.http_config.allow_write_http_from,
        block_endpoints=options.http_config.block_endpoints,
        max_connections_per_client=options.limits.http_max_conns_per_client,
        kv_max_value_size=options.limits.kv_max_value_size,
        txn_max_request_size=options.limits.txn_max_req_len,
        use_cache=options.http_config.use_cache,
        discovery_max_stale=_nanoseconds(options.discovery_max_stale),
        default_query_time=_nanoseconds(options.default_query_time),
        max_query_time=_nanoseconds(options.max_query_time),
        translate_wan_addrs=options.translate_wan_addrs,
        prometheus=options.telemetry.prometheus_retention_time > 0,
        coordinates=not options.disable_coordinates,
        filter_unprintable_paths=not options.disable_http_unprintable_char_filter,
        default_token=options.acl.tokens.default,
        dns_domain=options.domain,
    )


def http_listeners(options: Options) -> list[Listener]:
    """Where HTTP and HTTPS are served; raises `InvalidTls`."""
    listeners = _listeners(options, options.addresses.http, options.ports.http, None)
    if options.ports.https > 0:
        listeners += _listeners(options, options.addresses.https, options.ports.https, https_context(options))
    return listeners


def _listeners(options: Options, addresses: Sequence[str], port: int, context: ssl.SSLContext | None) -> list[Listener]:
    mode = int(options.unix_sockets.mode, 8) if options.unix_sockets.mode else None
    timeout = options.limits.https_handshake_timeout
    found = []
    for address in addresses:
        if address.startswith(_UNIX):
            found.append(Listener(unix_path=address.removeprefix(_UNIX), unix_mode=mode, ssl=context, handshake_timeout=timeout))
        elif port > 0:
            found.append(Listener(host=address, port=port, ssl=context, handshake_timeout=timeout))
    return found


def dns_options(options: Options) -> DnsOptions:
    dns = options.dns_config
    return DnsOptions(
        domain=options.domain,
        alt_domain=options.alt_domain,
        recursors=options.recursors,
        recursor_timeout=_nanoseconds(dns.recursor_timeout),
        recursor_strategy=dns.recursor_strategy,
        allow_stale=dns.allow_stale,
        max_stale=_nanoseconds(dns.max_stale),
        node_ttl=_nanoseconds(dns.node_ttl),
        service_ttl={name: _nanoseconds(ttl) for name, ttl in dns.service_ttl.items()},
        enable_truncate=dns.enable_truncate,
        only_passing=dns.only_passing,
        disable_compression=dns.disable_compression,
        udp_answer_limit=dns.udp_answer_limit,
        a_record_limit=dns.a_record_limit,
        enable_additional_node_meta_txt=dns.enable_additional_node_meta_txt,
        use_cache=dns.use_cache,
        cache_max_age=_nanoseconds(dns.cache_max_age),
        serve_stale_for=_nanoseconds(dns.serve_stale_for),
        serve_stale_ttl=_nanoseconds(dns.serve_stale_ttl),
        soa=SoaOptions(**msgspec.structs.asdict(dns.soa)),
        translate_wan_addrs=options.translate_wan_addrs,
        token=options.acl.tokens.default,
    )


def dns_addresses(options: Options) -> list[tuple[str, int]]:
    port = options.ports.dns
    return [(address, port) for address in options.addresses.dns] if port > 0 else []


# --- own services, logs --------------------------------------------------------------------------------------------


def local_settings(options: Options) -> LocalSettings:
    return LocalSettings(
        node_name=options.node_name,
        datacenter=options.datacenter,
        enable_script_checks=options.enable_script_checks,
        enable_local_script_checks=options.enable_local_script_checks,
        check_output_max_size=options.check_output_max_size,
        discard_check_output=options.discard_check_output,
        check_tls=_check_tls(options) if options.enable_agent_tls_for_checks else None,
        sidecar_min_port=options.ports.sidecar_min_port,
        sidecar_max_port=options.ports.sidecar_max_port,
    )


def _check_tls(options: Options) -> AgentTls:
    return AgentTls(ca_file=options.ca_file, ca_path=options.ca_path, cert_file=options.cert_file, key_file=options.key_file)


def service_specs(options: Options) -> list[ServiceSpec]:
    return [_converted(each, ServiceSpec) for each in options.services]


def check_specs(options: Options) -> list[CheckSpec]:
    return [_converted(each, CheckSpec) for each in options.checks]


def _converted(document: dict[str, object], kind: Any) -> Any:
    return msgspec.convert(document, kind, dec_hook=_read_duration)


def _read_duration(kind: Callable[[Any], Any], value: Any) -> Any:
    return Duration.parse(value) if kind is Duration and isinstance(value, str) else kind(value)


def log_options(options: Options) -> LogOptions:
    return LogOptions(
        level=options.log_level,
        json=options.log_json,
        file=options.log_file,
        rotate_bytes=options.log_rotate_bytes,
        rotate_seconds=options.log_rotate_duration,
        rotate_max_files=options.log_rotate_max_files,
        syslog_facility=options.syslog_facility if options.enable_syslog else "",
    )

"""The known keys: kind of value, default, whether a reload applies a new value, and whether it has an effect.

Keys with an effect are the fields of `options.Options`. Keys that are read and then have none stand in the table below, by kind
of value, so that files written for Consul load and the operator is told at start what is missing. Key names are in lower case.

Source: Consul documentation (agent configuration reference), versions 1.8 to 1.22.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import structs

from .kinds import Kind
from .options import Options, Section


class Effect(StrEnum):
    APPLIED = "applied"
    NONE = "none"
    """Read, but without effect yet: a warning at start."""
    ENTERPRISE = "enterprise"
    """Without effect in the free Consul too."""
    MOOT = "moot"
    """What the key asks for is the case anyway, or is fixed."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    """Dotted, such as `dns_config.max_stale`."""
    kind: Kind
    default: object = None
    """What is so where the key is not set; None: nothing is known of it."""
    effect: Effect = Effect.APPLIED
    reloadable: bool = False


_NO_EFFECT_YET: Final[Mapping[Kind, str]] = {
    Kind.BOOL: """
        auto_reload_config disable_remote_exec enable_central_service_config
        tls_prefer_server_cipher_suites use_streaming_backend disable_kv_key_validation enable_xds_load_balancing
        rpc.enable_streaming auto_encrypt.allow_tls auto_encrypt.tls auto_config.enabled auto_config.authorization.enabled
        connect.enabled connect.enable_mesh_gateway_wan_federation connect.enable_serverless_plugin peering.enabled
        tls.grpc.use_auto_cert tls.internal_rpc.verify_outgoing tls.grpc.verify_incoming
        telemetry.disable_compat_1.9 telemetry.enable_host_metrics telemetry.retry_failed_connection
        telemetry.disable_per_tenancy_usage_metrics
        acl.enable_key_list_policy acl.enable_token_replication acl.enable_token_persistence
        raft_boltdb.nofreelistsync
        raft_logstore.disable_log_cache raft_logstore.verification.enabled raft_logstore.boltdb.no_freelist_sync
    """,
    Kind.INT: """
        protocol
        ports.proxy_min_port ports.proxy_max_port ports.expose_min_port ports.expose_max_port
        http_config.max_header_bytes cache.entry_fetch_max_burst raft_logstore.wal.segment_size_mb
    """,
    Kind.FLOAT: """
        cache.entry_fetch_rate limits.request_limits.read_rate limits.request_limits.write_rate xds.update_max_per_second
    """,
    Kind.TEXT: """
        default_intention_policy
        unix_sockets.user unix_sockets.group limits.request_limits.mode raft_logstore.backend
        auto_config.intro_token auto_config.intro_token_file connect.ca_provider
        tls.internal_rpc.ca_file tls.internal_rpc.ca_path tls.internal_rpc.cert_file tls.internal_rpc.key_file
        tls.internal_rpc.tls_min_version tls.internal_rpc.tls_cipher_suites
        tls.https.ca_file tls.https.ca_path tls.https.cert_file tls.https.key_file tls.https.tls_min_version
        tls.https.tls_cipher_suites
        tls.grpc.ca_file tls.grpc.ca_path tls.grpc.cert_file tls.grpc.key_file tls.grpc.tls_min_version
        tls.grpc.tls_cipher_suites
        telemetry.statsite_address telemetry.statsd_address telemetry.dogstatsd_addr
        telemetry.circonus_api_app telemetry.circonus_api_token telemetry.circonus_api_url telemetry.circonus_broker_id
        telemetry.circonus_broker_select_tag telemetry.circonus_check_display_name
        telemetry.circonus_check_force_metric_activation
        telemetry.circonus_check_id telemetry.circonus_check_instance_id telemetry.circonus_check_search_tag
        telemetry.circonus_check_tags telemetry.circonus_submission_interval telemetry.circonus_submission_url
        acl.tokens.master acl.tokens.agent_master acl.tokens.config_file_service_registration acl.tokens.dns
        ui_config.metrics_provider ui_config.metrics_provider_options_json ui_config.metrics_proxy.base_url
        locality.region locality.zone
    """,
    Kind.DURATION: """
        server_rejoin_age_max advertise_reconnect_timeout primary_gateways_interval
        performance.grpc_keepalive_interval performance.grpc_keepalive_timeout
        acl.policy_ttl acl.token_ttl acl.role_ttl raft_logstore.verification.interval
    """,
    Kind.ADDRESSES: "addresses.grpc addresses.grpc_tls",
    Kind.HOSTS: "primary_gateways",
    Kind.TEXTS: """
        experiments serf_lan_allowed_cidrs serf_wan_allowed_cidrs telemetry.dogstatsd_tags
        auto_encrypt.dns_san auto_encrypt.ip_san auto_config.server_addresses auto_config.dns_sans auto_config.ip_sans
        ui_config.metrics_provider_files ui_config.metrics_proxy.path_allowlist
    """,
    Kind.MAP: "log_sublevels ui_config.dashboard_url_templates",
    Kind.OBJECT: "connect.ca_config auto_config.authorization.static cloud",
    Kind.OBJECTS: "watches config_entries.bootstrap ui_config.metrics_proxy.add_headers",
}

_OPTIONS_WITHOUT_EFFECT_YET: Final = frozenset(
    [
        "acl.enabled",
        "acl.default_policy",
        "acl.down_policy",
        "acl.tokens.replication",
        "autopilot.disable_upgrade_migration",
        "autopilot.upgrade_version_tag",
        "enable_debug",
        "limits.rpc_client_timeout",
        "ports.grpc",
        "ports.grpc_tls",
        "primary_datacenter",
        "server_name",
        "ui",
        "ui_content_path",
        "ui_dir",
    ]
)
"""Of the fields of `Options`: a default of theirs is asked for elsewhere, but another value changes nothing yet."""

_THE_CASE: Final[Mapping[str, object]] = {"disable_remote_exec": True, "protocol": 2}
"""What is so although the key has no effect; of other keys that are true or false, false."""

_ENTERPRISE: Final[Mapping[Kind, str]] = {
    Kind.BOOL: "non_voting_server read_replica dns_config.prefer_namespace acl.msp_disable_bootstrap",
    Kind.TEXT: "license_path partition",
    Kind.OBJECT: "audit reporting",
    Kind.OBJECTS: "segments acl.tokens.managed_service_provider",
}

_MOOT: Final[Mapping[Kind, str]] = {
    Kind.BOOL: "disable_update_check disable_anonymous_signature acl_enforce_version_8",
    Kind.INT: "segment_limit sync_coordinate_rate_target",
    Kind.TEXT: """
        segment ae_interval check_reap_interval check_deregister_interval_min sync_coordinate_interval_min acl.disabled_ttl
    """,
    Kind.OBJECT: "snapshot_agent",
}
"""`segment` is here to be refused in Consul's words, see `validate`."""

ALIASES: Final[Mapping[str, str]] = {
    "service": "services",
    "check": "checks",
    "ui_config.enabled": "ui",
    "ui_config.dir": "ui_dir",
    "ui_config.content_path": "ui_content_path",
    "acl.tokens.initial_management": "acl.tokens.master",
    "acl.tokens.agent_recovery": "acl.tokens.agent_master",
    "tls.internal_rpc.verify_incoming": "verify_incoming_rpc",
    "tls.internal_rpc.verify_server_hostname": "verify_server_hostname",
    "tls.https.verify_incoming": "verify_incoming_https",
    "tls.defaults.verify_incoming": "verify_incoming",
    "tls.defaults.verify_outgoing": "verify_outgoing",
    "tls.defaults.ca_file": "ca_file",
    "tls.defaults.ca_path": "ca_path",
    "tls.defaults.cert_file": "cert_file",
    "tls.defaults.key_file": "key_file",
    "tls.defaults.tls_min_version": "tls_min_version",
    "tls.defaults.tls_cipher_suites": "tls_cipher_suites",
}
"""Other spellings: newer ones, or of a part for the whole."""

LEGACY: Final[Mapping[str, str]] = {
    "acl_agent_master_token": "acl.tokens.agent_master",
    "acl_agent_token": "acl.tokens.agent",
    "acl_datacenter": "primary_datacenter",
    "acl_default_policy": "acl.default_policy",
    "acl_down_policy": "acl.down_policy",
    "acl_master_token": "acl.tokens.master",
    "acl_replication_token": "acl.tokens.replication",
    "acl_token": "acl.tokens.default",
    "acl_ttl": "acl.token_ttl",
    "enable_acl_replication": "acl.enable_token_replication",
}
"""Keys that others have replaced: those win, wherever both are set."""

FORMER: Final[Mapping[str, str]] = {
    "advertise_addrs": "advertise_addr",
    "dns_recursor": "recursors",
    "dogstatsd_addr": "telemetry.dogstatsd_addr",
    "dogstatsd_tags": "telemetry.dogstatsd_tags",
    "http_api_response_headers": "http_config.response_headers",
    "serf_lan_bind": "serf_lan",
    "serf_wan_bind": "serf_wan",
    "statsd_addr": "telemetry.statsd_address",
    "statsite_addr": "telemetry.statsite_address",
}
"""Keys of the past that are refused, and what to write instead where their names don't tell."""

_RELOADABLE: Final = (
    "services", "checks", "watches", "node_meta", "log_level", "acl.tokens.", "discard_check_output", "telemetry.prefix_filter",
    "dns_config.", "recursors", "limits.rpc_rate", "limits.rpc_max_burst", "limits.http_max_conns_per_client",
    "limits.rpc_max_conns_per_client", "limits.rpc_client_timeout", "config_entries.bootstrap", "ca_file", "ca_path", "cert_file",
    "key_file", "raft_snapshot_threshold", "raft_snapshot_interval", "raft_trailing_logs",
)  # fmt: skip
"""Keys, and with a dot at the end whole objects."""

_FLAGS_ONLY: Final = frozenset({"dev_mode"})
_KINDS_OF_TYPES: Final[Mapping[Any, Kind]] = {
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    str: Kind.TEXT,
    tuple[str, ...]: Kind.TEXTS,
    dict[str, str]: Kind.MAP,
}


@cache
def known_keys() -> Mapping[str, Key]:
    """Every key by its path, aliases not included."""
    keys = [*_option_keys(Options(), "")]
    for effect, table in ((Effect.NONE, _NO_EFFECT_YET), (Effect.ENTERPRISE, _ENTERPRISE), (Effect.MOOT, _MOOT)):
        for kind, paths in table.items():
            case = False if kind is Kind.BOOL else None
            keys += [
                Key(path=path, kind=kind, default=_THE_CASE.get(path, case), effect=effect, reloadable=_is_reloadable(path))
                for path in paths.split()
            ]
    known = {key.path: key for key in keys}
    return known | {path: structs.replace(known[successor], path=path) for path, successor in LEGACY.items()}


@cache
def objects() -> Mapping[str, frozenset[str]]:
    """The names that stand in each object, by the object's path; the top level is ``""``."""
    found: dict[str, set[str]] = {"": set()}
    for path in (*known_keys(), *ALIASES):
        parent, _, name = path.rpartition(".")
        # `telemetry.disable_compat_1.9` is one name in spite of its dot.
        if name.isdigit():
            parent, _, name = path.partition(".")
        found.setdefault(parent, set()).add(name)
        while parent:
            parent, _, name = parent.rpartition(".")
            found.setdefault(parent, set()).add(name)
    return {path: frozenset(names) for path, names in found.items()}


def _option_keys(section: Section, prefix: str) -> Iterator[Key]:
    for name, annotation in get_type_hints(type(section), include_extras=True).items():
        path, value = prefix + name, getattr(section, name)
        if isinstance(value, Section):
            yield from _option_keys(value, f"{path}.")
        elif path not in _FLAGS_ONLY:
            effect = Effect.NONE if path in _OPTIONS_WITHOUT_EFFECT_YET else Effect.APPLIED
            yield Key(path=path, kind=_kind_of(annotation), default=value, effect=effect, reloadable=_is_reloadable(path))


def _kind_of(annotation: Any) -> Kind:
    if get_origin(annotation) is Annotated:
        kind: Kind = get_args(annotation)[1]
        return kind
    return _KINDS_OF_TYPES[annotation]


def _is_reloadable(path: str) -> bool:
    return any(path == name or (name.endswith(".") and path.startswith(name)) for name in _RELOADABLE)

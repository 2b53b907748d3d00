"""Whether settled options make sense, each by itself and together; the texts are Consul's where Consul has one.

Source: what Consul answers to `consul validate`, and when an agent starts.
"""

import ipaddress
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from discovery.model import base64_text

from .addresses import UNIX, is_any
from .decode import Settings
from .faults import Faults
from .kinds import Kind
from .options import Options
from .schema import known_keys

_DATACENTER: Final = re.compile(r"[a-z0-9_-]+")
_META_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_META_PAIRS, _META_KEY_LENGTH, _META_VALUE_LENGTH = 64, 128, 512
_UI_PATH: Final = re.compile(r"[A-Za-z0-9/_-]+")
_UI_VERSION: Final = re.compile(r"/v\d+/")
_GOSSIP_KEYS: Final = (16, 24, 32)
_MAX_RAFT_MULTIPLIER: Final = 10
_MAX_WEIGHT: Final = 65535
_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERR", "ERROR")
_TLS_VERSIONS: Final = ("tls10", "tls11", "tls12", "tls13")
_STRATEGIES: Final = ("sequential", "random")
_DNS_WORDS: Final = ("service", "connect", "node", "query", "addr")

_NOT_NEGATIVE: Final = (
    "autopilot.max_trailing_logs", "autopilot.min_quorum", "bootstrap_expect", "dns_config.a_record_limit",
    "dns_config.soa.expire", "dns_config.soa.min_ttl", "dns_config.soa.refresh", "dns_config.soa.retry",
    "dns_config.udp_answer_limit", "limits.kv_max_value_size", "limits.txn_max_req_len", "raft_snapshot_threshold",
    "raft_trailing_logs", "retry_max", "retry_max_wan",
)  # fmt: skip
_POSITIVE: Final = (
    "dns_config.recursor_timeout",
    "retry_interval",
    "retry_interval_wan",
    *(
        f"{pool}.{name}"
        for pool in ("gossip_lan", "gossip_wan")
        for name in ("gossip_interval", "gossip_nodes", "probe_interval", "probe_timeout", "suspicion_mult", "retransmit_mult")
    ),
)
"""What would otherwise be done without a pause, or never."""


def validate(options: Options, settings: Settings, faults: Faults) -> None:
    """`settings` tell what was set, `faults` collects what is wrong."""
    _identity(options, faults)
    _modes(options, settings, faults)
    _numbers(settings, faults)
    _words(options, faults)
    _ui(options, faults)
    _addresses(options, faults)
    _ports(options, faults)
    _gossip_key(options.encrypt, faults)
    for name, weights in _weights_of(options):
        _weights(name, weights, faults)


# --- who and where -------------------------------------------------------------------------------------------------


def _identity(options: Options, faults: Faults) -> None:
    if not options.datacenter:
        faults.add("datacenter cannot be empty", "datacenter")
    elif not _DATACENTER.fullmatch(options.datacenter):
        faults.add(f'datacenter cannot be "{options.datacenter}". Please use only [a-z0-9-_]', "datacenter")
    if not options.node_name:
        faults.add("node_name cannot be empty", "node_name")
    for problem in _meta_problems(options.node_meta):
        faults.add(f"node_meta invalid: {problem}", "node_meta")
    if not options.dev_mode:
        _data_dir(options.data_dir, faults)


def _data_dir(path: str, faults: Faults) -> None:
    """It need not exist yet."""
    if not path:
        faults.add("data_dir cannot be empty", "data_dir")
        return
    try:
        if not stat.S_ISDIR(Path(path).stat().st_mode):
            faults.add(f'data_dir "{path}" is not a directory', "data_dir")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        faults.add(f"Error getting info on data_dir: stat {path}: {reason}", "data_dir")


def _meta_problems(meta: Mapping[str, str]) -> Iterator[str]:
    if len(meta) > _META_PAIRS:
        yield f"Node metadata cannot contain more than {_META_PAIRS} key/value pairs"
    for key, value in meta.items():
        if problem := _meta_problem(key, value):
            yield f"Couldn't load metadata pair ('{key}', '{value}'): {problem}"


def _meta_problem(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > _META_KEY_LENGTH:
        return f"Key is too long (limit: {_META_KEY_LENGTH} characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    return f"Value is too long (limit: {_META_VALUE_LENGTH} characters)" if len(value) > _META_VALUE_LENGTH else ""


# --- modes ---------------------------------------------------------------------------------------------------------


def _modes(options: Options, settings: Settings, faults: Faults) -> None:
    set_expect = _set(settings, "bootstrap_expect", 0)
    expect = set_expect if isinstance(set_expect, int) else 0
    bootstrap = _set(settings, "bootstrap", False) is True
    if bootstrap and not options.server:
        faults.add("'bootstrap = true' requires 'server = true'", "bootstrap")
    if expect > 0 and not options.server:
        faults.add("'bootstrap_expect > 0' requires 'server = true'", "bootstrap_expect")
    if expect > 0 and options.dev_mode:
        faults.add("'bootstrap_expect > 0' not allowed in dev mode", "bootstrap_expect")
    if expect > 1 and bootstrap:
        faults.add("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive", "bootstrap_expect")
    if "segment" in settings:
        faults.add("Network segments are not supported in this version of Consul", "segment")
    if options.server and _set(settings, "auto_encrypt.tls", False):
        faults.add("auto_encrypt.tls can only be used on a client.", "auto_encrypt.tls")
    if not options.server and _set(settings, "auto_encrypt.allow_tls", False):
        faults.add("auto_encrypt.allow_tls can only be used on a server.", "auto_encrypt.allow_tls")


def _set(settings: Settings, key: str, default: object) -> object:
    return settings[key].value if key in settings else default


# --- single values -------------------------------------------------------------------------------------------------


def _numbers(settings: Settings, faults: Faults) -> None:
    for key, setting in settings.items():
        value = setting.value
        if not isinstance(value, int | float):
            continue
        if key in _POSITIVE and value <= 0:
            faults.add(f"{key} cannot be {_written(key, value)}. Must be greater than zero", key)
        elif value < 0 and (key in _NOT_NEGATIVE or known_keys()[key].kind is Kind.DURATION):
            faults.add(f"{key} cannot be {_written(key, value)}. Must be greater than or equal to zero", key)
    multiplier = _set(settings, "performance.raft_multiplier", 1)
    if isinstance(multiplier, int) and not 1 <= multiplier <= _MAX_RAFT_MULTIPLIER:
        faults.add(
            f"performance.raft_multiplier cannot be {multiplier}. Must be between 1 and {_MAX_RAFT_MULTIPLIER}",
            "performance.raft_multiplier",
        )
    output_size = _set(settings, "check_output_max_size", 1)
    if isinstance(output_size, int) and output_size < 1:
        faults.add(
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
            "check_output_max_size",
        )


def _written(key: str, value: float) -> str:
    return f"{value:g}s" if known_keys()[key].kind is Kind.DURATION else str(value)


def _words(options: Options, faults: Faults) -> None:
    if options.log_level.upper() not in _LEVELS:
        faults.add(f"Invalid log level: {options.log_level}. Valid log levels are: [{' '.join(_LEVELS)}]", "log_level")
    if options.tls_min_version not in _TLS_VERSIONS:
        known = ", ".join(_TLS_VERSIONS)
        faults.add(
            f"TLSMinVersion: value {options.tls_min_version} not supported, please specify one of [{known}]", "tls_min_version"
        )
    if options.dns_config.recursor_strategy not in _STRATEGIES:
        faults.add(
            f"dns_config.recursor_strategy must be one of the following values: {', '.join(_STRATEGIES)}",
            "dns_config.recursor_strategy",
        )
    mode = options.unix_sockets.mode
    if mode and not re.fullmatch("[0-7]{1,4}", mode):
        faults.add(f"unix_sockets.mode: invalid mode specified: {mode}; expected octal digits such as 770", "unix_sockets.mode")
    words = (*_DNS_WORDS, options.datacenter)
    if options.alt_domain and options.alt_domain.partition(".")[0] in words:
        faults.add(f"alt_domain cannot start with {{{','.join(words)}}}", "alt_domain")
    for cidr in options.http_config.allow_write_http_from:
        if not _is_network(cidr):
            faults.add(f"allow_write_http_from: invalid cidr: {cidr}", "http_config.allow_write_http_from")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _ui(options: Options, faults: Faults) -> None:
    path = options.ui_content_path
    if not _UI_PATH.fullmatch(path):
        faults.add(f"ui-content-path can only contain alphanumeric, -, _, or /. received: {path}", "ui_content_path")
    elif _UI_VERSION.fullmatch(path):
        faults.add(f"ui-content-path cannot have 'v[0-9]'. received: {path}", "ui_content_path")
    if options.ui and options.ui_dir and not options.dev_mode:
        faults.add(
            "Both the ui and ui-dir flags were specified, please provide only one.\n"
            "If trying to use your own web UI resources, use the ui-dir flag.\n"
            "The web UI is included in the binary so use ui to enable it",
            "ui_dir",
            "ui",
        )


def _gossip_key(text: str, faults: Faults) -> None:
    if not text:
        return
    try:
        size = len(base64_text.decode(text))
    except base64_text.NotBase64 as error:
        faults.add(f"encrypt has invalid key: {error}", "encrypt")
        return
    if size not in _GOSSIP_KEYS:
        faults.add(f"encrypt has invalid key: key size must be 16, 24 or 32 bytes, not {size}", "encrypt")


# --- addresses and ports -------------------------------------------------------------------------------------------


def _addresses(options: Options, faults: Faults) -> None:
    if is_any(options.advertise_addr):
        faults.add("Advertise address cannot be 0.0.0.0, :: or [::]", "advertise_addr")
    elif is_any(options.advertise_addr_wan):
        faults.add("Advertise WAN address cannot be 0.0.0.0, :: or [::]", "advertise_addr_wan")
    for recursor in options.recursors:
        if is_any(recursor):
            faults.add("DNS recursor address cannot be 0.0.0.0, :: or [::]", "recursors")
        elif problem := _recursor_problem(recursor):
            faults.add(problem, "recursors")


def _recursor_problem(text: str) -> str:
    """Names are not taken: looking them up is what recursors are for."""
    if text.startswith(UNIX):
        return f"DNS Recursors cannot be unix sockets: {text}"
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
        port = colon + port
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return f"Invalid recursor address: {text} is no IP address, with or without :port"
    if port and not (port[0] == ":" and port[1:].isdecimal() and 0 < int(port[1:]) < 65536):
        return f"Invalid recursor address: {text} has no valid port"
    return ""


def _ports(options: Options, faults: Faults) -> None:
    ports = options.ports
    if ports.sidecar_max_port < ports.sidecar_min_port:
        faults.add(
            "sidecar_min_port must be less than sidecar_max_port. To disable, set both to zero.",
            "ports.sidecar_min_port",
            "ports.sidecar_max_port",
        )
    for name in ("server", "serf_lan") if options.server else ("serf_lan",):
        if getattr(ports, name) <= 0:
            faults.add(f"ports.{name} cannot be switched off", f"ports.{name}")
    taken: dict[str, str] = {}
    for label, address, keys in _listeners(options):
        if address in taken:
            faults.add(f"{label} address {address} already configured for {taken[address]}", *keys)
        taken.setdefault(address, label)


def _listeners(options: Options) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What is listened for, where, and the keys that say so."""
    ports, addresses = options.ports, options.addresses
    for label, name in (("DNS", "dns"), ("HTTP", "http"), ("HTTPS", "https")):
        port = getattr(ports, name)
        for address in getattr(addresses, name) if port > 0 else ():
            yield label, _joined(address, port), (f"ports.{name}", f"addresses.{name}", "client_addr")
    yield "RPC Advertise", _joined(options.advertise_addr, ports.server), ("ports.server",)
    yield "Serf Advertise LAN", _joined(options.advertise_addr, ports.serf_lan), ("ports.serf_lan",)
    if ports.serf_wan > 0:
        yield "Serf Advertise WAN", _joined(options.advertise_addr_wan, ports.serf_wan), ("ports.serf_wan",)


def _joined(address: str, port: int) -> str:
    if address.startswith(UNIX):
        return address.removeprefix(UNIX)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# --- definitions ---------------------------------------------------------------------------------------------------


def _weights_of(options: Options) -> Iterator[tuple[object, object]]:
    return ((service.get("Name", ""), service.get("Weights")) for service in options.services)


def _weights(name: object, weights: object, faults: Faults) -> None:
    if not isinstance(weights, dict):
        return
    passing, warning = weights.get("Passing", 1), weights.get("Warning", 1)
    if passing < 1:
        problem = "Passing must be greater than 0"
    elif warning < 0:
        problem = "Warning must be greater or equal than 0"
    elif max(passing, warning) > _MAX_WEIGHT:
        problem = f"DNS Weight must be between 0 and {_MAX_WEIGHT}"
    else:
        return
    faults.add(f"Invalid weight definition for service {name}: {problem}", "services")

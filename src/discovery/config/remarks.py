"""What an operator should know about a configuration that is valid: one line each.

Source: Consul's observed warnings.
"""

import re
from collections.abc import Iterator
from typing import Final

from .decode import Settings
from .options import Options
from .schema import LEGACY, Effect, known_keys

_LABEL: Final = re.compile(r"[A-Za-z0-9-]+")
_MAX_LABEL: Final = 63
_TABLE: Final = "See https://www.consul.io/docs/internals/consensus.html#deployment-table"
_PROVIDER: Final = "provider="
_RAFT_PROTOCOL: Final = 3
_IGNORED: Final = "acl_enforce_version_8"


def remarks(options: Options, settings: Settings) -> Iterator[str]:
    yield from _node_name(options.node_name)
    yield from _servers(options, settings)
    yield from _doors(options)
    yield from _prefix_filter(options.telemetry.prefix_filter)
    yield from _without_effect(options, settings)


def deprecations(settings: Settings) -> Iterator[str]:
    """Of the settings as they were given."""
    for key, setting in settings.items():
        if key in LEGACY:
            yield f"The '{key}' field is deprecated. Use the '{LEGACY[key]}' field instead. ({setting.place})"
    if _IGNORED in settings:
        yield f'config key "{_IGNORED}" is deprecated and should be removed ({settings[_IGNORED].place})'


def is_cloud_join(host: str) -> bool:
    """Whether it tells how to ask a cloud provider for addresses, which this program can't."""
    return host.startswith(_PROVIDER) or f" {_PROVIDER}" in host


def _node_name(name: str) -> Iterator[str]:
    if not _LABEL.fullmatch(name):
        yield (
            f'Node name "{name}" will not be discoverable via DNS due to invalid characters. Valid characters include all '
            "alpha-numerics and dashes."
        )
    elif len(name) > _MAX_LABEL:
        yield (
            f'Node name "{name}" will not be discoverable via DNS due to it being too long. Valid lengths are between 1 and '
            f"{_MAX_LABEL} bytes."
        )


def _servers(options: Options, settings: Settings) -> Iterator[str]:
    if not options.server or options.dev_mode:
        return
    expect = options.bootstrap_expect
    if "bootstrap_expect" in settings and expect == 1:
        yield "BootstrapExpect is set to 1; this is the same as Bootstrap mode."
    if options.bootstrap:
        yield "bootstrap = true: do not enable unless necessary"
    if expect == 2:
        yield f"bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance. {_TABLE}"
    elif expect > 2 and expect % 2 == 0:
        yield (
            "bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum fault "
            f"tolerance. {_TABLE}"
        )
    if expect > 1:
        yield f"bootstrap_expect > 0: expecting {expect} servers"


def _doors(options: Options) -> Iterator[str]:
    if not options.client_addr:
        yield "client_addr is empty, client services (DNS, HTTP, HTTPS, GRPC) will not be listening for connections"
    if options.enable_script_checks and not options.http_config.allow_write_http_from:
        yield (
            "using enable-script-checks without ACLs and without allow_write_http_from is DANGEROUS, use "
            "enable-local-script-checks instead: whoever reaches the HTTP API runs programs on this machine"
        )


def _prefix_filter(rules: tuple[str, ...]) -> Iterator[str]:
    for rule in rules:
        if not rule:
            yield "Cannot have empty filter rule in prefix_filter"
        elif rule[0] not in "+-":
            yield f"Filter rule must begin with either '+' or '-': \"{rule}\""


def _without_effect(options: Options, settings: Settings) -> Iterator[str]:
    for key, setting in settings.items():
        known = known_keys()[key]
        if known.effect is Effect.ENTERPRISE:
            yield f'"{key}" is a Consul Enterprise configuration and will have no effect ({setting.place})'
        elif known.effect is Effect.NONE and setting.value != known.default:
            yield f"{key} has no effect yet ({setting.place})"
    if options.raft_protocol != _RAFT_PROTOCOL:
        yield f"raft_protocol = {options.raft_protocol} has no effect: there is only protocol {_RAFT_PROTOCOL}"
    for key in ("retry_join", "retry_join_wan"):
        for host in getattr(options, key):
            if is_cloud_join(host):
                yield f'{key}: "{host}" has no effect: this program does not ask cloud providers for addresses'

"""From a command line to options: read, decoded, merged, settled and validated.

Source: Consul documentation (agent configuration: sources and their order).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from . import read
from .addresses import Resolver
from .decode import Decoded, decode
from .faults import Faults
from .interfaces import InterfaceAddress, system_interfaces
from .merge import dev_settings, flag_settings, merged, modernised
from .options import Options, Section
from .remarks import deprecations, is_cloud_join, remarks
from .schema import known_keys
from .settle import settle
from .tree import ConfigError
from .validate import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a command line names; kept, so that a reload reads the same again."""

    dev: bool = False
    paths: tuple[Path, ...] = ()
    """Of `-config-file` and `-config-dir`, in the order given."""
    format: str = ""
    """`-config-format`: empty (by the files' names), `hcl` or `json`."""
    fragments: tuple[str, ...] = ()
    """Of `-hcl`."""
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the path of the key: the texts given, several for a flag that was repeated."""


@dataclass(frozen=True, slots=True)
class Loaded:
    options: Options
    warnings: tuple[str, ...]
    """One line each; every option that was set and has no effect is named in one."""


def load(sources: Sources, interfaces: Callable[[], list[InterfaceAddress]] = system_interfaces) -> Loaded:
    """Raises `ConfigError`, whose text is complete and for the operator. `interfaces` are what address templates look at."""
    if sources.format and sources.format not in read.FORMATS:
        raise ConfigError("config: -config-format must be either 'hcl' or 'json'")
    warnings: list[str] = []
    texts = [*read.files(sources.paths, sources.format, warnings)]
    files, fragments = _decoded(texts), _decoded([*read.fragments(sources.fragments)])
    lists, others = flag_settings(sources.flags)
    for decoded in (*files, *fragments):
        warnings += decoded.warnings
    given = merged(
        [
            dev_settings() if sources.dev else {},
            lists,
            *(decoded.settings for decoded in files),
            others,
            *(decoded.settings for decoded in fragments),
        ]
    )
    settings = modernised(given)
    faults = Faults(settings)
    options = settle(settings, faults, Resolver(settings, faults, interfaces), dev=sources.dev)
    faults.raise_any()
    validate(options, settings, faults)
    faults.raise_any()
    warnings += [*deprecations(given), *remarks(options, settings)]
    return Loaded(_without_cloud_joins(options), tuple(dict.fromkeys(warnings)))


def _decoded(texts: list[read.Text]) -> list[Decoded]:
    """Raises `ConfigError` with the faults of all."""
    found: list[Decoded] = []
    faults: list[str] = []
    for text in texts:
        try:
            found.append(decode(read.parse(text)))
        except ConfigError as error:
            faults.append(str(error))
        except RecursionError:
            faults.append(f"failed to parse {text.name}: nested too deeply")
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _without_cloud_joins(options: Options) -> Options:
    kept = {
        key: tuple(host for host in getattr(options, key) if not is_cloud_join(host)) for key in ("retry_join", "retry_join_wan")
    }
    return msgspec.structs.replace(options, **kept)


def read_services(path: Path) -> list[dict[str, object]]:
    """The service definitions of one file or directory, in the shapes of the HTTP API; what else is in it is only checked for
    its form. Raises `ConfigError`."""
    found: list[dict[str, object]] = []
    for decoded in _decoded([*read.files((path,), "", [])]):
        if "services" in decoded.settings:
            services = decoded.settings["services"].value
            assert isinstance(services, list)
            found += services
    return found


_FOLLOW: Final[Mapping[str, tuple[str, ...]]] = {
    "addresses.dns": ("client_addr",),
    "addresses.http": ("client_addr",),
    "addresses.https": ("client_addr",),
    "advertise_addr": ("bind_addr",),
    "advertise_addr_wan": ("advertise_addr", "bind_addr"),
    "bootstrap_expect": ("bootstrap",),
    "leave_on_terminate": ("server",),
    "primary_datacenter": ("datacenter",),
    "serf_lan": ("bind_addr",),
    "serf_wan": ("bind_addr",),
    "skip_leave_on_interrupt": ("server",),
    "tagged_addresses": ("bind_addr", *(key for key in known_keys() if key.startswith("advertise_addr"))),
    "verify_outgoing": ("verify_server_hostname",),
}
"""Keys whose values follow from others where they are not set themselves: a change of those says it all."""


def needing_restart(old: Options, new: Options) -> list[str]:
    """The paths of the keys whose values differ and that a reload does not apply."""
    changed = [key for key in _differing(old, new, "") if key in known_keys() and not known_keys()[key].reloadable]
    return sorted(key for key in changed if not any(cause in changed for cause in _FOLLOW.get(key, ())))


def _differing(old: Section, new: Section, prefix: str) -> Iterator[str]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            yield from _differing(before, after, f"{prefix}{name}.")
        elif before != after:
            yield prefix + name

"""Loading configuration out of text, on a machine whose network interfaces are made up."""

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from discovery.config.interfaces import InterfaceAddress
from discovery.config.load import Loaded, Sources, load
from discovery.config.options import Options, Section
from discovery.config.tree import ConfigError

BASE = 'data_dir = "/var/lib/discovery"\nbind_addr = "127.0.0.1"\nnode_name = "n"\n'
"""What an agent needs at least, without a word about it."""


def interface(name: str, cidr: str, *, up: bool = True, loopback: bool = False, default: bool = False) -> InterfaceAddress:
    parsed = ipaddress.ip_interface(cidr)
    return InterfaceAddress(
        name=name, address=parsed.ip, prefix=parsed.network.prefixlen, up=up, loopback=loopback, default=default
    )


LOOPBACK = [interface("lo", "127.0.0.1/8", loopback=True), interface("lo", "::1/128", loopback=True)]
MACHINE = [*LOOPBACK, interface("eth0", "10.0.0.7/24", default=True), interface("eth0", "2600::7/64", default=True)]


def loaded(
    *fragments: str,
    paths: Sequence[Path] = (),
    flags: Mapping[str, tuple[str, ...]] | None = None,
    dev: bool = False,
    format: str = "",
    interfaces: list[InterfaceAddress] = MACHINE,
) -> Loaded:
    sources = Sources(dev=dev, paths=tuple(paths), format=format, fragments=fragments, flags=flags or {})
    return load(sources, lambda: interfaces)


def options(text: str = "", *, dev: bool = False, interfaces: list[InterfaceAddress] = MACHINE) -> Options:
    """Of `text` beside `BASE`."""
    return loaded(BASE, text, dev=dev, interfaces=interfaces).options


def refusal(text: str, *, base: str = BASE, dev: bool = False, interfaces: list[InterfaceAddress] = MACHINE) -> str:
    """The message that `text` is refused with; places in it begin with `flags-1.hcl`."""
    with pytest.raises(ConfigError) as caught:
        loaded(base, text, dev=dev, interfaces=interfaces)
    return str(caught.value)


def by_key(section: Section, prefix: str = "") -> dict[str, object]:
    """Every option by the path of its key."""
    found: dict[str, object] = {}
    for name in section.__struct_fields__:
        value = getattr(section, name)
        found |= by_key(value, f"{prefix}{name}.") if isinstance(value, Section) else {prefix + name: value}
    return found

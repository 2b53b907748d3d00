"""Address templates: `{{ GetInterfaceIP "eth0" }}` in place of an IP address.

A part of the template language of HashiCorp's go-sockaddr: the sources, filters and outputs below, piped with `|`. Anything else
is refused with the list of what there is. An empty result means that nothing was found.

Source: go-sockaddr's documentation of its template functions.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from .interfaces import InterfaceAddress, IpAddress

Interfaces: TypeAlias = list[InterfaceAddress]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_TEMPLATE: Final = re.compile(r"(?:\s*\{\{-\s|\{\{)(.*?)(?:\s-\}\}\s*|\}\})", re.DOTALL)
"""With `-` inside the braces, the white space outside goes too."""
_WORD: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`|([^\s"`]+))')


class BadTemplate(ValueError):
    """A template that can't be read; the text says why."""


def expand(text: str, interfaces: Callable[[], Interfaces]) -> str:
    """`text` with its templates filled in. Raises `BadTemplate`; `interfaces` is asked only if there is a template."""
    if "{{" not in text:
        return text.strip()
    return _TEMPLATE.sub(lambda match: _evaluate(match[1], interfaces()), text).strip()


def _evaluate(expression: str, interfaces: Interfaces) -> str:
    """One template without its braces."""
    source, *stages = [_words(stage) for stage in _stages(expression)]
    value: Interfaces | str = _source(source, interfaces)
    for name, *arguments in stages:
        if isinstance(value, str):
            raise BadTemplate(f"{name} follows what is text already in {{{{{expression}}}}}")
        value = _stage(name, arguments, value)
    if not isinstance(value, str):
        raise BadTemplate(f'{{{{{expression}}}}} yields interfaces, not addresses; end it with | attr "address"')
    return value


def _stages(expression: str) -> list[str]:
    """Split at the `|` outside quotes."""
    return re.findall(r'(?:[^|"`]|"(?:[^"\\]|\\.)*"|`[^`]*`)+', expression) or [""]


def _words(stage: str) -> list[str]:
    words = ["".join(groups) for groups in _WORD.findall(stage)]
    if not words:
        raise BadTemplate("a template must not be empty, nor a part between two |")
    return words


# --- sources -------------------------------------------------------------------------------------------------------


def _forwardable(interfaces: Interfaces) -> Interfaces:
    return [one for one in interfaces if one.up and one.forwardable]


def _best_first(interfaces: Interfaces) -> Interfaces:
    """The default interface first, IPv4 before IPv6, large networks before small ones."""
    return sorted(interfaces, key=lambda one: (not one.default, *_by_size(one)))


def _by_size(one: InterfaceAddress) -> tuple[int, int]:
    return one.address.version, one.prefix


def _private(interfaces: Interfaces) -> Interfaces:
    return [one for one in _best_first(_forwardable(interfaces)) if one.private]


def _public(interfaces: Interfaces) -> Interfaces:
    return [one for one in _best_first(_forwardable(interfaces)) if not one.private]


def _first(interfaces: Interfaces) -> str:
    return str(interfaces[0].address) if interfaces else ""


def _all(interfaces: Interfaces) -> str:
    return " ".join(str(one.address) for one in interfaces)


def _named(interfaces: Interfaces, name: str) -> Interfaces:
    return [one for one in interfaces if one.name == name]


_SOURCES: Final[Mapping[str, Callable[[Interfaces], Interfaces | str]]] = {
    "GetAllInterfaces": lambda interfaces: interfaces,
    "GetDefaultInterfaces": lambda interfaces: [one for one in interfaces if one.default],
    "GetPrivateInterfaces": _private,
    "GetPublicInterfaces": _public,
    "GetPrivateIP": lambda interfaces: _first(_private(interfaces)),
    "GetPrivateIPs": lambda interfaces: _all(_private(interfaces)),
    "GetPublicIP": lambda interfaces: _first(_public(interfaces)),
    "GetPublicIPs": lambda interfaces: _all(_public(interfaces)),
}
_NAMED_SOURCES: Final[Mapping[str, Callable[[Interfaces], str]]] = {
    "GetInterfaceIP": lambda interfaces: _first(_best_first(_forwardable(interfaces))),
    "GetInterfaceIPs": lambda interfaces: _all(sorted(interfaces, key=_by_size)),
}


def _source(words: list[str], interfaces: Interfaces) -> Interfaces | str:
    name, *arguments = words
    if name in _NAMED_SOURCES and len(arguments) == 1:
        return _NAMED_SOURCES[name](_named(interfaces, arguments[0]))
    if name in _SOURCES and not arguments:
        return _SOURCES[name](interfaces)
    if name in _SOURCES or name in _NAMED_SOURCES:
        raise BadTemplate(f"{name} takes {'the name of one interface' if name in _NAMED_SOURCES else 'nothing'}")
    raise BadTemplate(f"unknown function {name}; there are {', '.join([*_SOURCES, *_NAMED_SOURCES])}")


# --- filters and outputs -------------------------------------------------------------------------------------------


def _stage(name: str, arguments: list[str], interfaces: Interfaces) -> Interfaces | str:
    match name, arguments:
        case "include", [by, value]:
            return [one for one in interfaces if _matches(one, by, value)]
        case "exclude", [by, value]:
            return [one for one in interfaces if not _matches(one, by, value)]
        case "sort", [by]:
            return _sorted(interfaces, by)
        case "limit", [count] if count.isdecimal():
            return interfaces[: int(count)]
        case "offset", [count] if count.removeprefix("-").isdecimal():
            return interfaces[int(count) :]
        case "unique", [by] if by in _ATTRIBUTES:
            return _unique(interfaces, _ATTRIBUTES[by])
        case "math", [by, number] if by in _MATH and re.fullmatch(r"[+-]\d+", number):
            return [_MATH[by](one, int(number)) for one in interfaces]
        case "attr", [by] if by in _ATTRIBUTES:
            return _ATTRIBUTES[by](interfaces[0]) if interfaces else ""
        case "join", [by, between] if by in _ATTRIBUTES:
            return between.join(_ATTRIBUTES[by](one) for one in interfaces)
    raise BadTemplate(
        f"{' '.join([name, *arguments])} is not understood; there are include and exclude with a property and a value, sort, "
        f"limit, offset, math with address or network and a number, and unique, attr and join with {', '.join(_ATTRIBUTES)}"
    )


def _unique(interfaces: Interfaces, attribute: Callable[[InterfaceAddress], str]) -> Interfaces:
    first: dict[str, InterfaceAddress] = {}
    for one in interfaces:
        first.setdefault(attribute(one), one)
    return list(first.values())


def _network_of(one: InterfaceAddress) -> Network:
    return ipaddress.ip_network(f"{one.address}/{one.prefix}", strict=False)


def _moved(one: InterfaceAddress, number: int) -> InterfaceAddress:
    return replace(one, address=_address(int(one.address) + number, one))


def _within_network(one: InterfaceAddress, number: int) -> InterfaceAddress:
    """Counted from the start of the network, or for a negative number back from its end."""
    network = _network_of(one)
    base = network.network_address if number >= 0 else network.broadcast_address
    return replace(one, address=_address(int(base) + number, one))


def _address(number: int, like: InterfaceAddress) -> IpAddress:
    try:
        return type(like.address)(number)
    except ipaddress.AddressValueError as error:
        raise BadTemplate(f"math leads from {like.address} to no address: {error}") from None


_ATTRIBUTES: Final[Mapping[str, Callable[[InterfaceAddress], str]]] = {
    "address": lambda one: str(one.address),
    "name": lambda one: one.name,
    "network": lambda one: str(_network_of(one).network_address),
    "size": lambda one: str(one.prefix),
}
_MATH: Final[Mapping[str, Callable[[InterfaceAddress, int], InterfaceAddress]]] = {
    "address": _moved,
    "network": _within_network,
}
_RFCS: Final[Mapping[str, tuple[str, ...]]] = {
    "1918": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "3927": ("169.254.0.0/16",),
    "4193": ("fc00::/7",),
    "5737": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
    "6598": ("100.64.0.0/10",),
}


def _matches(one: InterfaceAddress, by: str, value: str) -> bool:
    """Alternatives in `value` are separated by `|`."""
    match by:
        case "name":
            return _searches(value, one.name)
        case "address":
            return _searches(value, str(one.address))
        case "network":
            return any(one.address in _network(text) for text in value.split("|"))
        case "size":
            return str(one.prefix) in value.split("|")
        case "type":
            return bool({"ip", f"ipv{one.address.version}"} & set(value.lower().split("|")))
        case "flag" | "flags":
            return any(_has_flag(one, flag) for flag in value.split("|"))
        case "rfc" | "RFC":
            return any(_in_rfc(one, number) for number in value.split("|"))
    raise BadTemplate(f'can\'t select by "{by}"; there are name, address, network, size, type, flags and rfc')


def _in_rfc(one: InterfaceAddress, number: str) -> bool:
    if number == "6890":
        return one.private
    if number not in _RFCS:
        raise BadTemplate(f"unknown RFC {number}; there are {', '.join([*_RFCS, '6890'])}")
    return any(one.address in _network(text) for text in _RFCS[number])


def _searches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise BadTemplate(f'"{pattern}" is no regular expression: {error}') from None


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadTemplate(str(error)) from None


def _has_flag(one: InterfaceAddress, flag: str) -> bool:
    flags = {
        "up": one.up,
        "down": not one.up,
        "loopback": one.loopback,
        "forwardable": one.forwardable,
        "global unicast": not (one.address.is_loopback or one.address.is_link_local or one.address.is_multicast),
        "link-local unicast": one.address.is_link_local,
    }
    if flag not in flags:
        raise BadTemplate(f'unknown flag "{flag}"; there are {", ".join(flags)}')
    return flags[flag]


def _sorted(interfaces: Interfaces, by: str) -> Interfaces:
    """By the comma separated properties; a `-` before one turns its order round."""
    for criterion in reversed(by.split(",")):
        key = _SORT_KEYS.get(criterion.strip().lstrip("+-"))
        if key is None:
            raise BadTemplate(f'can\'t sort by "{criterion}"; there are {", ".join(_SORT_KEYS)}')
        interfaces = sorted(interfaces, key=key, reverse=criterion.strip().startswith("-"))
    return interfaces


_SORT_KEYS: Final[Mapping[str, Callable[[InterfaceAddress], tuple[int | str, ...]]]] = {
    "default": lambda one: (not one.default,),
    "private": lambda one: (not one.private,),
    "name": lambda one: (one.name,),
    "type": lambda one: (one.address.version,),
    "size": _by_size,
    "address": lambda one: (one.address.version, int(one.address)),
}

"""Address templates: `{{ GetInterfaceIP "eth0" }}` in place of an IP address.

A part of the template language of HashiCorp's go-sockaddr: the sources, filters and outputs below, piped with `|`. Anything else
is refused with the list of what there is. An empty result means that nothing was found.

Source: go-sockaddr's documentation of its template functions.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from .interfaces import InterfaceAddress

Interfaces: TypeAlias = list[InterfaceAddress]

_TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
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
    """The default interface first, IPv4 before IPv6, small networks before large ones."""
    return sorted(interfaces, key=lambda one: (not one.default, one.address.version, -one.prefix))


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
    "GetInterfaceIPs": _all,
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
        case "offset", [count] if count.isdecimal():
            return interfaces[int(count) :]
        case "unique", ["address"]:
            return list({one.address: one for one in reversed(interfaces)}.values())[::-1]
        case "attr", ["address"]:
            return _first(interfaces)
        case "join", ["address", between]:
            return between.join(str(one.address) for one in interfaces)
    raise BadTemplate(
        f"{' '.join([name, *arguments])} is not understood; there are include and exclude with a property and a value, sort, "
        'limit, offset, unique "address", attr "address" and join "address" " "'
    )


def _matches(one: InterfaceAddress, by: str, value: str) -> bool:
    match by:
        case "name":
            return _searches(value, one.name)
        case "address":
            return _searches(value, str(one.address))
        case "network":
            return any(one.address in _network(text) for text in value.split("|"))
        case "size":
            return value.lstrip("/") == str(one.prefix)
        case "type":
            return value.lower() in ("ip", f"ipv{one.address.version}")
        case "flag" | "flags":
            return all(_has_flag(one, flag) for flag in value.split("|"))
        case "rfc" | "RFC" if value == "6890":
            return one.private
        case "rfc" | "RFC" if value == "1918":
            return any(one.address in _network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
    raise BadTemplate(
        f'can\'t select by "{by}" "{value}"; there are name, address, network, size, type (ip, ipv4, ipv6), flags and '
        "rfc (1918, 6890)"
    )


def _searches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise BadTemplate(f'"{pattern}" is no regular expression: {error}') from None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
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
    "size": lambda one: (-one.prefix,),
    "address": lambda one: (one.address.version, int(one.address)),
}

"""Bodies whose types need not be exact, as Consul takes configuration entries: `"5"` for 5, one item for a list of it.

Source: the documented weak conversions of the Go library that Consul decodes configuration entries with (mapstructure), and
1.8.7 as observed.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, Final, get_args, get_origin

import msgspec

from discovery.model.duration import Duration

from .decoding import DecodeError, Rules, without_none

_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("", "0", "f", "F", "false", "FALSE", "False")


def fitted(value: Any, kind: Any, rules: Mapping[type, Rules]) -> Any:
    """`value` with what can pass for a part of `kind` turned into that; the rest as it is, for the decoder to refuse."""
    kind = without_none(kind)
    if value is None or kind in (Any, object):
        return value
    if get_origin(kind) is list:
        return [fitted(item, get_args(kind)[0], rules) for item in _as_list(value)]
    if type(value) is list:
        value = {} if get_origin(kind) is dict and not value else _unwrapped(value)
    if type(value) is dict:
        return _fitted_members(value, kind, rules)
    convert = _CONVERSIONS.get(kind)
    return value if convert is None else convert(value)


def _as_list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    return [] if value in ({}, "") else [value]


def _unwrapped(items: list[Any]) -> Any:
    """What a list stands for where none is wanted."""
    if items and all(type(item) is dict for item in items):
        return reduce(lambda merged, item: merged | item, items, {})
    return items[0] if len(items) == 1 else items


def _fitted_members(value: dict[str, Any], kind: Any, rules: Mapping[type, Rules]) -> dict[str, Any]:
    if get_origin(kind) is dict:
        return {key: fitted(item, get_args(kind)[1], rules) for key, item in value.items()}
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return value
    snake_case = rules[kind].snake_case if kind in rules else ()
    types = {field.encode_name.lower(): field.type for field in msgspec.structs.fields(kind)}
    types |= {field.name: field.type for field in msgspec.structs.fields(kind) if field.name in snake_case}
    return {key: fitted(item, types.get(key.lower(), Any), rules) for key, item in value.items()}


def _text(value: Any) -> Any:
    if type(value) is bool:
        return "1" if value else "0"
    if type(value) is float:
        return format(Decimal(repr(value)).normalize(), "f")
    return str(value) if type(value) is int else value


def _boolean(value: Any) -> Any:
    if type(value) in (int, float):
        return value != 0
    if value in _TRUE:
        return True
    return False if value in _FALSE else value


def _integer(value: Any) -> Any:
    if type(value) in (bool, float):
        return int(value)
    if type(value) is not str:
        return value
    try:
        return int(value, 0)
    except ValueError:
        return value


def _number(value: Any) -> Any:
    if type(value) is bool:
        return int(value)
    if type(value) is not str:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _duration(value: Any) -> Any:
    if value == "":
        raise DecodeError('time: invalid duration ""')
    return int(value) if type(value) is bool else value


_CONVERSIONS: Final[dict[Any, Any]] = {
    str: _text,
    bool: _boolean,
    int: _integer,
    float: _number,
    int | float: _number,
    Duration: _duration,
}

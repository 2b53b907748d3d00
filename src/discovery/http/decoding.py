"""Request bodies, read by the rules of Go's `encoding/json` into the records of the model.

The rules: field names match in any case, an unknown field is an error, `null` is the zero value, durations are text or
nanoseconds, bytes are base64, what follows the JSON value is ignored. A plan is compiled once per record type.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from discovery.model import base64_text
from discovery.model.duration import Duration, InvalidDuration
from discovery.model.records import Connect, ExposePath, Proxy, Upstream

from .encoding import clean_text, go_quote

T = TypeVar("T")
Convert = Callable[[Any, str], Any]
"""Turns a decoded JSON value into a field's value; the second argument is the field's name, for the error."""

_GO_NAMES: Final = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
_WHITESPACE: Final = " \t\r\n"
_MAX_DIGITS: Final = 20
_MAX_INT: Final = 2**63 - 1
_SYNTAX_ERRORS: Final = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name": "looking for beginning of object key string",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair",
}
"""How the JSON module's messages begin -> how Go says it."""


class DecodeError(ValueError):
    """A body that does not fit; the message is Go's, without what the endpoint puts before it."""


class UnknownField(DecodeError):
    def __init__(self, field: str) -> None:
        super().__init__(f"json: unknown field {go_quote(field)}")
        self.field = field


class Rules(msgspec.Struct, frozen=True):
    """How one record type is read at one endpoint. `snake_case` names the fields that may also be spelt as in configuration
    files; `hidden` those that do not exist there. `without_effect` are names of fields, in lower case, that are accepted and not
    read."""

    snake_case: Collection[str] = ()
    hidden: Collection[str] = ()
    without_effect: Collection[str] = ()
    ignore_unknown: bool = False


_PLAIN: Final = Rules()
_UNSIGNED: Final = ("flags", "index", "create_index", "modify_index", "lock_index", "max_trailing_logs", "min_quorum")
"""Fields that are never negative, whatever record they stand in."""
PROXY_RULES: Final[Mapping[type, Rules]] = {
    Connect: Rules(snake_case=("sidecar_service",), without_effect=("proxy",)),
    ExposePath: Rules(snake_case=("listener_port", "local_path_port")),
    Proxy: Rules(
        snake_case=("destination_service_name", "destination_service_id", "local_service_address", "local_service_port")
    ),
    Upstream: Rules(
        snake_case=(
            "destination_type", "destination_namespace", "destination_name", "local_bind_address", "local_bind_port",
        )
    ),
}  # fmt: skip
"""What of a proxy may also be spelt as in configuration files, wherever a service is registered."""


class Decoder(Generic[T]):
    """Reads bodies into `record_type`. `rules` apply to the record types named, at any depth."""

    def __init__(self, record_type: type[T], rules: Mapping[type, Rules] | None = None) -> None:
        self._rules = rules or {}
        self._plans: dict[type, Convert] = {}
        self._convert = self._plan(record_type)

    def decode(self, body: bytes) -> T:
        """Raises `DecodeError`."""
        return self.convert(parse_json(body))

    def convert(self, value: Any) -> T:
        result: T = self._convert(value, "")
        return result

    def _plan(self, kind: Any) -> Convert:
        simple = _SIMPLE.get(kind)
        if simple is not None:
            return simple
        origin = get_origin(kind)
        if kind == int | float:
            return _int_or_float
        if origin in (Union, UnionType):
            (inner,) = (arg for arg in get_args(kind) if arg not in (NoneType, msgspec.UnsetType))
            return _optional(self._plan(inner), zero_is_absent=inner is Duration)
        if origin is list:
            (element,) = get_args(kind)
            return _list_of(self._plan(element), f"[]{_go_type(element)}")
        if origin is dict:
            element = get_args(kind)[1]
            return _dict_of(self._plan(element), f"map[string]{_go_type(element)}")
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._record_plan(kind)
        raise AssertionError(f"no decoding plan for {kind!r}")

    def _record_plan(self, kind: type[msgspec.Struct]) -> Convert:
        if kind not in self._plans:
            rules = self._rules.get(kind, _PLAIN)
            fields: dict[str, tuple[str, str, Convert]] = {}
            self._plans[kind] = _record_of(kind, fields, rules)
            for field in msgspec.structs.fields(kind):
                if field.name in rules.hidden:
                    continue
                convert = _unsigned if field.name in _UNSIGNED and field.type is int else self._plan(field.type)
                if field.default is None and get_origin(without_none(field.type)) in (dict, list):
                    convert = _optional(convert, zero_is_absent=True)
                fields[field.encode_name.lower()] = plan = (field.name, field.encode_name, convert)
                if field.name in rules.snake_case:
                    fields[field.name] = plan
        return self._plans[kind]


def unknown_fields(value: Any, kind: Any, rules: Mapping[type, Rules], path: str = "") -> Iterator[str]:
    """Where in `value`, to be read as a `kind`, fields stand that it does not have, such as `Routes[0].Mach`."""
    kind = without_none(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and type(value) is dict:
        known = {field.encode_name.lower(): field.type for field in msgspec.structs.fields(kind)}
        snake_case = rules.get(kind, _PLAIN).snake_case
        known |= {field.name: field.type for field in msgspec.structs.fields(kind) if field.name in snake_case}
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            if key.lower() not in known:
                yield here
            else:
                yield from unknown_fields(item, known[key.lower()], rules, here)
    elif get_origin(kind) is list and type(value) is list:
        for number, item in enumerate(value):
            yield from unknown_fields(item, get_args(kind)[0], rules, f"{path}[{number}]")
    elif get_origin(kind) is dict and type(value) is dict:
        for key, item in value.items():
            yield from unknown_fields(item, get_args(kind)[1], rules, f"{path}[{key}]")


def without_none(kind: Any) -> Any:
    """The type of a field that may be absent, for when it is not."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    parts = [part for part in get_args(kind) if part not in (NoneType, msgspec.UnsetType)]
    return parts[0] if len(parts) == 1 else kind


def _record_of(kind: type[msgspec.Struct], fields: Mapping[str, tuple[str, str, Convert]], rules: Rules) -> Convert:
    def convert(value: Any, name: str) -> Any:
        if value is None:
            return kind()
        if type(value) is not dict:
            raise _wrong_type(value, name, kind.__name__)
        found: dict[str, Any] = {}
        for key, item in value.items():
            plan = fields.get(key.lower())
            if plan is not None:
                found[plan[0]] = plan[2](item, plan[1])
            elif not rules.ignore_unknown and key.lower() not in rules.without_effect:
                raise UnknownField(key)
        return kind(**found)

    return convert


def _optional(inner: Convert, *, zero_is_absent: bool) -> Convert:
    def convert(value: Any, name: str) -> Any:
        if value is None:
            return None
        result = inner(value, name)
        return None if zero_is_absent and not result else result

    return convert


def _go_type(kind: Any) -> str:
    return {str: "string", object: "interface {}"}.get(kind, getattr(kind, "__name__", str(kind)))


def _list_of(inner: Convert, go_type: str) -> Convert:
    def convert(value: Any, name: str) -> Any:
        if value is None:
            return []
        if type(value) is not list:
            raise _wrong_type(value, name, go_type)
        return [inner(item, name) for item in value]

    return convert


def _dict_of(inner: Convert, go_type: str) -> Convert:
    def convert(value: Any, name: str) -> Any:
        if value is None:
            return {}
        if type(value) is not dict:
            raise _wrong_type(value, name, go_type)
        return {clean_text(key): inner(item, name) for key, item in value.items()}

    return convert


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise _wrong_type(value, name, "string")
    return clean_text(value)


def _integer(value: Any, name: str) -> int:
    if value is None:
        return 0
    if type(value) is int and value <= _MAX_INT:
        return value
    raise _wrong_number(value, name, "int")


def _unsigned(value: Any, name: str) -> int:
    if value is None:
        return 0
    if type(value) is int and value >= 0:
        return value
    raise _wrong_number(value, name, "uint64")


def _wrong_number(value: Any, name: str, wanted: str) -> DecodeError:
    if type(value) in (int, float):
        return DecodeError(f"json: cannot unmarshal number {value} into Go struct field .{name} of type {wanted}")
    return _wrong_type(value, name, wanted)


def _number(value: Any, name: str) -> float:
    if value is None:
        return 0.0
    if type(value) not in (int, float):
        raise _wrong_type(value, name, "float64")
    return float(value)


def _int_or_float(value: Any, name: str) -> int | float:
    return _integer(value, name) if type(value) is int else _number(value, name)


def _boolean(value: Any, name: str) -> bool:
    if value is None:
        return False
    if type(value) is not bool:
        raise _wrong_type(value, name, "bool")
    return value


def _bytes(value: Any, name: str) -> bytes:
    try:
        return base64_text.decode(_text(value, name))
    except base64_text.NotBase64 as error:
        raise DecodeError(str(error)) from None


def duration(value: Any, name: str) -> Duration:
    """Text such as `10s`, or nanoseconds."""
    if value is None:
        return Duration(0)
    if type(value) is str:
        try:
            return Duration.parse(value or "0")
        except InvalidDuration as error:
            raise DecodeError(str(error)) from None
    return Duration(_number(value, name))


def anything(value: Any, name: str) -> Any:
    """Whatever JSON can spell."""
    if type(value) is str:
        return clean_text(value)
    if type(value) is dict:
        return {clean_text(key): anything(item, name) for key, item in value.items()}
    if type(value) is list:
        return [anything(item, name) for item in value]
    return value


_SIMPLE: Final[dict[Any, Convert]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    bytes: _bytes,
    Duration: duration,
    object: anything,
    Any: anything,
}


def _wrong_type(value: Any, name: str, wanted: str) -> DecodeError:
    place = f"Go struct field .{name}" if name else "Go value"
    return DecodeError(f"json: cannot unmarshal {_GO_NAMES[type(value)]} into {place} of type {wanted}")


def _no_constant(text: str) -> Any:
    raise DecodeError(f"invalid character '{text[0]}' looking for beginning of value")


def _parse_int(text: str) -> int | float:
    """What 64 bits can't hold is no integer; no more digits are read than those may have."""
    number = int(text) if len(text) <= _MAX_DIGITS else 2**64
    return number if -(2**63) <= number < 2**64 else _parse_float(text)


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise DecodeError(f"json: cannot unmarshal number {text[:_MAX_DIGITS]} into Go value of type float64")
    return number


_json: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=_parse_int, parse_float=_parse_float)


def parse_json(body: bytes) -> Any:
    """The first JSON value in `body`; raises `DecodeError`."""
    text = body.decode("utf-8", "replace").lstrip(_WHITESPACE)
    if not text:
        raise DecodeError("EOF")
    try:
        value, _ = _json.raw_decode(text)
    except json.JSONDecodeError as error:
        raise DecodeError(_go_syntax_error(text, error)) from None
    except RecursionError:
        raise DecodeError("exceeded max depth") from None
    return value


def _go_syntax_error(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text):
        return "unexpected EOF"
    what = next((go for start, go in _SYNTAX_ERRORS.items() if error.msg.startswith(start)), "in JSON")
    return f"invalid character {_go_rune(text[error.pos])} {what}"


def _go_rune(character: str) -> str:
    return "'\\''" if character == "'" else f"'{character}'"

"""Which entries of a list a caller wants: what `?filter=` expressions mean.

What can be selected follows from the record type that the expression is compiled for: text, numbers, booleans, lists, maps,
and the fields of records within. Over a list of records a match holds if it holds for any of them. The syntax is in
`filter_syntax`. Source: Consul's documentation of filtering; the texts of refusals as observed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from discovery.model.patterns import InvalidPattern, compile_pattern

from .encoding import go_quote
from .filter_syntax import AllOf, AnyOf, FilterError, Negated, Test, Tree, parse

T = TypeVar("T")
Predicate = Callable[[Any], bool]

_MAX_DIGITS: Final = 19
_NOT_SELECTABLE: Final = frozenset(
    {
        "CreateIndex", "ModifyIndex", "Definition", "Config", "Expose", "LocallyRegisteredAsSidecar", "ContentHash",
        "SidecarService", "DefaultAddr", "DefaultPort", "CreatedAt", "UpdatedAt", "Hash",
    }
)  # fmt: skip
_BOOLS: Final = {"1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True} | {
    "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False,
}  # fmt: skip


def compile_filter(expression: str, record_type: type) -> Predicate:
    """A test for records of `record_type`; raises `FilterError`."""
    return _compiled(parse(expression), record_type)


def apply_filter(expression: str, record_type: type, items: Sequence[T]) -> list[T]:
    """The items that match; all of them where there is no expression."""
    if not expression:
        return list(items)
    wanted = compile_filter(expression, record_type)
    return [item for item in items if wanted(item)]


def _compiled(tree: Tree, record_type: type) -> Predicate:
    if isinstance(tree, Test):
        wanted = _field_test(record_type, tree.selector, tree)
        return _negated(wanted) if _is_negative(tree) else wanted
    if isinstance(tree, Negated):
        return _negated(_compiled(tree.part, record_type))
    parts = [_compiled(part, record_type) for part in tree.parts]
    if isinstance(tree, AllOf):
        return lambda item: all(part(item) for part in parts)
    assert isinstance(tree, AnyOf)
    return lambda item: any(part(item) for part in parts)


def _negated(predicate: Predicate) -> Predicate:
    return lambda item: not predicate(item)


# --- what a selector reaches, and the test that fits its kind -------------------------------------------------------


def _is_negative(test: Test) -> bool:
    return "Not " in test.operator


def _field_test(kind: Any, path: tuple[str, ...], test: Test) -> Predicate:
    """The predicate at the end of `path` from a value of type `kind`, without the negation in the operator."""
    kind = _without_none(kind)
    if path and (step := _step(kind, path, test)):
        return step
    selector = ".".join(test.selector)
    if path:
        raise FilterError(f"Selector {go_quote(selector)} is not valid")
    make = _TESTS.get((_kind_name(kind), test.operator.split()[-1]))
    if make is None:
        raise FilterError(f"Invalid match operator {go_quote(test.operator)} for selector {go_quote(selector)}")
    return make(test.value, selector)


def _step(kind: Any, path: tuple[str, ...], test: Test) -> Predicate | None:
    """One name further along `path`; None where there is no way."""
    name, rest = path[0], path[1:]
    origin = get_origin(kind)
    if origin is list:
        inner = _without_none(get_args(kind)[0])
        return _any_element(_field_test(inner, path, test), test) if _is_record(inner) else None
    if origin is dict and get_args(kind)[1] not in (object, Any):
        return _entry_test(name, _field_test(get_args(kind)[1], rest, test), test)
    if not _is_record(kind) or name in _NOT_SELECTABLE:
        return None
    for field in msgspec.structs.fields(kind):
        if field.encode_name == name:
            return _attribute_test(field.name, _field_test(field.type, rest, test))
    return None


def _any_element(wanted: Predicate, test: Test) -> Predicate:
    """Any element that matches. A negated operator asks for an element that fails the positive test, and is negated outside."""
    if _is_negative(test):
        return lambda items: all(wanted(item) for item in items or ())
    return lambda items: any(wanted(item) for item in items or ())


def _entry_test(key: str, wanted: Predicate, test: Test) -> Predicate:
    absent = test.operator == "Matches"

    def entry(mapping: Mapping[str, Any] | None) -> bool:
        return wanted(mapping[key]) if mapping and key in mapping else absent

    return entry


def _attribute_test(name: str, wanted: Predicate) -> Predicate:
    return lambda record: wanted(getattr(record, name))


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (arg for arg in get_args(kind) if arg is not NoneType)
    return kind


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _kind_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is list:
        return "records" if _is_record(get_args(kind)[0]) else "list"
    if origin is dict:
        return "map"
    return {str: "text", bool: "bool", int: "int", float: "float"}.get(kind, "record")


def _equals_text(value: str, _selector: str) -> Predicate:
    return lambda text: text == value


def _contains(value: str, _selector: str) -> Predicate:
    return lambda text: value in text


def _holds(value: str, _selector: str) -> Predicate:
    return lambda items: bool(items) and value in items


def _is_empty(_value: str, _selector: str) -> Predicate:
    return lambda items: not items


def _matches(value: str, _selector: str) -> Predicate:
    try:
        search = compile_pattern(value).search
    except InvalidPattern as error:
        raise FilterError(f"Failed to compile regular expression {go_quote(value)}: {error}") from None
    return lambda text: search(text) is not None


def _equals_int(value: str, selector: str) -> Predicate:
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        raise _not_coerced(value, selector, "ParseInt")
    if len(value) > _MAX_DIGITS:
        raise _not_coerced(value, selector, "ParseInt", "value out of range")
    number = int(value)
    return lambda item: item == number


def _equals_float(value: str, selector: str) -> Predicate:
    try:
        number = float(value)
    except ValueError:
        raise _not_coerced(value, selector, "ParseFloat") from None
    return lambda item: item == number


def _equals_bool(value: str, selector: str) -> Predicate:
    if value not in _BOOLS:
        raise _not_coerced(value, selector, "ParseBool")
    wanted = _BOOLS[value]
    return lambda item: item is wanted


def _not_coerced(value: str, selector: str, parser: str, why: str = "invalid syntax") -> FilterError:
    quoted = go_quote(value)
    reason = f"strconv.{parser}: parsing {quoted}: {why}"
    return FilterError(f"Failed to coerce value {quoted} for selector {go_quote(selector)}: {reason}")


_TESTS: Final[dict[tuple[str, str], Callable[[str, str], Predicate]]] = {
    ("text", "Equal"): _equals_text,
    ("text", "In"): _contains,
    ("text", "Matches"): _matches,
    ("int", "Equal"): _equals_int,
    ("float", "Equal"): _equals_float,
    ("bool", "Equal"): _equals_bool,
    ("list", "In"): _holds,
    ("list", "Empty"): _is_empty,
    ("map", "In"): _holds,
    ("map", "Empty"): _is_empty,
    ("records", "Empty"): _is_empty,
}

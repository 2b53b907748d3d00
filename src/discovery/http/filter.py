"""The expression language of `?filter=`: which entries of a list a caller wants.

    expression = and {"or" and}                and = not {"and" not}
    not        = ["not"] (match | "(" expression ")")
    match      = selector ("==" | "!=") value
               | selector ["not"] ("contains" | "matches") value
               | value ["not"] "in" selector
               | selector "is" ["not"] "empty"
    selector   = name {"." name | "[" string "]"}
    value      = "double quoted" | `back quoted` | bare word | number

What can be selected follows from the record type that the expression is compiled for: text, numbers, booleans, lists, maps,
and the fields of records within. Over a list of records a match holds if it holds for any of them.
Source: Consul's documentation of filtering; the texts of refusals as observed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from discovery.model.errors import RequestFailed

from .encoding import go_quote

T = TypeVar("T")
Predicate = Callable[[Any], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?(?![A-Za-z0-9_.]))
    | (?P<name>[A-Za-z][A-Za-z0-9_/]*)
    | (?P<sign>==|!=|[().\[\]])
    )""",
    re.VERBOSE,
)
_MAX_LENGTH: Final = 8192
_MAX_DEPTH: Final = 64
_MAX_PATTERN: Final = 512
_MAX_STEPS: Final = 10**8
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


class FilterError(RequestFailed):
    """An expression that cannot be used."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Failed to create boolean expression evaluator: {text}")


class Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    offset: int


class Selector(msgspec.Struct, frozen=True):
    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


def compile_filter(expression: str, record_type: type) -> Predicate:
    """A test for records of `record_type`; raises `FilterError`."""
    if len(expression) > _MAX_LENGTH:
        raise FilterError(f"the expression is longer than {_MAX_LENGTH} characters")
    return _Parser(expression, record_type).parse()


def apply_filter(expression: str, record_type: type, items: Sequence[T]) -> list[T]:
    """The items that match; all of them where there is no expression."""
    if not expression:
        return list(items)
    wanted = compile_filter(expression, record_type)
    return [item for item in items if wanted(item)]


# --- reading the expression ----------------------------------------------------------------------------------------


class _Parser:
    def __init__(self, text: str, record_type: type) -> None:
        self._text = text
        self._type = record_type
        self._tokens = self._scan()
        self._next = 0
        self._depth = 0

    def parse(self) -> Predicate:
        predicate = self._any_of()
        if self._peek().kind != "end":
            raise self._unexpected("end of the expression")
        return predicate

    def _scan(self) -> list[Token]:
        tokens, offset = [], 0
        while match := _TOKEN.match(self._text, offset):
            kind = match.lastgroup or ""
            tokens.append(Token(kind, match[kind], match.start(kind)))
            offset = match.end()
        rest = self._text[offset:]
        offset += len(rest) - len(rest.lstrip())
        tokens.append(Token("end" if not rest.strip() else "bad", rest.strip(), offset))
        return tokens

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _accept(self, *words: str) -> bool:
        """Skip these words if they come next."""
        if any(self._peek(i).kind == "string" or self._peek(i).text != word for i, word in enumerate(words)):
            return False
        self._next += len(words)
        return True

    def _unexpected(self, expected: str) -> FilterError:
        offset = self._peek().offset
        before = self._text[:offset]
        line = before.count("\n") + 1
        column = offset - (before.rfind("\n") + 1) + 1
        return FilterError(f"{line}:{column} ({offset}): no match found, expected: {expected}")

    def _any_of(self) -> Predicate:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError(f"the expression is nested deeper than {_MAX_DEPTH} levels")
        parts = [self._all_of()]
        while self._accept("or"):
            parts.append(self._all_of())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else lambda item: any(part(item) for part in parts)

    def _all_of(self) -> Predicate:
        parts = [self._negation()]
        while self._accept("and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else lambda item: all(part(item) for part in parts)

    def _negation(self) -> Predicate:
        negate = False
        while self._accept("not"):
            negate = not negate
        term = self._term()
        return _negated(term) if negate else term

    def _term(self) -> Predicate:
        if self._accept("("):
            inner = self._any_of()
            if not self._accept(")"):
                raise self._unexpected('")"')
            return inner
        return self._match()

    def _match(self) -> Predicate:
        """Which of the forms it is shows only after the first operand: a bare word may be a selector or a value."""
        first = self._peek()
        if first.kind not in ("string", "number", "name"):
            raise self._unexpected('"(", "not", selector or value')
        text, selector = self._operand()
        for words, negate in ((("not", "in"), True), (("in",), False)):
            if self._accept(*words):
                return self._test("In" if not negate else "Not In", self._selector(), text)
        if selector is None:
            raise self._unexpected('"in"')
        return self._selector_match(selector)

    def _selector_match(self, selector: Selector) -> Predicate:
        for words, operator in _OPERATORS:
            if self._accept(*words):
                value = "" if operator.endswith("Empty") else self._operand()[0]
                return self._test(operator, selector, value)
        raise self._unexpected('"!=", "==", "contains", "in", "is", "matches" or "not"')

    def _operand(self) -> tuple[str, Selector | None]:
        """A value as text, and what it selects if it is a selector as well."""
        token = self._peek()
        if token.kind == "string":
            return _unquote(self._take().text), None
        if token.kind == "number":
            return self._take().text, None
        if token.kind != "name":
            raise self._unexpected("value")
        selector = self._selector()
        return str(selector), selector

    def _selector(self) -> Selector:
        if self._peek().kind != "name":
            raise self._unexpected("selector")
        path = [self._take().text]
        while True:
            if self._peek().text == "." and self._peek(1).kind == "name":
                self._next += 1
                path.append(self._take().text)
            elif self._peek().text == "[" and self._peek(1).kind == "string" and self._peek(2).text == "]":
                path.append(_unquote(self._peek(1).text))
                self._next += 3
            else:
                return Selector(tuple(path))

    def _test(self, operator: str, selector: Selector, value: str) -> Predicate:
        test = _field_test(self._type, selector.path, operator, selector, value)
        return _negated(test) if "Not " in operator else test


_OPERATORS: Final = (
    (("==",), "Equal"),
    (("!=",), "Not Equal"),
    (("is", "not", "empty"), "Is Not Empty"),
    (("is", "empty"), "Is Empty"),
    (("not", "contains"), "Not In"),
    (("contains",), "In"),
    (("not", "matches"), "Not Matches"),
    (("matches",), "Matches"),
)


def _negated(predicate: Predicate) -> Predicate:
    return lambda item: not predicate(item)


def _unquote(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", r"\1", text[1:-1])


# --- what a selector reaches, and the test that fits its kind -------------------------------------------------------


def _field_test(kind: Any, path: tuple[str, ...], operator: str, selector: Selector, value: str) -> Predicate:
    """The test at the end of `path` from a value of type `kind`, without the negation in `operator`."""
    kind = _without_none(kind)
    if path and (step := _step(kind, path, operator, selector, value)):
        return step
    if path:
        raise FilterError(f"Selector {go_quote(str(selector))} is not valid")
    base = operator.split()[-1]
    make = _TESTS.get((_kind_name(kind), base))
    if make is None:
        raise FilterError(f"Invalid match operator {go_quote(operator)} for selector {go_quote(str(selector))}")
    return make(value, selector)


def _step(kind: Any, path: tuple[str, ...], operator: str, selector: Selector, value: str) -> Predicate | None:
    """One name further along `path`; None where there is no way."""
    name, rest = path[0], path[1:]
    origin = get_origin(kind)
    if origin is list:
        inner = _without_none(get_args(kind)[0])
        return _any_element(_field_test(inner, path, operator, selector, value), operator) if _is_record(inner) else None
    if origin is dict and get_args(kind)[1] is not object:
        return _entry_test(name, _field_test(get_args(kind)[1], rest, operator, selector, value), operator)
    if not _is_record(kind) or name in _NOT_SELECTABLE:
        return None
    for field in msgspec.structs.fields(kind):
        if field.encode_name == name:
            return _attribute_test(field.name, _field_test(field.type, rest, operator, selector, value))
    return None


def _any_element(test: Predicate, operator: str) -> Predicate:
    """Any element that matches. A negated operator asks for an element that fails the positive test, and is negated outside."""
    if "Not " in operator:
        return lambda items: all(test(item) for item in items or ())
    return lambda items: any(test(item) for item in items or ())


def _entry_test(key: str, test: Predicate, operator: str) -> Predicate:
    absent = operator == "Matches"

    def entry(mapping: Mapping[str, Any] | None) -> bool:
        return test(mapping[key]) if mapping and key in mapping else absent

    return entry


def _attribute_test(name: str, test: Predicate) -> Predicate:
    return lambda record: test(getattr(record, name))


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


def _equals_text(value: str, _selector: Selector) -> Predicate:
    return lambda text: text == value


def _holds(value: str, _selector: Selector) -> Predicate:
    return lambda items: bool(items) and value in items


def _is_empty(_value: str, _selector: Selector) -> Predicate:
    return lambda items: not items


def _matches(value: str, _selector: Selector) -> Predicate:
    search = compile_pattern(value).search
    repeats = sum(value.count(sign) for sign in "*+{")

    def matches(text: str) -> bool:
        if (len(text) + 1) ** (repeats + 1) > _MAX_STEPS:
            raise FilterError(f"{go_quote(value)} could take too long on a text of {len(text)} characters")
        return search(text) is not None

    return matches


def _equals_int(value: str, selector: Selector) -> Predicate:
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        raise _not_coerced(value, selector, "ParseInt")
    if len(value) > _MAX_DIGITS:
        raise _not_coerced(value, selector, "ParseInt", "value out of range")
    number = int(value)
    return lambda item: item == number


def _equals_float(value: str, selector: Selector) -> Predicate:
    try:
        number = float(value)
    except ValueError:
        raise _not_coerced(value, selector, "ParseFloat") from None
    return lambda item: item == number


def _equals_bool(value: str, selector: Selector) -> Predicate:
    if value not in _BOOLS:
        raise _not_coerced(value, selector, "ParseBool")
    wanted = _BOOLS[value]
    return lambda item: item is wanted


def _not_coerced(value: str, selector: Selector, parser: str, why: str = "invalid syntax") -> FilterError:
    quoted = go_quote(value)
    reason = f"strconv.{parser}: parsing {quoted}: {why}"
    return FilterError(f"Failed to coerce value {quoted} for selector {go_quote(str(selector))}: {reason}")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression of RE2's kind; raises `FilterError`.

    RE2 never takes more than linear time. Python's engine can take exponential time where something variable is repeated,
    so that form is refused; what remains is bounded by the length of the text to the power of the repeats.
    """
    quoted = go_quote(pattern)
    if len(pattern) > _MAX_PATTERN:
        raise FilterError(f"Failed to compile regular expression {quoted}: longer than {_MAX_PATTERN} characters")
    try:
        compiled = re.compile(pattern.replace(r"\z", r"\Z"), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise FilterError(f"Failed to compile regular expression {quoted}: error parsing regexp: {error}") from None
    if _repeats_something_variable(pattern) or re.search(r"\\[1-9]|\(\?[=!<(]", pattern):
        raise FilterError(f"Failed to compile regular expression {quoted}: a repeat of what varies could take very long")
    return compiled


def _repeats_something_variable(pattern: str) -> bool:
    """Whether a group that can match a text in several ways is itself repeated."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[:PimsxaLu]", lambda m: "(" if m[0][0] == "(" else "x", pattern)
    open_groups: list[bool] = []
    varies = False
    for character, after in pairwise(plain + " "):
        if character == "(":
            open_groups.append(varies)
            varies = False
        elif character == ")" and open_groups:
            if varies and after in "*+{":
                return True
            varies = open_groups.pop() or varies
        elif character in "*+{?|":
            varies = True
    return False


_TESTS: Final[dict[tuple[str, str], Callable[[str, Selector], Predicate]]] = {
    ("text", "Equal"): _equals_text,
    ("text", "In"): _holds,
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

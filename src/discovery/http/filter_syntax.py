"""The syntax of `?filter=`: from text to a tree of tests. What the names in it mean is settled by `filter`.

The grammar is that of Consul's documentation. A word that can't be a keyword where it stands is a name or a value. The parser
needs time in proportion to the text.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from discovery.model.errors import RequestFailed

if TYPE_CHECKING:
    from lark import Lark, UnexpectedInput

MAX_LENGTH: Final = 8192
MAX_DEPTH: Final = 64

_GRAMMAR: Final = r"""
    ?expression: conjunction ("or" conjunction)*   -> any_of
    ?conjunction: negation ("and" negation)*       -> all_of
    ?negation: "not" negation                      -> negated
        | "(" expression ")"
        | test
    ?test: selector EQUAL value                    -> equal
        | selector NOT_EQUAL value                 -> not_equal
        | selector "contains" value                -> contains
        | selector "not" "contains" value          -> not_contains
        | selector "matches" value                 -> matches
        | selector "not" "matches" value           -> not_matches
        | selector "is" "empty"                    -> is_empty
        | selector "is" "not" "empty"              -> is_not_empty
        | (selector | literal) "in" selector       -> within
        | (selector | literal) "not" "in" selector -> not_within
    ?value: selector | literal
    literal: STRING | NUMBER
    selector: NAME ("." NAME | "[" STRING "]")*
    EQUAL: "=="
    NOT_EQUAL: "!="
    STRING: /"(?:[^"\\]|\\.)*"|`[^`]*`/
    NUMBER: /-?\d+(?:\.\d+)?(?![A-Za-z0-9_.])/
    NAME: /[A-Za-z][A-Za-z0-9_\/]*/
    %ignore /[ \t\r\n]+/
"""
_TERMINALS: Final = {
    "EQUAL": '"=="', "NOT_EQUAL": '"!="', "LPAR": '"("', "RPAR": '")"', "LSQB": '"["', "RSQB": '"]"', "DOT": '"."',
    "STRING": "text in quotes", "NUMBER": "number", "NAME": "selector", "$END": "end of the expression",
}  # fmt: skip
"""How what was expected is called in an error; keywords go by themselves."""


class FilterError(RequestFailed):
    """An expression that cannot be used."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Failed to create boolean expression evaluator: {text}")


class Test(msgspec.Struct, frozen=True):
    """One comparison. `operator` is Consul's name of it; the value is text until it is known what it is compared with."""

    selector: tuple[str, ...]
    operator: str
    value: str = ""
    depth: int = 1


class Negated(msgspec.Struct, frozen=True):
    part: "Tree"
    depth: int


class AllOf(msgspec.Struct, frozen=True):
    parts: "tuple[Tree, ...]"
    depth: int


class AnyOf(msgspec.Struct, frozen=True):
    parts: "tuple[Tree, ...]"
    depth: int


Tree = Test | Negated | AllOf | AnyOf


def parse(text: str) -> Tree:
    """The tree of an expression; raises `FilterError` with the place of what is wrong."""
    from lark import UnexpectedInput

    if len(text) > MAX_LENGTH:
        raise FilterError(f"the expression is longer than {MAX_LENGTH} characters")
    try:
        # Not the library's tree, but what `Build` makes of it.
        tree = cast(Tree, _parser().parse(text))
    except UnexpectedInput as error:
        raise FilterError(_told(text, error)) from None
    if tree.depth > MAX_DEPTH:
        raise FilterError(f"the expression is nested deeper than {MAX_DEPTH} levels")
    return tree


@cache
def _parser() -> "Lark":
    """Made when it is first needed: loading the library takes longer than most agents need to start."""
    from lark import Lark, Transformer

    class Build(Transformer[Any, Tree]):
        """From the parser's tree to ours, while it is parsed."""

        def any_of(self, parts: list[Tree]) -> Tree:
            return AnyOf(tuple(parts), _above(parts)) if len(parts) > 1 else parts[0]

        def all_of(self, parts: list[Tree]) -> Tree:
            return AllOf(tuple(parts), _above(parts)) if len(parts) > 1 else parts[0]

        def negated(self, parts: list[Tree]) -> Tree:
            return Negated(parts[0], _above(parts))

        def selector(self, parts: list[str]) -> tuple[str, ...]:
            return tuple(_unquoted(part) if part[0] in '"`' else str(part) for part in parts)

        def literal(self, parts: list[str]) -> str:
            return _unquoted(parts[0]) if parts[0][0] in '"`' else str(parts[0])

        def equal(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Equal", _text(parts[2]))

        def not_equal(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Not Equal", _text(parts[2]))

        def contains(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "In", _text(parts[1]))

        def not_contains(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Not In", _text(parts[1]))

        def matches(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Matches", _text(parts[1]))

        def not_matches(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Not Matches", _text(parts[1]))

        def is_empty(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Is Empty")

        def is_not_empty(self, parts: list[Any]) -> Tree:
            return Test(parts[0], "Is Not Empty")

        def within(self, parts: list[Any]) -> Tree:
            return Test(parts[1], "In", _text(parts[0]))

        def not_within(self, parts: list[Any]) -> Tree:
            return Test(parts[1], "Not In", _text(parts[0]))

    return Lark(_GRAMMAR, start="expression", parser="lalr", lexer="contextual", transformer=Build(), maybe_placeholders=False)


def _above(parts: list[Tree]) -> int:
    return 1 + max(part.depth for part in parts)


def _text(value: str | tuple[str, ...]) -> str:
    """A bare word as a value is what was written."""
    return value if isinstance(value, str) else ".".join(value)


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith("`") else re.sub(r"\\(.)", r"\1", text[1:-1])


def _told(text: str, error: "UnexpectedInput") -> str:
    """Line, column and offset of the first thing that fits nowhere, and what would."""
    from lark import UnexpectedCharacters, UnexpectedToken

    offset, allowed = len(text), set[str]()
    if isinstance(error, UnexpectedCharacters):
        offset, allowed = error.pos_in_stream or 0, set(error.allowed or ())
    elif isinstance(error, UnexpectedToken):
        token = error.token
        offset = len(text) if token.type == "$END" or token.start_pos is None else token.start_pos
        allowed = set(error.accepts or error.expected)
    before = text[:offset]
    column = offset - (before.rfind("\n") + 1) + 1
    expected = sorted(_TERMINALS.get(name, f'"{name.lower()}"') for name in allowed)
    listed = expected[0] if len(expected) == 1 else ", ".join(expected[:-1]) + f" or {expected[-1]}" if expected else "nothing"
    return f"{before.count(chr(10)) + 1}:{column} ({offset}): no match found, expected: {listed}"

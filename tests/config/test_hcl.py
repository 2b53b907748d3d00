"""The HCL reader beyond the corpus: what each construct means, and that nothing but a told fault comes out of any text."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.config import hcl
from discovery.config.tree import ConfigError, Entry, Items, Scalar, Table, plain


def meaning(text: str) -> object:
    return plain(hcl.parse("f", text))


def outcome(text: str) -> Table | str:
    """What was read, or what was told."""
    try:
        return hcl.parse("f", text)
    except ConfigError as error:
        return str(error)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        hcl.parse("f", text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a = 1", {"a": 1}),
        ("a = -1", {"a": -1}),
        ("a = 0x1F", {"a": 31}),
        ("a = -0x10", {"a": -16}),
        ("a = 017", {"a": 15}),
        ("a = 0", {"a": 0}),
        ("a = 1.5", {"a": 1.5}),
        ("a = -1.5", {"a": -1.5}),
        ("a = .5", {"a": 0.5}),
        ("a = 5.", {"a": 5.0}),
        ("a = 1e3", {"a": 1000.0}),
        ("a = 1.5E-2", {"a": 0.015}),
        ("a = true", {"a": True}),
        ("a = false", {"a": False}),
        ('a = ""', {"a": ""}),
        ('a = "x y"', {"a": "x y"}),
        ("a = []", {"a": []}),
        ("a = [1, [2, {b = 3}]]", {"a": [1, [2, {"b": 3}]]}),
        ("a = {}", {"a": {}}),
        ("a {}", {"a": {}}),
        ("a { b = 1 }", {"a": {"b": 1}}),
        ("a = { b = 1 }", {"a": {"b": 1}}),
        ('a "b" { c = 1 }', {"a": {"b": {"c": 1}}}),
        ('a "b" "c" { d = 1 }', {"a": {"b": {"c": {"d": 1}}}}),
        ('a "" { d = 1 }', {"a": {"": {"d": 1}}}),
        ('"a b" = 1', {"a b": 1}),
        ("a-b_c.d = 1", {"a-b_c.d": 1}),
        ("true-ish = 1", {"true-ish": 1}),
        ("falsey = 1", {"falsey": 1}),
        ("é = 1", {"é": 1}),
        ("a = 1 b = 2", {"a": 1, "b": 2}),
        ("a = 1, b = 2,", {"a": 1, "b": 2}),
        ("a = 1 a = 2", {"a": [1, 2]}),
        ("a { b = 1 } a { c = 2 } a { b = 3 }", {"a": [{"b": 1}, {"c": 2}, {"b": 3}]}),
        ("", {}),
        (" \t\n\r\f ", {}),
        ("# x", {}),
        ("// x", {}),
        ("/* x\n*/", {}),
        ("a = 1 # x\n", {"a": 1}),
        ("a /* x */ = /* y */ 1", {"a": 1}),
        ('a = "# // /* x */"', {"a": "# // /* x */"}),
        ('a = "http://x"', {"a": "http://x"}),
    ],
)
def test_meaning(text: str, value: object) -> None:
    assert meaning(text) == value


def test_kinds_of_numbers_are_kept_apart() -> None:
    assert type(meaning("a = 1")["a"]) is int  # type: ignore[index]
    assert type(meaning("a = 1.0")["a"]) is float  # type: ignore[index]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"\a\b\f\n\r\t\v", "\a\b\f\n\r\t\v"),
        (r"\\ \"", '\\ "'),
        (r"\x41\101A\U00000041", "AAAA"),
        (r"\ud800", "�"),
        ("${x}", "${x}"),
        ('${lookup("a", {b = "c"})} $ ${"d"}', '${lookup("a", {b = "c"})} $ ${"d"}'),
        ("$", "$"),
        ("é", "é"),
    ],
)
def test_quoted_text(written: str, value: str) -> None:
    assert meaning(f'a = "{written}"') == {"a": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a = <<X\none\n  two\nX\n", "one\n  two\n"),
        ("a = <<X\nX", ""),
        ("a = <<X\n\nX\n", "\n"),
        ("a = <<X \none\nX", "one\n"),
        ('a = <<X\n\\n ${x} "q"\nX', '\\n ${x} "q"\n'),
        ("a = <<X\nX X\nXX\nX", "X X\nXX\n"),
        ("a = <<-X\n  one\n    two\n  X\n", "one\n  two\n"),
        ("a = <<-X\n\tone\n\tX\n", "one\n"),
        ("a = <<-X\n  one\n two\n  X\n", "  one\n two\n"),
        ("a = <<-X\none\nX\n", "one\n"),
        ("a = <<X1\none\nX1", "one\n"),
    ],
)
def test_heredoc(text: str, value: str) -> None:
    assert meaning(text) == {"a": value}


def test_text_goes_on_after_a_heredoc() -> None:
    assert meaning("a = <<X\none\nX\nb = [<<Y\ntwo\nY\n, 3]") == {"a": "one\n", "b": ["two\n", 3]}


def test_where_things_stand() -> None:
    text = '# é\na = "x"\nb {\n  c = [1,\n 2]\n}\n'
    root = hcl.parse("f", text)
    a, b = root.entries
    assert (a.key, text[a.offset], text[a.node.offset]) == ("a", "a", '"')
    assert isinstance(b.node, Table)
    (c,) = b.node.entries
    assert isinstance(c.node, Items)
    assert [text[node.offset] for node in c.node.nodes] == ["1", "2"]
    assert text[c.node.offset] == "["


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a", "a needs '=' and a value, or a block in braces (f:1:1)"),
        ('a "b"', "a needs '=' and a value, or a block in braces (f:1:1)"),
        ("a { b }", "b needs '=' and a value, or a block in braces (f:1:5)"),
        ('a = 1, "b"', "b needs '=' and a value, or a block in braces (f:1:8)"),
        ('a "b" = 1', "a needs '=' and a value, or a block in braces (f:1:1)"),
        ("a =", "the file ends where a value is expected (f:1:4)"),
        ("a = [1 2]", "unexpected 2; commas stand between the items of a list (f:1:8)"),
        ('a = ["x" "y"]', "unexpected 'y'; commas stand between the items of a list (f:1:10)"),
        ("a = [,]", "unexpected ','; commas stand between the items of a list (f:1:6)"),
        ("a = 1,, b = 2", "unexpected ',' (f:1:7)"),
        ("= 1", "unexpected '=' (f:1:1)"),
        ("1 = 1", "unexpected 1 (f:1:1)"),
        ("a == 1", "a needs '=' and a value, or a block in braces (f:1:1)"),
        ("true = 1", "unexpected true (f:1:1)"),
        ("a = [true true]", "unexpected true; commas stand between the items of a list (f:1:11)"),
        ("a = 1 + 2", "unexpected '+' (f:1:7)"),
        ("a = b.c", 'unexpected b.c; text is written in quotes: "b.c" (f:1:5)'),
        ("a = b ? 1 : 2", 'unexpected b; text is written in quotes: "b" (f:1:5)'),
        ("a = True", "unexpected True; it is written true (f:1:5)"),
        ("a: 1", "unexpected ':'; HCL writes key = value (f:1:2)"),
        ("a = {", "the '{' that opens here is never closed (f:1:5)"),
        ("a = [{\n}", "the '[' that opens here is never closed (f:1:5)"),
        ("}", "'}' closes nothing (f:1:1)"),
        ("a = [\n}", "'}' stands where '[' of line 1 is still open (f:2:1)"),
        ("a = { ]", "']' stands where '{' of line 1 is still open (f:1:7)"),
        ('a = "x', "this text has no closing quote on its line (f:1:5)"),
        ('\n\n  a = "x\n"', "this text has no closing quote on its line (f:3:7)"),
        ('a = "${x"', "'${' has no closing brace (f:1:6)"),
        (r'a = "\q"', r"unknown escape '\q'; a backslash itself is written '\\' (f:1:6)"),
        (r'a = "\x4"', r"""'\x' needs 2 digits of a character's number, not '4"' (f:1:6)"""),
        (r'a = "\U99999999"', r"'\U' needs 8 digits of a character's number, not '99999999' (f:1:6)"),
        ('a = "\\', r"unknown escape '\'; a backslash itself is written '\\' (f:1:6)"),
        ("/* x", "this comment has no closing '*/' (f:1:1)"),
        ("/ x", "unexpected '/' (f:1:1)"),
        ("a = <<", "a heredoc begins with '<<' and a word of letters and digits that ends the line (f:1:5)"),
        ("a = <<X", "a heredoc begins with '<<' and a word of letters and digits that ends the line (f:1:5)"),
        ("a = <<X y\nX", "a heredoc begins with '<<' and a word of letters and digits that ends the line (f:1:5)"),
        ("a = <<X\nx", "this heredoc has no line that is just X (f:1:5)"),
        ("a = 08", "08 begins with 0 and so is octal, but has digits above 7 (f:1:5)"),
        ("a = " + "9" * 65, "this number has too many digits (f:1:5)"),
        ("a = 1.2.3.4", '1.2.3.4 is neither a number nor quoted; text and durations are written in quotes: "1.2.3.4" (f:1:5)'),
        ("a = 10s", '10s is neither a number nor quoted; text and durations are written in quotes: "10s" (f:1:5)'),
        ("a = 'x'", 'unexpected character "\'" (f:1:5)'),
        ("a = $x", "unexpected character '$' (f:1:5)"),
        ("\x00", "unexpected character '\\x00' (f:1:1)"),
        ("\ufeffa = 1", "the file begins with a byte order mark; save it as UTF-8 without one (f:1:1)"),
    ],
)
def test_faults(text: str, fault: str) -> None:
    assert refusal(text) == f"failed to parse f: {fault}"


def test_a_parse_leaves_no_trace_for_the_next() -> None:
    refusal("a = [")
    assert meaning("a = 1") == {"a": 1}


def test_a_long_file() -> None:
    text = "".join(f'service {{\n  name = "s{number}"\n  port = {number}\n}}\n' for number in range(500))
    assert meaning(text) == {"service": [{"name": f"s{number}", "port": number} for number in range(500)]}


# --- random trees and random text ----------------------------------------------------------------------------------

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    _WORDS,
)
_KEYS = st.one_of(st.text(string.ascii_letters + "_", min_size=1, max_size=6), _WORDS)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)
_ROOTS = st.dictionaries(_KEYS, _VALUES, max_size=4)


class _Writer:
    """Writes HCL, drawing what is free: blocks or assignments, commas, white space, comments, quotes around keys."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def body(self, root: dict[str, Any]) -> str:
        return "".join(self._entry(key, value) for key, value in root.items())

    def _entry(self, key: str, value: object) -> str:
        block = isinstance(value, dict) and self._draw(st.booleans())
        between = self._space() if block else f"{self._space()}={self._space()}"
        return f"{self._space()}{self._key(key)} {between}{self._value(value)}{self._end()}"

    def _key(self, key: str) -> str:
        plain_word = key.isascii() and key.replace("_", "a").isalpha() and key not in ("true", "false")
        return key if plain_word and self._draw(st.booleans()) else self._quoted(key)

    def _value(self, value: object) -> str:
        match value:
            case bool():
                return str(value).lower()
            case str():
                return self._quoted(value)
            case dict():
                return "{" + self.body(value) + self._space() + "}"
            case list():
                comma = self._draw(st.sampled_from(["", ","])) if value else ""
                return "[" + self._space() + f",{self._space()}".join(map(self._value, value)) + comma + self._space() + "]"
            case _:
                return repr(value)

    def _quoted(self, text: str) -> str:
        return '"' + "".join(map(self._character, text)) + '"'

    def _character(self, character: str) -> str:
        if character in '\\"$\n' or self._draw(st.booleans()):
            return f"\\U{ord(character):08x}"
        return character

    def _space(self) -> str:
        return self._draw(st.sampled_from(["", " ", "\n", "\t", " # x\n", "/* x */", "// y\n"]))

    def _end(self) -> str:
        return self._draw(st.sampled_from([" ", "\n", ",", " , "]))


@given(st.data(), _ROOTS)
def test_any_tree_that_is_written_is_read_again(data: st.DataObject, root: dict[str, Any]) -> None:
    @st.composite
    def texts(draw: st.DrawFn) -> str:
        return _Writer(draw).body(root)

    assert meaning(data.draw(texts())) == root


def _offsets(node: Scalar | Items | Table | Entry) -> list[int]:
    match node:
        case Table():
            return [node.offset, *(offset for entry in node.entries for offset in _offsets(entry))]
        case Items():
            return [node.offset, *(offset for item in node.nodes for offset in _offsets(item))]
        case Entry():
            return [node.offset, *_offsets(node.node)]
        case _:
            return [node.offset]


_PIECES = st.sampled_from(
    [*"{}[]=\"\\,#/*$<>:.-+eE0123456789 \t\n\r'?!()é\x00", "<<", "<<-", "EOF", "EOF\n", "true", "false", "name", "a", "0x", "${"]
)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=30).map("".join)))
def test_any_text_is_read_or_refused_at_a_place(text: str) -> None:
    result = outcome(text)
    if isinstance(result, str):
        assert result.startswith("failed to parse f: ")
        assert result.endswith(")")
    else:
        assert all(0 <= offset <= len(text) for offset in _offsets(result))


def test_deep_nesting_is_no_danger() -> None:
    with pytest.raises((ConfigError, RecursionError)):
        plain(hcl.parse("f", "a {" * 50_000 + "}" * 50_000))

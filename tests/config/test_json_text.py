"""The JSON reader: what the library's decoder reads, with the places of everything."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.config import json_text
from discovery.config.tree import ConfigError, Items, Scalar, Table, plain


def outcome(text: str) -> Table | str:
    """What was read, or what was told."""
    try:
        return json_text.parse("f", text)
    except ConfigError as error:
        return str(error)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        json_text.parse("f", text)
    return str(caught.value)


def test_where_things_stand() -> None:
    text = '{\n "a": [1, {"b": null}],\n "é": "x"\n}'
    root = json_text.parse("f", text)
    a, e = root.entries
    assert (text[a.offset : a.offset + 3], text[a.node.offset], a.key) == ('"a"', "[", "a")
    assert isinstance(a.node, Items)
    one, inner = a.node.nodes
    assert text[one.offset] == "1"
    assert isinstance(inner, Table)
    assert text[inner.entries[0].offset :].startswith('"b"')
    assert e.node == Scalar("x", text.index('"x"'))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value (f:1:1)"),
        ("5", "expected an object in braces (f:1:1)"),
        ("null", "expected an object in braces (f:1:1)"),
        ('{"a": 1,}', "Expecting property name enclosed in double quotes (f:1:9)"),
        ('{"a": 1\n "b": 2}', "Expecting ',' delimiter (f:2:2)"),
        ('{"a" 1}', "Expecting ':' delimiter (f:1:6)"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes (f:1:2)"),
        ('{"a": "x}', "Unterminated string starting at (f:1:7)"),
        ('{"a": "\t"}', "Invalid control character at (f:1:8)"),
        ('{"a": "\\q"}', "Invalid \\escape (f:1:8)"),
        ('{"a": 01}', "Expecting ',' delimiter (f:1:8)"),
        ('{"a": 1} x', "Extra data (f:1:10)"),
        ('{"a": -Infinity}', "-Infinity is no JSON number (f:1:7)"),
        ('{"a": {"b": 1e999}}', "1e999 is no JSON number (f:1:13)"),
        ('{"a": 1, "b": {"a": 1},\n "a": 1}', "'a' is set twice (f:2:2; first at f:1:2)"),
    ],
)
def test_faults(text: str, fault: str) -> None:
    assert refusal(text) == f"failed to parse f: {fault}"


def test_more_digits_than_any_number_has() -> None:
    assert refusal('{"a": ' + "9" * 5000 + "}").startswith("failed to parse f: ")


def test_half_a_surrogate_pair_is_no_character() -> None:
    assert plain(json_text.parse("f", '{"\\ud800": "\\udc00x", "\\ud83d\\ude00": ""}')) == {"�": "�x", "😀": ""}


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), _VALUES, max_size=4), st.booleans(), st.sampled_from([None, 0, 3, "\t"]))
def test_any_document_is_read_as_the_library_reads_it(document: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert plain(json_text.parse("f", text)) == document


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from([*'{}[]":,\\u019eE.-+ \n', "true", "null", "NaN"])).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    result = outcome(text)
    assert isinstance(result, Table) or result.startswith("failed to parse f: ")

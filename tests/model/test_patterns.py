"""Regular expressions from outside: Go's dialect, Go's words for mistakes, never long."""

import pytest

from discovery.model.patterns import MAX_LENGTH, InvalidPattern, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[", "missing closing ]: `[`"),
        ("(", "missing closing ): `(`"),
        (")", "unexpected ): `)`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("\\", "trailing backslash at end of expression: ``"),
        (r"\q", r"invalid escape sequence: `\q`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a" * (MAX_LENGTH + 1), f"longer than {MAX_LENGTH} characters"),
    ],
)
def test_mistakes(pattern: str, text: str) -> None:
    with pytest.raises(InvalidPattern) as error:
        compile_pattern(pattern)
    assert str(error.value) == f"error parsing regexp: {text}"


def test_a_match_anywhere() -> None:
    assert compile_pattern("b+").search("abbc") is not None
    assert compile_pattern("^b").search("abbc") is None
    assert compile_pattern("ü").search("fünf") is not None


def test_no_expression_takes_long() -> None:
    assert compile_pattern("(a|aa)+$").search("a" * 20_000 + "b") is None

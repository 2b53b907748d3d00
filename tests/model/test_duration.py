"""Go's durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model.duration import Duration, InvalidDuration

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("10s", 10 * SECOND),
        ("+1m30s", 90 * SECOND),
        ("-1.5h", -5400 * SECOND),
        ("300ms", 300 * 10**6),
        ("2us", 2000),
        ("2µs", 2000),
        ("2μs", 2000),
        ("7ns", 7),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1h1h", 7200 * SECOND),
        ("0.1234567891s", 123_456_789),
        ("2562047h47m16.854775807s", 2**63 - 1),
        ("-2562047h47m16.854775808s", -(2**63)),
    ],
)
def test_parse(text: str, nanoseconds: int) -> None:
    assert Duration.parse(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'invalid duration ""'),
        ("-", 'invalid duration "-"'),
        ("x", 'invalid duration "x"'),
        ("s", 'invalid duration "s"'),
        (".s", 'invalid duration ".s"'),
        ("1s ", 'unknown unit "s " in duration "1s "'),
        (" 1s", 'invalid duration " 1s"'),
        ("10", 'missing unit in duration "10"'),
        ("1h5", 'missing unit in duration "1h5"'),
        ("1d", 'unknown unit "d" in duration "1d"'),
        ("1S", 'unknown unit "S" in duration "1S"'),
        ("2562047h47m16.854775808s", 'invalid duration "2562047h47m16.854775808s"'),
        ("99999999999h", 'invalid duration "99999999999h"'),
    ],
)
def test_what_is_no_duration(text: str, problem: str) -> None:
    with pytest.raises(InvalidDuration) as error:
        Duration.parse(text)
    assert str(error.value) == f"time: {problem}"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (SECOND, "1s"),
        (3_300_000_000, "3.3s"),
        (60 * SECOND, "1m0s"),
        (3600 * SECOND, "1h0m0s"),
        (-5400 * SECOND, "-1h30m0s"),
        (2**63 - 1, "2562047h47m16.854775807s"),
    ],
)
def test_text(nanoseconds: int, text: str) -> None:
    assert str(Duration(nanoseconds)) == repr(Duration(nanoseconds)) == text


@given(st.integers(-(2**63), 2**63 - 1))
def test_text_is_read_back(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds


def test_seconds() -> None:
    assert Duration.from_seconds(0.25) == 250_000_000
    assert Duration(1_500_000_000).seconds == 1.5

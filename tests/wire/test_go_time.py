"""Go's binary time, against captured bytes."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.wire.go_time import ZERO_TIME, decode_time, encode_time
from tests.wire import vectors as v


def test_the_zero_time_is_the_captured_one() -> None:
    assert encode_time(None) == ZERO_TIME == v.R6_ZERO
    assert decode_time(v.R6_ZERO) is None


def test_the_captured_time() -> None:
    moment = decode_time(v.R6_REAL)
    assert moment is not None
    seconds = int(v.R6_REAL[1:9].hex(), 16) - 62_135_596_800
    assert moment == seconds * 10**9 + 0x0D9667EE
    assert datetime.datetime.fromtimestamp(moment / 1e9, datetime.UTC).year in range(2020, 2030)
    assert encode_time(moment)[:13] == v.R6_REAL[:13]


@given(st.integers(-(2**62), 2**62))
def test_instants_survive(nanoseconds: int) -> None:
    assert decode_time(encode_time(nanoseconds)) == nanoseconds


def test_the_version_with_seconds_of_offset_is_read() -> None:
    data = encode_time(5)
    assert decode_time(b"\x02" + data[1:] + b"\x1e") == 5


@pytest.mark.parametrize("data", [b"", b"\x01", v.R6_ZERO + b"\x00", b"\x03" + v.R6_ZERO[1:], b"\x02" + v.R6_ZERO[1:]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a Go time"):
        decode_time(data)

"""Our LZW against itself, against a second decoder written from the bit level, and against captured and wrong streams."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.gossip.codec import unpack
from discovery.gossip.lzw import CorruptLzw, compress, decompress
from discovery.gossip.messages import Compressed

from . import vectors

LIMIT = 1 << 20


def with_clear(stream: bytes) -> bytes:
    """The stream as newer Go encoders begin it: the clear code in front, all else nine bits later."""
    return ((int.from_bytes(stream, "little") << 9) | 256).to_bytes(len(stream) + 2, "little")


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


SAMPLES = {
    "nothing": b"",
    "one": b"x",
    "255 different": bytes(range(255)),
    "one byte often": b"a" * 4096,
    "4 K noise": noise(4096),
    "40 K noise": noise(40_000),
    "100 K noise": noise(100_000),
    "100 K words": b" ".join(random.Random(1).choices([b"alive", b"suspect", b"dead", b"left"], k=18_000)),
}


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)
def test_both_dialects_give_back_what_went_in(data: bytes) -> None:
    stream = compress(data)
    assert decompress(stream, LIMIT) == data
    assert decompress(with_clear(stream), LIMIT) == data


@pytest.mark.parametrize("size", [*range(250, 264), *range(3830, 3845), *range(7670, 7690)])
def test_ends_near_a_change_of_width_or_a_clear(size: int) -> None:
    """Noise makes about one code a byte, so these end around 512 and 4096 codes."""
    data = bytes(range(256)) * 40
    data = bytes(byte ^ (index // 256 * 7 & 0xFF) for index, byte in enumerate(data))[:size]
    assert decompress(compress(data), LIMIT) == data


@settings(max_examples=60)
@given(st.binary(max_size=2000), st.integers(1, 8))
def test_anything_round_trips(data: bytes, times: int) -> None:
    assert decompress(compress(data * times), LIMIT) == data * times


def test_a_captured_stream_without_a_clear_code() -> None:
    packed = unpack(vectors.COMPRESSED[6:], Compressed)
    assert len(packed.buf) == 141
    plain = decompress(packed.buf, LIMIT)
    assert len(plain) == 160
    assert compress(plain) == packed.buf


def test_growth_stops_at_the_limit() -> None:
    bomb = compress(bytes(200_000))
    assert len(bomb) < 1000
    assert len(decompress(bomb, 200_000)) == 200_000
    with pytest.raises(CorruptLzw, match="more than 199999 bytes"):
        decompress(bomb, 199_999)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_garbage_ends_with_an_error_or_a_result(data: bytes) -> None:
    try:
        assert len(decompress(data, 10_000)) <= 10_000
    except CorruptLzw:
        pass


def test_a_stream_without_an_end_is_corrupt() -> None:
    with pytest.raises(CorruptLzw, match="without an end code"):
        decompress(compress(b"cut off")[:-2], LIMIT)

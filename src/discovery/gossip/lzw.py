"""LZW as in Go's `compress/lzw`: least significant bit first, 8-bit literals, codes of 9 to 12 bits.

Both ends keep the same counter `hi`, the newest code. A code becomes one bit wider as soon as `hi` has reached the present
width's limit. (GIF-style encoders change one code later.) When 12 bits are exhausted the encoder writes a clear code and
both start afresh. Older encoders start straight with data, newer ones with a clear code; the decoder takes both.
"""

from typing import Final

_CLEAR: Final = 256
_END: Final = 257
_FIRST_WIDTH: Final = 9
_MAX_WIDTH: Final = 12
_LAST_CODE: Final = (1 << _MAX_WIDTH) - 1

_LITERALS: Final = tuple(bytes((value,)) for value in range(256))


class CorruptLzw(ValueError):
    """The bytes are no LZW stream, or would grow past the limit."""


class _BitWriter:
    """Packs codes, least significant bit first."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._bits = 0
        self._count = 0

    def write(self, code: int, width: int) -> None:
        self._bits |= code << self._count
        self._count += width
        while self._count >= 8:
            self.data.append(self._bits & 0xFF)
            self._bits >>= 8
            self._count -= 8

    def finish(self) -> bytes:
        if self._count:
            self.data.append(self._bits & 0xFF)
        return bytes(self.data)


def compress(data: bytes) -> bytes:
    """The stream an older Go encoder writes: no clear code at the start."""
    out = _BitWriter()
    table: dict[tuple[int, int], int] = {}
    hi, overflow, width = _END, 1 << _FIRST_WIDTH, _FIRST_WIDTH
    prefix = -1
    for byte in data:
        if prefix < 0:
            prefix = byte
            continue
        code = table.get((prefix, byte))
        if code is not None:
            prefix = code
            continue
        out.write(prefix, width)
        hi += 1
        if hi == overflow:
            width, overflow = width + 1, overflow << 1
        if hi == _LAST_CODE:
            out.write(_CLEAR, width)
            hi, overflow, width = _END, 1 << _FIRST_WIDTH, _FIRST_WIDTH
            table.clear()
        else:
            table[prefix, byte] = hi
        prefix = byte
    if prefix >= 0:
        out.write(prefix, width)
        if hi + 1 == overflow:
            width += 1
        if hi + 1 == _LAST_CODE:
            out.write(_CLEAR, width)
            width = _FIRST_WIDTH
    out.write(_END, width)
    return out.finish()


def decompress(data: bytes, limit: int) -> bytes:
    """The original of a whole stream. Raises `CorruptLzw`, also when it would exceed `limit` bytes."""
    out: list[bytes] = []
    size = 0
    table: list[bytes] = [*_LITERALS, b"", b""]
    overflow, width = 1 << _FIRST_WIDTH, _FIRST_WIDTH
    previous = b""
    bits = count = position = 0
    length = len(data)
    while True:
        while count < width:
            if position == length:
                raise CorruptLzw("the stream ends without an end code")
            bits |= data[position] << count
            position += 1
            count += 8
        code = bits & ((1 << width) - 1)
        bits >>= width
        count -= width
        if code == _CLEAR:
            del table[_END + 1 :]
            overflow, width, previous = 1 << _FIRST_WIDTH, _FIRST_WIDTH, b""
            continue
        if code == _END:
            return b"".join(out)
        if code < len(table):
            chunk = table[code]
        elif code == len(table) and previous and len(table) <= _LAST_CODE:
            chunk = previous + previous[:1]
        else:
            raise CorruptLzw(f"code {code} is not in the table of {len(table)}")
        size += len(chunk)
        if size > limit:
            raise CorruptLzw(f"more than {limit} bytes when decompressed")
        out.append(chunk)
        if previous and len(table) <= _LAST_CODE:
            table.append(previous + chunk[:1])
        previous = chunk
        # After the first code since a clear the table's length is what the encoder calls `hi`.
        if len(table) == overflow and width < _MAX_WIDTH:
            width, overflow = width + 1, overflow << 1

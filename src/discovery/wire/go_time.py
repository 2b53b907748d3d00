"""Go's binary form of a point in time, as `time.Time` fields carry it.

Fifteen bytes: version 1, whole seconds since 1 January of the year 1 (i64), nanoseconds (i32), offset of the zone in
minutes (i16, -1 marks UTC), all big-endian. Version 2 ends in one more byte, the seconds of the offset. The offset
does not move the instant, so it is dropped when reading and UTC is written.
"""

import struct
from typing import Final

ZERO_TIME: Final = b"\x01" + bytes(12) + b"\xff\xff"
"""How Go writes a time that was never set."""

_FORMAT: Final = struct.Struct(">Bqih")
_UNIX_EPOCH: Final = 62_135_596_800  # seconds from year 1 to 1970
_BILLION: Final = 1_000_000_000
_LENGTH_OF_VERSION: Final = {1: _FORMAT.size, 2: _FORMAT.size + 1}


def encode_time(unix_nanoseconds: int | None) -> bytes:
    """The wire form of nanoseconds since 1970; None is the time never set."""
    if unix_nanoseconds is None:
        return ZERO_TIME
    seconds, nanoseconds = divmod(unix_nanoseconds, _BILLION)
    return _FORMAT.pack(1, seconds + _UNIX_EPOCH, nanoseconds, -1)


def decode_time(data: bytes) -> int | None:
    """Nanoseconds since 1970, or None for the time never set. Raises ValueError if this is no time."""
    if not data or len(data) != _LENGTH_OF_VERSION.get(data[0]):
        raise ValueError(f"not a Go time: {data[:16].hex()}")
    _, seconds, nanoseconds, _ = _FORMAT.unpack_from(data)
    if seconds == 0 and nanoseconds == 0:
        return None
    return int((seconds - _UNIX_EPOCH) * _BILLION + nanoseconds)

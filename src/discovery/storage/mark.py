"""Remembers how many writes of a log were acknowledged, beside the log.

A write that a crash tore looks like one that was damaged later: both are dropped when the log is opened. The mark tells them
apart. It is renewed after every durable write without waiting for the disk: a crash of the process leaves it exact, a loss of
power leaves it exact or too low, which raises no false alarm but may let damage to the very last writes go unnoticed.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

_MARK = struct.Struct("<QI")


class Mark:
    """Of the log at `path`. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path.with_name(path.name + ".mark"), os.O_RDWR | os.O_CREAT, 0o600)

    def read(self) -> int:
        """The number of acknowledged writes, as far as it is known."""
        data = os.pread(self._file, _MARK.size, 0)
        if len(data) < _MARK.size:
            return 0
        count, checksum = _MARK.unpack(data)
        return count if zlib.crc32(data[:8]) == checksum else 0

    def write(self, count: int) -> None:
        packed = count.to_bytes(8, "little")
        os.pwrite(self._file, packed + zlib.crc32(packed).to_bytes(4, "little"), 0)

    def close(self) -> None:
        os.close(self._file)

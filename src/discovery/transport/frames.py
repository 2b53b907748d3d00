"""Connections that carry frames: four bytes of length, big-endian, then as many bytes."""

import logging
import struct
from abc import ABC, abstractmethod
from typing import Final

from .connection import Connection

log = logging.getLogger(__name__)

MAX_FRAME: Final = 64 << 20

_LENGTH: Final = struct.Struct(">I")


class FrameConnection(Connection, ABC):
    """Base of a connection that carries frames. A frame too long ends it; the first may have its own limit."""

    def __init__(self, max_first_frame: int = MAX_FRAME) -> None:
        super().__init__()
        self._limit = max_first_frame
        self._partial = bytearray()

    @abstractmethod
    def frames_received(self, frames: list[bytes]) -> None:
        """All frames that one read completed."""

    def send_frames(self, frames: list[bytes]) -> None:
        """Write frames, with one call of the system and, where the event loop can, without copying them together."""
        pieces: list[bytes] = []
        for frame in frames:
            pieces += (_LENGTH.pack(len(frame)), frame)
        self.transport.writelines(pieces)

    def data_received(self, data: bytes) -> None:
        frames: list[bytes] = []
        source: bytes | bytearray = data
        if self._partial:
            self._partial += data
            source = self._partial
        position = 0
        while len(source) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(source, position)
            if length > self._limit:
                log.warning("closing connection to %s: frame of %d bytes, at most %d", self.peer, length, self._limit)
                self.transport.abort()
                return
            start = position + _LENGTH.size
            if len(source) - start < length:
                break
            position = start + length
            frames.append(data[start:position] if source is data else bytes(memoryview(source)[start:position]))
            self._limit = MAX_FRAME
        if source is data:
            self._partial += data[position:]
        else:
            del self._partial[:position]
        if frames:
            self.frames_received(frames)

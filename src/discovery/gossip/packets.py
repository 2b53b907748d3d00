"""Packets: from the bytes of a datagram to its messages, and back."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from .codec import (
    COMPOUND_OVERHEAD,
    MAX_PACKET,
    MalformedMessage,
    add_crc,
    check_crc,
    deflate,
    inflate,
    make_compound,
    split_compound,
    unpack,
)
from .members import Address
from .messages import Compressed, Kind
from .security import OVERHEAD, CannotDecrypt, Protection

BUDGET: Final = 1400
"""Bytes of a packet that fit any path; checksums are not counted."""

LARGEST_USER_MESSAGE: Final = BUDGET - OVERHEAD - 2 * COMPOUND_OVERHEAD - 1
"""Bytes of a message of the layer above that still fits into a packet, however it is wrapped."""

_MAX_DEPTH: Final = 4
"""Layers of compound and compression within one another."""


class Packet(NamedTuple):
    """A datagram to be sent."""

    data: bytes
    destination: Address


@dataclass(frozen=True, slots=True)
class Opened:
    """The messages of a packet, and what was wrong with the rest of it."""

    messages: list[bytes]
    complaints: list[str]


class PacketCodec:
    """Peels and wraps packets as `protection` says."""

    def __init__(self, protection: Protection) -> None:
        self._protection = protection

    @property
    def room(self) -> int:
        """Bytes for messages in one packet."""
        return BUDGET - (OVERHEAD if self._protection.encrypts else 0)

    def seal(self, messages: list[bytes], *, crc: bool) -> bytes:
        data = make_compound(messages)
        if self._protection.compress:
            deflated = deflate(data)
            data = deflated if len(deflated) < len(data) else data
        if crc:
            data = add_crc(data)
        keyring = self._protection.keyring
        if keyring is not None and self._protection.encrypts:
            return keyring.seal(data, self._protection.rng)
        return data

    def open(self, data: bytes) -> Opened:
        """Never raises: what cannot be read becomes a complaint."""
        opened = Opened([], [])
        try:
            data = self._decrypt(data)
            if data[:1] == bytes((Kind.CRC,)):
                data = check_crc(data[1:])
            self._unwrap(data, opened, _MAX_DEPTH)
        except (MalformedMessage, CannotDecrypt) as error:
            opened.complaints.append(str(error))
        return opened

    def _decrypt(self, data: bytes) -> bytes:
        if self._protection.keyring is None:
            return data
        try:
            return self._protection.keyring.open(data)
        except CannotDecrypt:
            if self._protection.verify_incoming:
                raise
            return data

    def _unwrap(self, data: bytes, opened: Opened, depth: int) -> None:
        if not data:
            raise MalformedMessage("an empty message")
        if data[0] not in (Kind.COMPOUND, Kind.COMPRESS):
            opened.messages.append(data)
        elif not depth:
            raise MalformedMessage(f"more than {_MAX_DEPTH} layers")
        elif data[0] == Kind.COMPRESS:
            self._unwrap(inflate(unpack(data[1:], Compressed), MAX_PACKET), opened, depth - 1)
        else:
            self._unwrap_parts(data[1:], opened, depth)

    def _unwrap_parts(self, body: bytes, opened: Opened, depth: int) -> None:
        parts, missing = split_compound(body)
        if missing:
            opened.complaints.append(f"{missing} parts of a compound message were cut off")
        for part in parts:
            try:
                self._unwrap(part, opened, depth - 1)
            except MalformedMessage as error:
                opened.complaints.append(str(error))

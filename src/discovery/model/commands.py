"""What the replicated log says: one block of client commands per Raft entry.

Commands that arrive together travel as one block: encoded once, written once, sent once, applied in one pass. Each command
of a block gets a state index of its own. Whatever needs a clock or chance (ids, times, expiries) is settled by the leader
before the block is made, so that applying it is a pure function of the state.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from .records import AutopilotConfig, Coordinate
from .requests import (
    ConfigEntryRequest,
    DeregisterRequest,
    IntentionRequest,
    PreparedQueryRequest,
    RegisterRequest,
    SessionRequest,
    TxnRequest,
)


class KV(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """One KV operation; `op` as in `KVSRequest`, `index` is the cas index."""

    op: str
    key: str
    value: bytes | None = None
    flags: int = 0
    index: int = 0
    session: str = ""


class Register(msgspec.Struct, array_like=True, tag=2, frozen=True):
    request: RegisterRequest


class Deregister(msgspec.Struct, array_like=True, tag=3, frozen=True):
    request: DeregisterRequest


class SessionChange(msgspec.Struct, array_like=True, tag=4, frozen=True):
    request: SessionRequest


class Txn(msgspec.Struct, array_like=True, tag=5, frozen=True):
    request: TxnRequest


class PreparedQueryChange(msgspec.Struct, array_like=True, tag=6, frozen=True):
    request: PreparedQueryRequest


class ConfigEntryChange(msgspec.Struct, array_like=True, tag=7, frozen=True):
    request: ConfigEntryRequest


class IntentionChange(msgspec.Struct, array_like=True, tag=8, frozen=True):
    request: IntentionRequest


class CoordinateBatch(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """(node, segment, coordinate) of many nodes."""

    updates: list[tuple[str, str, Coordinate]]


class AutopilotChange(msgspec.Struct, array_like=True, tag=10, frozen=True):
    config: AutopilotConfig
    cas: bool = False


class ReapTombstones(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """Forget delete markers at or below `index`."""

    index: int


class RestoreChunk(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """A piece of a snapshot that replaces the whole state once its `last` piece is applied.

    Going through the log, a restore has its place among the writes on every server. `restore_id` keeps two restores apart.
    """

    restore_id: str
    data: bytes
    last: bool = False


class RegisterMany(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """Registrations that happen together or not at all."""

    requests: list[RegisterRequest]


Command = (
    KV
    | Register
    | Deregister
    | SessionChange
    | Txn
    | PreparedQueryChange
    | ConfigEntryChange
    | IntentionChange
    | CoordinateBatch
    | AutopilotChange
    | ReapTombstones
    | RestoreChunk
    | RegisterMany
)


def _typed(kind: Any, value: Any) -> Any:
    """Durations travel as integers; what is declared as a mere `object` stays what it is."""
    return value if kind is object else kind(value)


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=int)
_decoder: Final = msgspec.msgpack.Decoder(list[Command], dec_hook=_typed)


def encode_command(command: Command) -> bytes:
    """One command as it stands in a block. Raises ValueError or OverflowError for what the log cannot hold."""
    return _encoder.encode(command)


def join_block(encoded: Sequence[bytes]) -> bytes:
    """The block of commands that are encoded already: a MessagePack array."""
    return _array_header(len(encoded)) + b"".join(encoded)


def _array_header(length: int) -> bytes:
    if length < 16:
        return bytes((0x90 | length,))
    return b"\xdc" + length.to_bytes(2, "big") if length < 1 << 16 else b"\xdd" + length.to_bytes(4, "big")


def encode_block(commands: Sequence[Command]) -> bytes:
    return _encoder.encode(commands)


def decode_block(data: bytes) -> list[Command]:
    return _decoder.decode(data)

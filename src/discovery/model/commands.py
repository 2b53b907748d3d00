"""What the replicated log says: one block of client commands per Raft entry.

Commands that arrive together travel as one block: encoded once, written once, sent once, applied in one pass. Each command
of a block gets a state index of its own. Whatever needs a clock or chance (ids, times, expiries) is settled by the leader
before the block is made, so that applying it is a pure function of the state.
"""

from collections.abc import Sequence
from typing import Final

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
)

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=int)
_decoder: Final = msgspec.msgpack.Decoder(list[Command], dec_hook=lambda kind, value: kind(value))


def encode_block(commands: Sequence[Command]) -> bytes:
    return _encoder.encode(commands)


def decode_block(data: bytes) -> list[Command]:
    return _decoder.decode(data)

"""What Raft servers say to each other and keep on disk.

Everything is encoded as msgpack arrays. A frame is a list of messages for one peer: all that one turn of the loop had to
say to it. Every message names its sender, its target and the sender's term (pre-votes: the term that would be asked for).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec


class EntryKind(enum.IntEnum):
    COMMAND = 0
    NOOP = 1
    CONFIGURATION = 2


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One slot of the replicated log. `data` is opaque to Raft unless the kind is CONFIGURATION."""

    index: int
    term: int
    kind: EntryKind
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must never be forgotten: the highest term seen and the vote given in it ("" = none)."""

    term: int = 0
    vote: str = ""


class Server(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A member. A non-voter (learner) receives the log but is counted nowhere."""

    id: str
    address: str
    voter: bool = True


class Configuration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members of the cluster as one log entry fixes them."""

    servers: tuple[Server, ...] = ()

    def get(self, server_id: str) -> Server | None:
        return next((server for server in self.servers if server.id == server_id), None)

    def voters(self) -> frozenset[str]:
        return frozenset(server.id for server in self.servers if server.voter)

    def ids(self) -> frozenset[str]:
        return frozenset(server.id for server in self.servers)


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which prefix of the log a snapshot replaces, who the members were there, and how its bytes are known to be whole.

    `configuration_index` is the entry that fixed the configuration; `size` is in bytes, `checksum` the SHA-256 in hex.
    """

    index: int
    term: int
    configuration: Configuration
    configuration_index: int
    size: int = 0
    checksum: str = ""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    sender: str
    target: str
    term: int


class AppendEntries(Envelope, frozen=True, array_like=True, tag=1):
    """Entries following (`prev_index`, `prev_term`); `commit` is the leader's commit index."""

    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[Entry, ...] = ()


class AppendReply(Envelope, frozen=True, array_like=True, tag=2):
    """Success: everything up to `index` is durable here and equals the leader's log (also the answer to a snapshot).

    Refusal: `index` repeats the refused prev_index; the hint is our last entry at or before it whose term is not above
    prev_term (hint_term 0: nothing known there).
    """

    success: bool
    index: int
    hint_index: int = 0
    hint_term: int = 0


class Heartbeat(Envelope, frozen=True, array_like=True, tag=3):
    """Sign of life. `sequence` numbers the leader's rounds: its echo proves leadership at the time of sending."""

    commit: int
    sequence: int


class HeartbeatReply(Envelope, frozen=True, array_like=True, tag=4):
    sequence: int


class RequestVote(Envelope, frozen=True, array_like=True, tag=5):
    """`transfer` marks a candidate sent by the leader itself, for whom leader stickiness does not count."""

    last_index: int
    last_term: int
    pre_vote: bool = False
    transfer: bool = False


class VoteReply(Envelope, frozen=True, array_like=True, tag=6):
    """A grant carries the term of the request, a refusal the voter's own."""

    granted: bool
    pre_vote: bool = False


class InstallSnapshot(Envelope, frozen=True, array_like=True, tag=7):
    """Header of a snapshot stream; the receiver steps it once the whole file is verified and durable."""

    meta: SnapshotMeta


class SnapshotProgress(Envelope, frozen=True, array_like=True, tag=8):
    """A chunk of a snapshot arrived from the leader: as good a sign of life as a heartbeat."""


class TimeoutNow(Envelope, frozen=True, array_like=True, tag=9):
    """The leader hands over: campaign at once."""


Message = (
    AppendEntries
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | RequestVote
    | VoteReply
    | InstallSnapshot
    | SnapshotProgress
    | TimeoutNow
)

_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(list[Message])
_configuration_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(messages: Iterable[Message]) -> bytes:
    """One frame holding all of `messages` in order."""
    return _encoder.encode(list(messages))


def decode(frame: bytes | bytearray | memoryview) -> list[Message]:
    """The messages of a frame. Raises msgspec.DecodeError (a ValueError) when it is not one."""
    return _frame_decoder.decode(frame)


def encode_configuration(configuration: Configuration) -> bytes:
    return _encoder.encode(configuration)


def decode_configuration(data: bytes) -> Configuration:
    """Raises msgspec.DecodeError when `data` is no configuration."""
    return _configuration_decoder.decode(data)

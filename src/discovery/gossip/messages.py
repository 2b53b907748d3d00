"""Memberlist's messages. Field names on the wire are these in PascalCase; every field has Go's zero value as default."""

from enum import IntEnum
from typing import Annotated

import msgspec

U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]


class Kind(IntEnum):
    """The first byte of a message."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    CRC = 12
    ERROR = 13


class Wire(msgspec.Struct, frozen=True, rename="pascal"):
    """A msgpack map with fields named as in Go."""


class Ping(Wire, frozen=True):
    """Asks `node` for an ack to the source fields, or to the UDP source where they are missing."""

    seq_no: U32 = 0
    node: str = ""
    source_addr: bytes = b""
    source_port: U16 = 0
    source_node: str = ""


class IndirectPing(Wire, frozen=True):
    """Asks the receiver to ping `target` on the sender's behalf; `nack` asks for a nack when that is not answered."""

    seq_no: U32 = 0
    target: bytes = b""
    port: U16 = 0
    node: str = ""
    nack: bool = False
    source_addr: bytes = b""
    source_port: U16 = 0
    source_node: str = ""


class Ack(Wire, frozen=True):
    seq_no: U32 = 0
    payload: bytes | None = None


class Nack(Wire, frozen=True):
    seq_no: U32 = 0


class Suspect(Wire, frozen=True):
    """`from_` did not reach `node` at this incarnation."""

    incarnation: U32 = 0
    node: str = ""
    from_: str = msgspec.field(name="From", default="")


class Alive(Wire, frozen=True):
    """`node` says of itself where it is and what its tags are; `vsn` is six version numbers."""

    incarnation: U32 = 0
    node: str = ""
    addr: bytes = b""
    port: U16 = 0
    meta: bytes = b""
    vsn: bytes = b""


class Dead(Wire, frozen=True):
    """`node` is dead, or has left if it says so itself."""

    incarnation: U32 = 0
    node: str = ""
    from_: str = msgspec.field(name="From", default="")


class PushPullHeader(Wire, frozen=True):
    nodes: Size = 0
    user_state_len: Size = 0
    join: bool = False


class NodeState(IntEnum):
    """What SWIM believes of a node; the numbers are on the wire."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class NodeRecord(Wire, frozen=True):
    """One node in a push/pull."""

    name: str = ""
    addr: bytes = b""
    port: U16 = 0
    meta: bytes = b""
    incarnation: U32 = 0
    state: U8 = 0
    vsn: bytes = b""


class UserMessageHeader(Wire, frozen=True):
    user_msg_len: Size = 0


class Compressed(Wire, frozen=True):
    """`algo` 0 is LZW, the only one."""

    algo: U8 = 0
    buf: bytes = b""


class ErrorReply(Wire, frozen=True):
    error: str = ""


Message = Ping | IndirectPing | Ack | Nack | Suspect | Alive | Dead | Compressed | ErrorReply

KINDS: dict[type[Wire], Kind] = {
    Ping: Kind.PING,
    IndirectPing: Kind.INDIRECT_PING,
    Ack: Kind.ACK,
    Nack: Kind.NACK,
    Suspect: Kind.SUSPECT,
    Alive: Kind.ALIVE,
    Dead: Kind.DEAD,
    Compressed: Kind.COMPRESS,
    ErrorReply: Kind.ERROR,
}

"""Serf's messages, which memberlist carries as user messages: a kind byte and a map. Tags travel in a node's meta data."""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from .codec import MalformedMessage, pack, pack_plain, unpack_plain
from .messages import U8, U16, U32, Wire

LTime = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""Lamport time. Half of what fits the wire, so that no peer can bring a clock to its end."""
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]

MAX_META: Final = 512
_TAGS_MARK: Final = b"\xff"
_MAX_TAGS: Final = MAX_META // 2


class SerfKind(IntEnum):
    LEAVE = 0
    JOIN = 1
    PUSH_PULL = 2
    USER_EVENT = 3
    QUERY = 4
    QUERY_RESPONSE = 5
    CONFLICT_RESPONSE = 6
    KEY_REQUEST = 7
    KEY_RESPONSE = 8
    RELAY = 9


class LeaveIntent(Wire, frozen=True):
    """`node` leaves, or shall count as having left; `prune` erases it."""

    l_time: LTime = 0
    node: str = ""
    prune: bool = False


class JoinIntent(Wire, frozen=True):
    l_time: LTime = 0
    node: str = ""


class RecentEvent(Wire, frozen=True):
    name: str = ""
    payload: bytes | None = None


class EventsAt(Wire, frozen=True):
    """The user events of one Lamport time."""

    l_time: LTime = 0
    events: list[RecentEvent] = msgspec.field(default_factory=list)


class SerfState(Wire, frozen=True):
    """The user state of a push/pull. `events` is the ring of recent ones, most of it nil; times are the next to be used."""

    l_time: LTime = 0
    status_l_times: dict[str, LTime] = msgspec.field(default_factory=dict)
    left_members: list[str] = msgspec.field(default_factory=list)
    event_l_time: LTime = 0
    events: list[EventsAt | None] = msgspec.field(default_factory=list)
    query_l_time: LTime = 0


class UserEventMessage(Wire, frozen=True):
    l_time: LTime = 0
    name: str = ""
    payload: bytes | None = None
    coalesce: bool = msgspec.field(name="CC", default=False)


class Query(Wire, frozen=True):
    """A question to all nodes that match the filters; answers go straight to `addr`."""

    l_time: LTime = 0
    id: U32 = msgspec.field(name="ID", default=0)
    addr: bytes = b""
    port: U16 = 0
    source_node: str = ""
    filters: list[bytes] | None = None
    flags: U32 = 0
    relay_factor: U8 = 0
    timeout: Nanoseconds = 0
    name: str = ""
    payload: bytes | None = None


class QueryResponse(Wire, frozen=True):
    l_time: LTime = 0
    id: U32 = msgspec.field(name="ID", default=0)
    from_: str = msgspec.field(name="From", default="")
    flags: U32 = 0
    payload: bytes | None = None


class TagFilter(Wire, frozen=True):
    tag: str = ""
    expr: str = ""


class KeyRequest(Wire, frozen=True):
    key: bytes = b""


class KeyResponse(Wire, frozen=True):
    """Keys are base64 text here, though raw bytes in the request."""

    result: bool = False
    message: str = ""
    keys: list[str] | None = None
    primary_key: str = ""


class ConflictResponse(Wire, frozen=True):
    """A member as the answering node knows it."""

    name: str = ""
    addr: bytes = b""
    port: U16 = 0
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    status: U8 = 0
    protocol_min: U8 = 0
    protocol_max: U8 = 0
    protocol_cur: U8 = 0
    delegate_min: U8 = 0
    delegate_max: U8 = 0
    delegate_cur: U8 = 0


class RelayAddress(Wire, frozen=True):
    ip: bytes = msgspec.field(name="IP", default=b"")
    port: U16 = 0
    zone: str = ""


class RelayHeader(Wire, frozen=True):
    """In front of a message that is to be passed on."""

    dest_addr: RelayAddress = RelayAddress()
    dest_name: str = ""


SerfMessage = (
    LeaveIntent | JoinIntent | SerfState | UserEventMessage | Query | QueryResponse | KeyRequest | KeyResponse | ConflictResponse
)

_KINDS: Final[dict[type[Wire], SerfKind]] = {
    LeaveIntent: SerfKind.LEAVE,
    JoinIntent: SerfKind.JOIN,
    SerfState: SerfKind.PUSH_PULL,
    UserEventMessage: SerfKind.USER_EVENT,
    Query: SerfKind.QUERY,
    QueryResponse: SerfKind.QUERY_RESPONSE,
    ConflictResponse: SerfKind.CONFLICT_RESPONSE,
    KeyRequest: SerfKind.KEY_REQUEST,
    KeyResponse: SerfKind.KEY_RESPONSE,
}


def encode(message: SerfMessage) -> bytes:
    return bytes((_KINDS[type(message)],)) + pack(message)


def encode_relayed(header: RelayHeader, message: bytes) -> bytes:
    """A message to be passed on by whoever receives it."""
    return bytes((SerfKind.RELAY,)) + pack(header) + message


class TagsTooLarge(ValueError):
    """Tags which do not fit a node's meta data."""


def encode_tags(tags: dict[str, str]) -> bytes:
    """Raises `TagsTooLarge`."""
    meta = _TAGS_MARK + pack_plain(tags)
    if len(meta) > MAX_META:
        raise TagsTooLarge(f"Encoded length of tags exceeds limit of {MAX_META} bytes")
    return meta


def decode_tags(meta: bytes) -> dict[str, str]:
    """Without the mark the whole is the role, as very old nodes have it. Raises `MalformedMessage`."""
    if meta[:1] != _TAGS_MARK:
        return {"role": _lenient(meta)} if meta else {}
    tags = unpack_plain(meta[1:], _MAX_TAGS)
    if tags is None:
        return {}
    if type(tags) is not dict:
        raise MalformedMessage(f"tags are a {type(tags).__name__}, not a map")
    return {_lenient(name): _lenient(value) for name, value in tags.items()}


def _lenient(text: object) -> str:
    """Tags are shown to people and compared, never sent on: what is not UTF-8 in them need not survive."""
    if text is None:
        return ""
    if type(text) is not bytes:
        raise MalformedMessage(f"a tag that is a {type(text).__name__}")
    return text.decode(errors="replace")

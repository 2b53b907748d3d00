"""What a group's members look like from above, and what is told about them."""

from enum import IntEnum

import msgspec

from .members import Address


class MemberStatus(IntEnum):
    """Serf's numbers."""

    NONE = 0
    ALIVE = 1
    LEAVING = 2
    LEFT = 3
    FAILED = 4

    def __str__(self) -> str:
        return self.name.lower()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member; the numbers at the end are versions of memberlist's protocol and of Serf's (the delegate's)."""

    name: str
    address: str
    port: int
    tags: dict[str, str]
    status: MemberStatus
    protocol_min: int
    protocol_max: int
    protocol_cur: int
    delegate_min: int
    delegate_max: int
    delegate_cur: int


class MemberJoined(msgspec.Struct, frozen=True):
    """New, or back from having failed or left."""

    member: Member


class MemberLeft(msgspec.Struct, frozen=True):
    """Went on purpose, or was declared gone by an operator."""

    member: Member


class MemberFailed(msgspec.Struct, frozen=True):
    member: Member


class MemberUpdated(msgspec.Struct, frozen=True):
    """Has other tags, or another address."""

    member: Member


class MemberReaped(msgspec.Struct, frozen=True):
    """Forgotten, after a long time or by an operator."""

    member: Member


class UserEvent(msgspec.Struct, frozen=True):
    """`coalesce`: of events with this name only the newest matters."""

    name: str
    payload: bytes
    ltime: int
    coalesce: bool


class NameConflict(msgspec.Struct, frozen=True):
    """Another node, at `other`, uses the name of this member."""

    member: Member
    other: Address


class KeyringChanged(msgspec.Struct, frozen=True):
    """By a query of some member; the keys as they are now, primary first."""

    keys: list[bytes]


Event = MemberJoined | MemberLeft | MemberFailed | MemberUpdated | MemberReaped | UserEvent | NameConflict | KeyringChanged

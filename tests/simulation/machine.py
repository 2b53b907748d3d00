"""The replicated state of the simulation: registers that can be written and compared-and-set."""

from __future__ import annotations

import zlib

import msgspec

from discovery.raft.messages import Entry, EntryKind


class Command(msgspec.Struct, array_like=True):
    kind: str
    key: str
    argument: str | None
    expected: str | None


class RegisterMachine:
    """`digest` sums up every entry applied so far: equal digests at one index mean equal histories."""

    def __init__(self) -> None:
        self.applied = 0
        self.digest = 0
        self.values: dict[str, str | None] = {}

    def apply(self, entry: Entry) -> list[bool]:
        """One result a command: whether it took place."""
        if entry.index != self.applied + 1:
            raise AssertionError(f"entry {entry.index} applied after {self.applied}")
        self.applied = entry.index
        self.digest = zlib.crc32(entry.data, zlib.crc32(b"%d@%d" % (entry.index, entry.term), self.digest))
        if entry.kind is not EntryKind.COMMAND:
            return []
        return [self._execute(command) for command in msgspec.msgpack.decode(entry.data, type=list[Command])]

    def _execute(self, command: Command) -> bool:
        if command.kind == "cas" and self.values.get(command.key) != command.expected:
            return False
        self.values[command.key] = command.argument
        return True

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.applied, self.digest, self.values))

    def restore(self, state: bytes) -> None:
        self.applied, self.digest, self.values = msgspec.msgpack.decode(state, type=tuple[int, int, dict[str, str | None]])

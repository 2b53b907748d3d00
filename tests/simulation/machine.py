"""The replicated state of the simulation: the real store, fed with the real encoding of commands."""

from __future__ import annotations

import zlib

import msgspec

from discovery.model import commands as c
from discovery.raft.messages import Entry, EntryKind
from discovery.state.store import Result, StateStore

Found = tuple[str, int] | None
"""Value and ModifyIndex of a key."""


class _Image(msgspec.Struct, array_like=True):
    applied: int
    digest: int
    state: bytes


class Machine:
    """`digest` sums up every entry applied so far with its results: equal digests at one index mean equal histories."""

    def __init__(self) -> None:
        self.applied = 0
        self.digest = 0
        self.store = StateStore()

    def apply(self, entry: Entry) -> list[Result]:
        """One result a command."""
        if entry.index != self.applied + 1:
            raise AssertionError(f"entry {entry.index} applied after {self.applied}")
        self.applied = entry.index
        results = self.store.apply(c.decode_block(entry.data)) if entry.kind is EntryKind.COMMAND else []
        summary = f"{entry.index}@{entry.term} {entry.kind} {results} {self.store.index}".encode()
        self.digest = zlib.crc32(entry.data, zlib.crc32(summary, self.digest))
        return results

    def read(self, key: str) -> Found:
        found = self.store.kv_get(key).value
        return None if found is None else ((found.value or b"").decode(), found.modify_index)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Image(self.applied, self.digest, b"".join(self.store.capture().chunks())))

    def restore(self, image: bytes) -> None:
        found = msgspec.msgpack.decode(image, type=_Image)
        self.applied, self.digest = found.applied, found.digest
        self.store.restore([found.state])

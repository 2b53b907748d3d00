"""The KV store: entries, locks held by sessions, tombstones.

A write of what is already there changes nothing, not even an index. A lock is an entry that names a session; it binds only those
who ask for the lock: plain writes and deletes go through. Source: Consul's KV and session documentation, edges as of 1.8.7.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from discovery.model.commands import KV
from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.model.records import DirEntry, Session

from .graveyard import Graveyard
from .lookup import require_uuid
from .tables import Changes, Indexes, Names, after_prefix
from .watches import KEY, PREFIX

KV_INDEX: Final = "kvs"
_modify_index: Final = attrgetter("modify_index")


class KVStore:
    """`sessions` are those that may hold locks."""

    def __init__(self, changes: Changes, indexes: Indexes, sessions: Mapping[str, Session]) -> None:
        self.rows: dict[str, DirEntry] = {}
        self._names = Names()
        self._locks: dict[str, dict[str, None]] = {}
        self._changes = changes
        self._indexes = indexes
        self._sessions = sessions
        self.graveyard = Graveyard(changes)
        self._operations: Final = {
            "set": lambda c: self.set(c.key, c.value, c.flags) is not None,
            "cas": lambda c: self.cas(c.key, c.value, c.flags, c.index) is not None,
            "lock": lambda c: self.lock(c.key, c.value, c.flags, c.session) is not None,
            "unlock": lambda c: self.unlock(c.key, c.value, c.flags, c.session) is not None,
            "delete": lambda c: self.delete(c.key),
            "delete-cas": lambda c: self.delete_cas(c.key, c.index),
            "delete-tree": lambda c: self.delete_tree(c.key),
        }

    # --- writes ------------------------------------------------------------------------------------------------------

    def apply(self, command: KV) -> bool:
        """Whether the operation's condition held; without a condition, true."""
        operation = self._operations.get(command.op)
        if operation is None:
            raise RequestFailed(f"Invalid KVS operation '{command.op}'")
        return operation(command)

    def set(self, key: str, value: bytes | None, flags: int) -> DirEntry:
        """A plain write keeps the lock's holder but forgets how often it was taken."""
        old = self.rows.get(key)
        if old is None:
            return self._write(None, DirEntry(0, key, flags, value, "", self._changes.index, self._changes.index))
        if old.value == value and old.flags == flags and old.lock_index == 0:
            return old
        return self._write(old, DirEntry(0, key, flags, value, old.session, old.create_index, self._changes.index))

    def cas(self, key: str, value: bytes | None, flags: int, index: int) -> DirEntry | None:
        """Write if the entry's modify index is `index` (0: if there is no entry); None if it is not."""
        old = self.rows.get(key)
        if (old.modify_index if old is not None else 0) != index:
            return None
        return self.set(key, value, flags)

    def lock(self, key: str, value: bytes | None, flags: int, session: str) -> DirEntry | None:
        """Write and take the lock for `session`; None if another holds it."""
        if not session:
            raise RequestFailed("missing session")
        require_uuid(session, "session")
        if session not in self._sessions:
            raise RequestFailed(f'invalid session "{session}"')
        old = self.rows.get(key)
        now = self._changes.index
        if old is None:
            return self._write(None, DirEntry(1, key, flags, value, session, now, now))
        if old.session and old.session != session:
            return None
        taken = old.lock_index if old.session else old.lock_index + 1
        return self._replace(old, DirEntry(taken, key, flags, value, session, old.create_index, now))

    def unlock(self, key: str, value: bytes | None, flags: int, session: str) -> DirEntry | None:
        """Write and give the lock back; None if `session` does not hold it."""
        if not session:
            raise RequestFailed("missing session")
        old = self.rows.get(key)
        if old is None or old.session != session:
            return None
        return self._replace(old, DirEntry(old.lock_index, key, flags, value, "", old.create_index, self._changes.index))

    def delete(self, key: str) -> bool:
        old = self.rows.get(key)
        if old is not None:
            self._remove(old)
            self.graveyard.bury(key)
            self._indexes.move(KV_INDEX)
        return True

    def delete_cas(self, key: str, index: int) -> bool:
        old = self.rows.get(key)
        if old is not None and old.modify_index != index:
            return False
        return self.delete(key)

    def delete_tree(self, prefix: str) -> bool:
        names = list(self._names.under(prefix))
        for key in names:
            self._remove(self.rows[key])
        if names:
            self.graveyard.bury_tree(prefix)
            self._indexes.move(KV_INDEX)
        return True

    def end_session(self, session: Session) -> None:
        """Release or delete what the session has locked; its lock-delay starts."""
        for key in sorted(self._locks.get(session.id, ())):
            if session.behavior == "delete":
                self.delete(key)
            else:
                self._write(self.rows[key], replace(self.rows[key], session="", modify_index=self._changes.index))
            if session.lock_delay > 0:
                self._changes.released.append((key, session.lock_delay))

    def reap(self, index: int) -> None:
        self.graveyard.reap(index)

    def _replace(self, old: DirEntry, new: DirEntry) -> DirEntry:
        """Write `new` unless it says what `old` does."""
        same = replace(new, modify_index=old.modify_index) == old
        return old if same else self._write(old, new)

    def _write(self, old: DirEntry | None, new: DirEntry) -> DirEntry:
        key = new.key
        self._changes.journal.append((self, key, old))
        self._changes.keys.append(key)
        self._place(key, old, new)
        if old is None:
            self.graveyard.revive(key)
        self._indexes.move(KV_INDEX)
        return new

    def _remove(self, old: DirEntry) -> None:
        self._changes.journal.append((self, old.key, old))
        self._changes.keys.append(old.key)
        self._place(old.key, old, None)

    def put_back(self, key: str, row: DirEntry | None) -> None:
        self._place(key, self.rows.get(key), row)

    def _place(self, key: str, old: DirEntry | None, new: DirEntry | None) -> None:
        if new is None:
            del self.rows[key]
            self._names.remove(key)
        else:
            self.rows[key] = new
            if old is None:
                self._names.add(key)
        was, now = old.session if old is not None else "", new.session if new is not None else ""
        if was != now:
            self._move_lock(key, was, now)

    def _move_lock(self, key: str, was: str, now: str) -> None:
        if was:
            del self._locks[was][key]
            if not self._locks[was]:
                del self._locks[was]
        if now:
            self._locks.setdefault(now, {})[key] = None

    def load(self, entries: Iterable[DirEntry]) -> None:
        """Take up the entries of a snapshot."""
        self.rows = {entry.key: entry for entry in entries}
        self._names = Names(self.rows)
        for entry in self.rows.values():
            if entry.session:
                self._move_lock(entry.key, "", entry.session)

    # --- reads -------------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """Index of the newest change to any key."""
        return self._indexes.newest(KV_INDEX)

    def names(self) -> list[str]:
        return list(self._names)

    def get(self, key: str) -> Read[DirEntry | None]:
        entry = self.rows.get(key)
        if entry is not None:
            return Read(entry.modify_index, entry, ((KEY, key),))
        return Read(self.graveyard.newest_of(key) or self.newest, None, ((KEY, key),))

    def entries(self, prefix: str) -> list[DirEntry]:
        return list(map(self.rows.__getitem__, self._names.under(prefix)))

    def list_under(self, prefix: str) -> Read[list[DirEntry]]:
        entries = self.entries(prefix)
        return Read(self._index_under(prefix, entries), entries, ((PREFIX, prefix),))

    def keys(self, prefix: str, separator: str) -> Read[list[str]]:
        """The names under `prefix`, each cut after the first `separator` that follows the prefix."""
        names = list(self._cut(prefix, separator)) if separator else list(self._names.under(prefix))
        return Read(self._index_under(prefix, self.entries(prefix) if prefix else ()), names, ((PREFIX, prefix),))

    def _cut(self, prefix: str, separator: str) -> Iterator[str]:
        name = self._names.first_from(prefix)
        while name is not None and name.startswith(prefix):
            at = name.find(separator, len(prefix))
            cut = name if at < 0 else name[: at + len(separator)]
            yield cut
            start = cut + "\0" if at < 0 else after_prefix(cut)
            name = self._names.first_from(start) if start is not None else None

    def _index_under(self, prefix: str, entries: Iterable[DirEntry]) -> int:
        if not prefix:
            return self.newest
        newest = max(map(_modify_index, entries), default=0)
        return max(newest, self.graveyard.newest_under(prefix)) or self.newest

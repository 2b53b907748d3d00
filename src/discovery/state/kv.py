"""The KV store: entries, locks held by sessions, tombstones.

A write of what is already there changes nothing, not even an index. A lock is an entry that names a session; it binds only those
who ask for the lock: plain writes and deletes go through. Source: Consul's KV and session documentation, edges as of 1.8.7; the
index of what is not there is that of its deletion, not the newest of all keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final

from msgspec.structs import replace

from discovery.model.commands import KV
from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.model.records import DirEntry, Session

from .graveyard import Graveyard
from .lookup import Lengths, fold, require_uuid
from .ordered import OrderedRows, View, after_prefix
from .tables import NEVER, Changes, with_shared_index
from .watches import KEY, PREFIX

_modify_index: Final = attrgetter("modify_index")


class PrefixIndexes:
    """The newest change under prefixes that were asked for, kept until it can't be told from a single write any more."""

    _MOST: Final = 1024

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._lengths = Lengths()

    def get(self, prefix: str) -> int | None:
        return self._known.get(prefix)

    def keep(self, prefix: str, index: int) -> None:
        if len(self._known) >= self._MOST:
            self.forget()
        if prefix not in self._known:
            self._lengths.add(prefix)
        self._known[prefix] = index

    def changed(self, key: str, index: int) -> None:
        """`key` was written or deleted at `index`, the highest so far."""
        known = self._known
        if known:
            for start in self._lengths.starts_of(key):
                if start in known:
                    known[start] = index

    def forget(self) -> None:
        if self._known:
            self._known.clear()
            self._lengths = Lengths()


class KVStore:
    """`sessions` are those that may hold locks."""

    def __init__(self, changes: Changes, sessions: Mapping[str, Session]) -> None:
        self.ordered: OrderedRows[DirEntry] = OrderedRows()
        self.rows = self.ordered.rows
        self.newest = NEVER
        """Index of the newest change to any key."""
        self.graveyard = Graveyard(changes)
        self._locks: dict[str, dict[str, None]] = {}
        self._prefixes = PrefixIndexes()
        self._changes = changes
        self._sessions = sessions
        self._operations: Final[dict[str, Callable[[KV], Any]]] = {
            "set": lambda c: self.set(c.key, c.value, c.flags),
            "cas": lambda c: self.cas(c.key, c.value, c.flags, c.index),
            "lock": lambda c: self.lock(c.key, c.value, c.flags, c.session),
            "unlock": lambda c: self.unlock(c.key, c.value, c.flags, c.session),
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
        return bool(operation(command))

    def set(self, key: str, value: bytes | None, flags: int) -> DirEntry:
        """A plain write keeps the lock's holder but forgets how often it was taken."""
        old = self.rows.get(key)
        index = self._changes.index
        if old is None:
            new = DirEntry(0, key, flags, value, "", index, index)
        elif old.value == value and old.flags == flags and old.lock_index == 0:
            return old
        else:
            new = DirEntry(0, old.key, flags, value, old.session, old.create_index, index)
        return self._write(old, new)

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
        session = fold(session)
        if session not in self._sessions:
            raise RequestFailed(f'invalid session "{session}"')
        old = self.rows.get(key)
        now = self._changes.index
        if old is None:
            return self._write(None, DirEntry(1, key, flags, value, session, now, now))
        if old.session and old.session != session:
            return None
        taken = old.lock_index if old.session else old.lock_index + 1
        return self._replace(old, DirEntry(taken, old.key, flags, value, session, old.create_index, now))

    def unlock(self, key: str, value: bytes | None, flags: int, session: str) -> DirEntry | None:
        """Write and give the lock back; None if `session` does not hold it."""
        if not session:
            raise RequestFailed("missing session")
        old = self.rows.get(key)
        if old is None or old.session != fold(session):
            return None
        return self._replace(old, DirEntry(old.lock_index, old.key, flags, value, "", old.create_index, self._changes.index))

    def delete(self, key: str) -> bool:
        old = self.rows.get(key)
        if old is not None:
            self._note(key, old)
            self._place(key, old, None)
            self.graveyard.bury(key)
        return True

    def delete_cas(self, key: str, index: int) -> bool:
        old = self.rows.get(key)
        if old is not None and old.modify_index != index:
            return False
        return self.delete(key)

    def delete_tree(self, prefix: str) -> bool:
        gone = self.ordered.remove_under(prefix)
        for old in gone:
            self._note(old.key, old)
            if old.session:
                self._move_lock(old.key, old.session, "")
        if gone:
            self.graveyard.bury_tree(prefix, [old.key for old in gone])
            self._prefixes.forget()
        return True

    def end_session(self, session: Session) -> None:
        """Release or delete what the session has locked; its lock-delay starts."""
        for key in sorted(self._locks.get(session.id, ())):
            if session.behavior == "delete":
                self.delete(key)
            else:
                old = self.rows[key]
                self._write(old, replace(old, session="", modify_index=self._changes.index))
            if session.lock_delay > 0:
                self._changes.released.append((key, session.lock_delay))

    def reap(self, index: int) -> None:
        self.graveyard.reap(index)
        self._prefixes.forget()

    def _replace(self, old: DirEntry, new: DirEntry) -> DirEntry:
        """Write `new` unless it says what `old` does."""
        same = replace(new, modify_index=old.modify_index) == old
        return old if same else self._write(old, new)

    def _write(self, old: DirEntry | None, new: DirEntry) -> DirEntry:
        key = new.key
        self._note(key, old)
        self._place(key, old, new)
        if old is None:
            self.graveyard.revive(key)
        return new

    def _note(self, key: str, old: DirEntry | None) -> None:
        """`key`, which was `old`, changes with the present command."""
        changes = self._changes
        index = changes.index
        if changes.recording:
            changes.journal.append((self, key, old))
            if self.newest != index:
                changes.journal.append((self, None, self.newest))
        changes.keys.append(key)
        changes.key_indexes.append(index)
        self.newest = index
        self._prefixes.changed(key, index)

    def put_back(self, key: str | None, row: Any) -> None:
        """Undo a change of `key`, or of the newest index for None."""
        self._prefixes.forget()
        if key is None:
            self.newest = row
        else:
            self._place(key, self.rows.get(key), row)

    def _place(self, key: str, old: DirEntry | None, new: DirEntry | None) -> None:
        if new is None:
            self.ordered.remove(key)
        else:
            self.ordered.put(key, new)
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
        """Take up entries of a snapshot, ascending by key; `ValueError` if they don't."""
        loaded = [with_shared_index(entry) for entry in entries]
        self.ordered.load((entry.key, entry) for entry in loaded)
        for entry in loaded:
            if entry.session:
                self._move_lock(entry.key, "", entry.session)

    # --- reads -------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Read[DirEntry | None]:
        entry = self.rows.get(key)
        if entry is not None:
            return Read(entry.modify_index, entry, ((KEY, key),))
        return Read(self.graveyard.newest_of(key) or NEVER, None, ((KEY, key),))

    def entries(self, prefix: str) -> list[DirEntry]:
        return self.ordered.rows_under(prefix)

    def view(self, prefix: str) -> Read[View[DirEntry]]:
        """The entries under `prefix` as they are now, without a look at any: one of them may be newer than the index here."""
        index = max(NEVER, self.graveyard.newest_under(prefix)) if prefix else self.newest
        return Read(index, self.ordered.view(prefix), ((PREFIX, prefix),))

    def list_under(self, prefix: str) -> Read[list[DirEntry]]:
        entries = self.entries(prefix)
        return Read(self._index_under(prefix, entries), entries, ((PREFIX, prefix),))

    def keys(self, prefix: str, separator: str) -> Read[list[str]]:
        """The names under `prefix`, each cut after the first `separator` that follows the prefix."""
        names = list(self._cut(prefix, separator) if separator else self.ordered.under(prefix))
        return Read(self._index_under(prefix, None), names, ((PREFIX, prefix),))

    def _cut(self, prefix: str, separator: str) -> Iterator[str]:
        name = self.ordered.first_from(prefix)
        while name is not None and name.startswith(prefix):
            at = name.find(separator, len(prefix))
            cut = name if at < 0 else name[: at + len(separator)]
            yield cut
            start = cut + "\0" if at < 0 else after_prefix(cut)
            name = self.ordered.first_from(start) if start is not None else None

    def _index_under(self, prefix: str, entries: Iterable[DirEntry] | None) -> int:
        """The newest change under `prefix`, deletions included; `entries` are those under it, where they are at hand."""
        if not prefix:
            return self.newest
        index = self._prefixes.get(prefix)
        if index is None:
            entries = self.entries(prefix) if entries is None else entries
            index = max(max(map(_modify_index, entries), default=NEVER), self.graveyard.newest_under(prefix))
            self._prefixes.keep(prefix, index)
        return index

"""The newest changes in the order in which they happened, for those who follow everything.

Only what changed is kept, not what it was: a follower is told what is so now, and several changes of one thing as the last of
them. Who asks for more than is kept is told that something is missing.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from discovery.model.query import Topic
from discovery.model.records import HealthCheck, NodeService
from discovery.model.requests import Change, ChangesRequest

from .catalog import CHECKS, NODES, SERVICES, Catalog
from .kv import KVStore
from .lookup import fold
from .watches import PREFIX

CAPACITY: Final = 16_384
"""Changes that are kept."""
BATCH: Final = 1_000
"""About how many changes one answer has; the changes of one command are never torn apart."""

KEY: Final = "key"
NODE: Final = "node"
SERVICE: Final = "service"
CHECK: Final = "check"
KINDS: Final = (KEY, NODE, SERVICE, CHECK)

Thing = tuple[str, ...]
"""What changed: its kind, then a key, or a node's name and an id on it; names of the catalog folded."""


class _Note(msgspec.Struct, frozen=True, gc=False):
    """`services` are the names that a service or a check goes or went by, folded."""

    index: int
    thing: Thing
    services: tuple[str, ...] = ()


_KeyNote = tuple[int, str]
"""State index and key. There are so many of these that they are kept as bare as can be."""


class ChangesFound(msgspec.Struct, frozen=True):
    """`index` is where to go on."""

    changes: list[Change]
    index: int
    complete: bool


class Feed:
    """What was applied after `index`. It is no part of the state: a server that starts knows nothing of before."""

    def __init__(self, index: int) -> None:
        self._notes: deque[_Note | _KeyNote] = deque(maxlen=CAPACITY)
        self._complete_after = index

    def restart(self, index: int) -> None:
        """The state was replaced: what was before is not known."""
        self._notes.clear()
        self._complete_after = index

    def note_keys(self, indexes: Sequence[int], keys: Sequence[str]) -> None:
        """For every key the index of its change, ascending and not below those noted before."""
        known = len(self._notes)
        dropped = known + len(keys) - CAPACITY
        if dropped > 0:
            self._complete_after = _index(self._notes[dropped - 1]) if dropped <= known else indexes[dropped - 1 - known]
        self._notes.extend(zip(indexes, keys, strict=True))

    def note_rows(self, index: int, journal: Iterable[tuple[Any, Any, Any]], catalog: Catalog) -> None:
        """`journal` is what a command did to tables: table, key, the row that was there before."""
        for table, key, old in journal:
            if table is catalog.services:
                self._note(_Note(index, (SERVICE, *key), _names(old, table.rows.get(key))))
            elif table is catalog.checks:
                self._note(_Note(index, (CHECK, *key), _names(old, table.rows.get(key))))
            elif table is catalog.nodes:
                self._note(_Note(index, (NODE, key)))

    def _note(self, note: _Note) -> None:
        if len(self._notes) == CAPACITY:
            self._complete_after = _index(self._notes[0])
        self._notes.append(note)

    def after(self, index: int, request: ChangesRequest) -> tuple[list[tuple[int, Thing]], bool]:
        """The changes after `index` that `request` wants, each thing once, the oldest first; and whether none is missing."""
        wanted = _Wanted(request)
        newest: dict[Thing, int] = {}
        for noted in reversed(self._notes):
            if _index(noted) <= index:
                break
            note = noted if isinstance(noted, _Note) else _Note(noted[0], (KEY, noted[1]))
            if note.thing not in newest and wanted.has(note):
                newest[note.thing] = note.index
        found = [(changed, thing) for thing, changed in reversed(newest.items())]
        return _cut(found), index >= self._complete_after


def _index(note: _Note | _KeyNote) -> int:
    return note.index if isinstance(note, _Note) else note[0]


class _Wanted:
    def __init__(self, request: ChangesRequest) -> None:
        self._kinds = request.kinds or KINDS
        self._prefix = request.key_prefix
        self._node = fold(request.node)
        self._service = fold(request.service)

    def has(self, note: _Note) -> bool:
        kind, name = note.thing[0], note.thing[1]
        if kind not in self._kinds:
            return False
        if kind == KEY:
            return name.startswith(self._prefix)
        if self._node and name != self._node:
            return False
        return not self._service or kind == NODE or self._service in note.services


def _names(*versions: NodeService | HealthCheck | None) -> tuple[str, ...]:
    names = (version.service if isinstance(version, NodeService) else version.service_name for version in versions if version)
    return tuple({fold(name) for name in names})


def _cut(found: list[tuple[int, Thing]]) -> list[tuple[int, Thing]]:
    end = BATCH
    while end < len(found) and found[end][0] == found[end - 1][0]:
        end += 1
    return found[:end]


def topics_of(request: ChangesRequest) -> tuple[Topic, ...]:
    """What would wake a follower."""
    tables = {KEY: (PREFIX, request.key_prefix), NODE: NODES, SERVICE: SERVICES, CHECK: CHECKS}
    return tuple(tables[kind] for kind in request.kinds or KINDS if kind in tables)


def describe(index: int, thing: Thing, kv: KVStore, catalog: Catalog) -> Change:
    """A change, with what is there now; what is gone is only named."""
    kind = thing[0]
    if kind == KEY:
        entry = kv.rows.get(thing[1])
        return Change(index=index, kind=kind, key=thing[1], deleted=entry is None, kv=entry)
    holder = catalog.nodes.rows.get(thing[1])
    node_name = holder.node if holder is not None else thing[1]
    if kind == NODE:
        return Change(index=index, kind=kind, node_name=node_name, deleted=holder is None, node=holder)
    key = (thing[1], thing[2])
    if kind == SERVICE:
        service = catalog.services.rows.get(key)
        name = service.id if service is not None else key[1]
        return Change(index=index, kind=kind, node_name=node_name, id=name, deleted=service is None, service=service)
    check = catalog.checks.rows.get(key)
    name = check.check_id if check is not None else key[1]
    return Change(index=index, kind=kind, node_name=node_name, id=name, deleted=check is None, check=check)

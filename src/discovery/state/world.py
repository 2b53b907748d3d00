"""All tables of one state together: made empty, filled from a snapshot, and captured into one."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from .autopilot import Autopilot
from .catalog import Catalog
from .catalog_reads import CatalogReads
from .config_entries import ConfigEntries
from .coordinates import Coordinates
from .intentions import Intentions
from .kv import KVStore
from .queries import Queries
from .sessions import Sessions, SessionTable
from .snapshot import IndexRow, InvalidSnapshot, Reader, RestoreRow, ServiceRow, Snapshot, TopicRow, in_order
from .tables import Changes, Topics
from .watches import PREFIX

_ALL_KEYS: Final = (PREFIX, "")
"""Under this topic a snapshot says when any key last changed."""


class World:
    def __init__(self, changes: Changes) -> None:
        self.topics = Topics(changes)
        sessions = SessionTable(changes)
        self.kv = KVStore(changes, sessions.rows)
        self.queries = Queries(changes, self.topics, sessions.rows)
        self.sessions = Sessions(changes, self.topics, sessions, (self.kv.end_session, self.queries.end_session))
        self.coordinates = Coordinates(changes, self.topics)
        self.catalog = Catalog(changes, self.topics, self.sessions, self.coordinates)
        self.config_entries = ConfigEntries(changes, self.topics)
        self.intentions = Intentions(changes, self.topics)
        self.autopilot = Autopilot(changes, self.topics)
        self.reads = CatalogReads(self.catalog, self.topics, self.config_entries)

    def reap(self, index: int) -> None:
        """Forget what ended at or below `index`."""
        self.kv.reap(index)
        self.topics.reap(index)

    def has_ended(self, index: int) -> bool:
        """Whether `reap(index)` would have anything to do."""
        return self.kv.graveyard.reaches(index) or self.topics.reaches(index)

    def capture(self, index: int, restore: list[RestoreRow]) -> Snapshot:
        """Views of all tables; `restore` are the pieces of a restore that is going on."""
        entries = self.kv.ordered.view()
        key_marks, tree_marks = self.kv.graveyard.keys.ordered.view(), self.kv.graveyard.trees.ordered.view()
        topics, gone = self.topics.live.copy(), self.topics.gone.copy()
        topics[_ALL_KEYS] = self.kv.newest
        services = self.catalog.services.rows.copy()
        tables: dict[str, dict[Any, Any]] = {
            "nodes": self.catalog.nodes.rows.copy(),
            "checks": self.catalog.checks.rows.copy(),
            "sessions": self.sessions.table.rows.copy(),
            "coordinates": self.coordinates.table.rows.copy(),
            "queries": self.queries.table.rows.copy(),
            "config_entries": self.config_entries.table.rows.copy(),
            "intentions": self.intentions.table.rows.copy(),
            "autopilot": self.autopilot.table.rows.copy(),
        }
        return Snapshot(
            index,
            {
                "topics": lambda: (TopicRow(topic, topics[topic]) for topic in in_order(topics)),
                "gone_topics": lambda: (TopicRow(topic, gone[topic]) for topic in in_order(gone)),
                "kv": entries.rows,
                "key_tombstones": lambda: (IndexRow(*item) for item in key_marks.items()),
                "tree_tombstones": lambda: (IndexRow(*item) for item in tree_marks.items()),
                "services": lambda: (ServiceRow(key[0], services[key]) for key in in_order(services)),
                "restore": lambda: restore,
                **{name: _ordered(rows) for name, rows in tables.items()},
            },
        )


def _ordered(rows: dict[Any, Any]) -> Any:
    return lambda: (rows[key] for key in in_order(rows))


class Loading:
    """A state on its way in from a snapshot, beside the one that is in use: another thread may work on it."""

    def __init__(self, changes: Changes) -> None:
        self.world = World(changes)
        self.restore: list[RestoreRow] = []
        """The pieces of a restore that was going on."""
        self._reader = Reader(self._take)
        self._takers: Final = self._make_takers()

    def feed(self, piece: bytes) -> None:
        """The next piece of the snapshot, cut anywhere; raises `InvalidSnapshot`."""
        self._reader.feed(piece)

    def finish(self) -> int:
        """The state index of the whole snapshot; raises `InvalidSnapshot` if it is not whole."""
        index = self._reader.finish()
        self.world.kv.graveyard.loaded()
        return index

    def _take(self, section: str, rows: list[Any]) -> None:
        try:
            self._takers[section](rows)
        except ValueError as error:
            raise InvalidSnapshot(f"{section}: {error}") from None

    def _make_takers(self) -> Mapping[str, Callable[[list[Any]], None]]:
        world = self.world
        catalog, graveyard = world.catalog, world.kv.graveyard
        return {
            "topics": self._take_topics,
            "gone_topics": lambda rows: world.topics.gone.update({row.topic: row.index for row in rows}),
            "kv": world.kv.load,
            "key_tombstones": lambda rows: graveyard.keys.load((row.name, row.index) for row in rows),
            "tree_tombstones": lambda rows: graveyard.trees.load((row.name, row.index) for row in rows),
            "nodes": catalog.load_nodes,
            "services": lambda rows: catalog.load_services((row.node, row.service) for row in rows),
            "checks": catalog.load_checks,
            "sessions": lambda rows: world.sessions.table.load({row.id: row for row in rows}),
            "coordinates": world.coordinates.load,
            "queries": world.queries.load,
            "config_entries": world.config_entries.load,
            "intentions": world.intentions.load,
            "autopilot": world.autopilot.load,
            "restore": self.restore.extend,
        }

    def _take_topics(self, rows: list[TopicRow]) -> None:
        topics = {row.topic: row.index for row in rows}
        self.world.kv.newest = topics.pop(_ALL_KEYS, self.world.kv.newest)
        self.world.topics.live.update(topics)

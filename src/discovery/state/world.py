"""All tables of one state together: made empty or from a snapshot, and captured into one."""

from typing import Any

from .autopilot import Autopilot
from .catalog import Catalog
from .catalog_reads import CatalogReads
from .config_entries import ConfigEntries
from .coordinates import Coordinates
from .intentions import Intentions
from .kv import KVStore
from .lookup import fold
from .queries import Queries
from .sessions import Sessions, SessionTable
from .snapshot import Contents, IndexRow, InvalidSnapshot, RestoreRow, ServiceRow, Snapshot
from .tables import Changes, Indexes


class World:
    def __init__(self, changes: Changes, contents: Contents | None = None) -> None:
        self.indexes = Indexes(changes)
        sessions = SessionTable(changes)
        self.kv = KVStore(changes, self.indexes, sessions.rows)
        self.queries = Queries(changes, self.indexes, sessions.rows)
        self.sessions = Sessions(changes, self.indexes, sessions, (self.kv.end_session, self.queries.end_session))
        self.coordinates = Coordinates(changes, self.indexes)
        self.catalog = Catalog(changes, self.indexes, self.sessions, self.coordinates)
        self.config_entries = ConfigEntries(changes, self.indexes)
        self.intentions = Intentions(changes, self.indexes)
        self.autopilot = Autopilot(changes)
        self.reads = CatalogReads(self.catalog, self.indexes, self.config_entries)
        if contents is not None:
            self._load(contents.rows)

    def _load(self, rows: dict[str, list[Any]]) -> None:
        _check(rows)
        self.indexes.load({row.name: row.index for row in rows["indexes"]})
        self.kv.load(rows["kv"])
        self.kv.graveyard.load(
            {row.name: row.index for row in rows["key_tombstones"]}, {row.name: row.index for row in rows["tree_tombstones"]}
        )
        self.catalog.load(rows["nodes"], [(row.node, row.service) for row in rows["services"]], rows["checks"])
        self.sessions.table.load({row.id: row for row in rows["sessions"]})
        self.coordinates.load(rows["coordinates"])
        self.queries.load(rows["queries"])
        self.config_entries.load(rows["config_entries"])
        self.intentions.load(rows["intentions"])
        self.autopilot.load(rows["autopilot"])

    def capture(self, index: int, restore: list[RestoreRow]) -> Snapshot:
        """Copies of all tables; `restore` are the pieces of a restore that is going on."""
        entries, keys = self.kv.rows.copy(), self.kv.names()
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
        numbers = {
            "indexes": self.indexes.rows.copy(),
            "key_tombstones": self.kv.graveyard.keys.rows.copy(),
            "tree_tombstones": self.kv.graveyard.trees.rows.copy(),
        }
        return Snapshot(
            index,
            {
                "kv": lambda: map(entries.__getitem__, keys),
                "services": lambda: (ServiceRow(key[0], services[key]) for key in sorted(services)),
                "restore": lambda: restore,
                **{name: _ordered(rows) for name, rows in tables.items()},
                **{name: _numbered(rows) for name, rows in numbers.items()},
            },
        )


def _check(rows: dict[str, list[Any]]) -> None:
    """Refuse what the tables could not live with, however it came about."""
    nodes = {fold(node.node) for node in rows["nodes"]}
    for row in (*rows["services"], *rows["checks"]):
        if fold(row.node) not in nodes:
            raise InvalidSnapshot(f'node "{row.node}" is missing')
    for entry in rows["config_entries"]:
        if not {"Kind", "Name", "CreateIndex", "ModifyIndex"} <= entry.keys():
            raise InvalidSnapshot("a config entry is incomplete")


def _ordered(rows: dict[Any, Any]) -> Any:
    return lambda: (rows[key] for key in sorted(rows))


def _numbered(rows: dict[str, int]) -> Any:
    return lambda: (IndexRow(name, rows[name]) for name in sorted(rows))

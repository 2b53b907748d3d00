"""Network coordinates of nodes, one for each segment a node is in."""

from collections.abc import Container, Iterable
from typing import Final

from discovery.model.query import Read
from discovery.model.records import Coordinate, NodeCoordinate

from .lookup import fold
from .tables import Changes, Group, Indexes, Table

COORDINATES: Final = "coordinates"


class Coordinates:
    def __init__(self, changes: Changes, indexes: Indexes) -> None:
        self._of_node: Group[str, tuple[str, str], NodeCoordinate] = Group(lambda key, _row: [key[0]])
        self.table: Table[tuple[str, str], NodeCoordinate] = Table(changes, self._of_node)
        self._changes = changes
        self._indexes = indexes

    def update(self, updates: Iterable[tuple[str, str, Coordinate]], nodes: Container[str]) -> None:
        """Take up those of known nodes; `nodes` are folded names."""
        for node, segment, coordinate in updates:
            key = (fold(node), segment)
            row = NodeCoordinate(node=node, segment=segment, coord=coordinate)
            if key[0] in nodes and self.table.rows.get(key) != row:
                self.table.put(key, row)
                self._touch(key[0])

    def forget(self, node: str) -> None:
        for key in sorted(self._of_node[node]):
            self.table.remove(key)
            self._touch(node)

    def _touch(self, node: str) -> None:
        self._indexes.move(COORDINATES)
        self._changes.topics += [(COORDINATES,), ("coordinate", node)]

    def list_all(self) -> Read[list[NodeCoordinate]]:
        return Read(self._indexes.newest(COORDINATES), self._rows(self.table.rows), ((COORDINATES,),))

    def of_node(self, node: str) -> Read[list[NodeCoordinate]]:
        name = fold(node)
        return Read(self._indexes.newest(COORDINATES), self._rows(self._of_node[name]), (("coordinate", name),))

    def _rows(self, keys: Iterable[tuple[str, str]]) -> list[NodeCoordinate]:
        return [self.table.rows[key] for key in sorted(keys)]

    def load(self, rows: Iterable[NodeCoordinate]) -> None:
        self.table.load({(fold(row.node), row.segment): row for row in rows})

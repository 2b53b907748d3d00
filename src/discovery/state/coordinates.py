"""Network coordinates of nodes, one for each segment a node is in."""

from collections.abc import Container, Iterable
from typing import Final

from discovery.model.query import Read, Topic
from discovery.model.records import Coordinate, NodeCoordinate

from .lookup import fold
from .tables import Changes, Group, Table, Topics

COORDINATES: Final = ("coordinates",)


def coordinate_topic(node: str) -> Topic:
    return ("coordinate", node)


class Coordinates:
    def __init__(self, changes: Changes, topics: Topics) -> None:
        self._of_node: Group[str, tuple[str, str], NodeCoordinate] = Group(lambda key, _row: [key[0]], by_key=True)
        self.table: Table[tuple[str, str], NodeCoordinate] = Table(changes, self._of_node)
        self._topics = topics

    def update(self, updates: Iterable[tuple[str, str, Coordinate]], nodes: Container[str]) -> None:
        """Take up those of known nodes; `nodes` are folded names."""
        for node, segment, coordinate in updates:
            key = (fold(node), segment)
            row = NodeCoordinate(node=node, segment=segment, coord=coordinate)
            if key[0] in nodes and self.table.rows.get(key) != row:
                self.table.put(key, row)
                self._topics.touch(COORDINATES, coordinate_topic(key[0]))

    def forget(self, node: str) -> None:
        """`node` is folded; it is gone."""
        keys = sorted(self._of_node[node])
        for key in keys:
            self.table.remove(key)
        if keys:
            self._topics.touch(COORDINATES)
            self._topics.end(coordinate_topic(node))

    def list_all(self) -> Read[list[NodeCoordinate]]:
        return self._topics.read(self._rows(self.table.rows), COORDINATES)

    def of_node(self, node: str) -> Read[list[NodeCoordinate]]:
        name = fold(node)
        return self._topics.read(self._rows(self._of_node[name]), coordinate_topic(name))

    def _rows(self, keys: Iterable[tuple[str, str]]) -> list[NodeCoordinate]:
        return [self.table.rows[key] for key in sorted(keys)]

    def load(self, rows: Iterable[NodeCoordinate]) -> None:
        self.table.load({(fold(row.node), row.segment): row for row in rows})

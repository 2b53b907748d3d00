"""How far two nodes are apart.

Every node has a Vivaldi coordinate (Dabek et al., "Vivaldi: a decentralized network coordinate system"; with the height and
adjustment terms of Consul's). The distance of two is an estimate of the round-trip time in seconds.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from .records import Coordinate, NodeCoordinate

T = TypeVar("T")


def distance(a: Coordinate, b: Coordinate) -> float:
    """Seconds. The adjustment counts only as long as it leaves the distance positive."""
    raw = math.dist(a.vec, b.vec) + a.height + b.height
    adjusted = raw + a.adjustment + b.adjustment
    return adjusted if adjusted > 0 else raw


def nearest_first(items: list[T], node_of: Callable[[T], str], near: str, coordinates: Iterable[NodeCoordinate]) -> list[T]:
    """`items` by distance from the node `near`; nodes without a coordinate last. Unchanged if that node has none."""
    at = {entry.node: entry.coord for entry in coordinates}
    origin = at.get(near)
    if origin is None:
        return items

    def seconds(item: T) -> float:
        place = at.get(node_of(item))
        return distance(origin, place) if place is not None and len(place.vec) == len(origin.vec) else math.inf

    return sorted(items, key=seconds)

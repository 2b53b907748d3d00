"""Order by network distance.

Every node has a Vivaldi coordinate (Dabek et al., "Vivaldi: a decentralized network coordinate system"; with the height and
adjustment terms of Consul's). The distance of two is an estimate of the round-trip time in seconds.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from discovery.model.records import Coordinate, NodeCoordinate
from discovery.model.requests import DCSpecificRequest, IndexedCoordinates

from .call import Call

T = TypeVar("T")


def distance(a: Coordinate, b: Coordinate) -> float:
    """Seconds. The adjustment counts only as long as it leaves the distance positive."""
    raw = math.dist(a.vec, b.vec) + a.height + b.height
    adjusted = raw + a.adjustment + b.adjustment
    return adjusted if adjusted > 0 else raw


async def nearest_first(call: Call, items: list[T], node_of: Callable[[T], str]) -> list[T]:
    """`items` by distance from the node that `?near` names; nodes without a coordinate last; else unchanged."""
    if not call.near or not items:
        return items
    request = DCSpecificRequest(datacenter=call.datacenter, token=call.token)
    known: IndexedCoordinates = await call.ask("Coordinate.ListNodes", request)
    return sort_by_distance(items, node_of, call.near, known.coordinates)


def sort_by_distance(items: list[T], node_of: Callable[[T], str], near: str, coordinates: Iterable[NodeCoordinate]) -> list[T]:
    at = {entry.node: entry.coord for entry in coordinates}
    origin = at.get(near)
    if origin is None:
        return items

    def seconds(item: T) -> float:
        place = at.get(node_of(item))
        return distance(origin, place) if place is not None and len(place.vec) == len(origin.vec) else math.inf

    return sorted(items, key=seconds)

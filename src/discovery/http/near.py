"""Order by network distance."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from discovery.model.distance import distance
from discovery.model.records import NodeCoordinate
from discovery.model.requests import DCSpecificRequest, IndexedCoordinates

from .call import Call

T = TypeVar("T")


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

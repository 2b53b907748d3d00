"""Order by network distance."""

from collections.abc import Callable
from typing import TypeVar

from discovery.model.distance import nearest_first as by_distance
from discovery.model.requests import DCSpecificRequest, IndexedCoordinates

from .call import Call

T = TypeVar("T")


async def nearest_first(call: Call, items: list[T], node_of: Callable[[T], str]) -> list[T]:
    """`items` by distance from the node that `?near` names; nodes without a coordinate last; else unchanged."""
    if not call.near or not items:
        return items
    request = DCSpecificRequest(datacenter=call.datacenter, token=call.token)
    known: IndexedCoordinates = await call.ask("Coordinate.ListNodes", request)
    return by_distance(items, node_of, call.near, known.coordinates)

"""`/v1/coordinate/`: where nodes are on the network."""

import math
from typing import Final

from discovery.model.errors import DiscoveryError, RequestFailed
from discovery.model.records import NodeCoordinate
from discovery.model.requests import (
    CoordinateUpdateRequest,
    DatacenterMap,
    DCSpecificRequest,
    Empty,
    IndexedCoordinates,
    NodeSpecificRequest,
)

from .call import DONE, Call
from .decoding import Decoder
from .encoding import Reply
from .operation import COMMON, READ, describes

DIMENSIONS: Final = 8
_update_body: Final = Decoder(CoordinateUpdateRequest)


def _check_enabled(call: Call) -> None:
    if not call.api.options.coordinates:
        raise DiscoveryError("Coordinate support disabled", status=401)


@describes("Lists where the servers of all datacenters are.", params=COMMON, reply=list[DatacenterMap])
async def datacenters(call: Call) -> Reply:
    _check_enabled(call)
    return call.json(await call.ask("Coordinate.ListDatacenters", Empty()))


@describes("Lists where nodes are.", params=(*READ, "segment"), reply=list[NodeCoordinate])
async def nodes(call: Call) -> Reply:
    _check_enabled(call)
    reply: IndexedCoordinates
    reply, terms = await call.ask_read("Coordinate.ListNodes", DCSpecificRequest(source=call.source(), **call.read()))
    return call.read_reply(_of_segment(call, reply), reply, terms=terms)


@describes("Reads where a node is.", rest="{node}", params=(*READ, "segment"), reply=list[NodeCoordinate])
async def node(call: Call) -> Reply:
    _check_enabled(call)
    reply: IndexedCoordinates
    reply, terms = await call.ask_read("Coordinate.Node", NodeSpecificRequest(node=call.rest, **call.read()))
    found = _of_segment(call, reply)
    return call.read_reply(found, reply, terms=terms) if found else call.not_found(reply, terms)


def _of_segment(call: Call, reply: IndexedCoordinates) -> list[NodeCoordinate]:
    wanted = call.params.get("segment")
    return [entry for entry in reply.coordinates if "segment" not in call.params or entry.segment == wanted]


@describes("Tells where a node is.", params=COMMON, body=CoordinateUpdateRequest)
async def update(call: Call) -> Reply:
    _check_enabled(call)
    body = await call.decode(_update_body)
    coord = body.coord
    if coord is None or len(coord.vec) != DIMENSIONS:
        raise RequestFailed("incompatible coordinate")
    if not all(map(math.isfinite, (*coord.vec, coord.error, coord.adjustment, coord.height))):
        raise RequestFailed("invalid coordinate")
    request = CoordinateUpdateRequest(node=body.node, segment=body.segment, coord=coord, **call.scope())
    await call.ask("Coordinate.Update", request)
    return DONE

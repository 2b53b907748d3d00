"""The other datacenters, as the WAN pool shows them: how far away they are, and who is asked there.

Source: Consul documentation (`catalog/datacenters`, `coordinate/datacenters`): datacenters are sorted by the median of the
distances to their servers.
"""

import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from discovery.model.distance import distance
from discovery.model.records import Coordinate, NodeCoordinate, Record
from discovery.model.requests import DatacenterMap
from discovery.transport.datacenters import DatacenterForwarder

from .members import ALIVE, Member, ServerMember, as_server


class WanPool(msgspec.Struct, frozen=True):
    """What a server asks of the WAN pool. The defaults are a server that is in none."""

    members: Callable[[], Iterable[Member]] = tuple
    coordinate_of: Callable[[str], Coordinate | None] = lambda name: None
    """Of a member, this server included, by its name in the pool."""


class Datacenters:
    """Knows every datacenter; `own` is ours, `own_name` this server's name in the WAN pool."""

    def __init__(self, own: str, own_name: str, pool: WanPool, forwarder: DatacenterForwarder) -> None:
        self._own = own
        self._own_name = own_name
        self._pool = pool
        self._forwarder = forwarder

    def changed(self) -> None:
        """The members of the WAN pool are others now."""
        addresses: dict[str, list[str]] = {}
        for _, server in self._servers():
            if server.datacenter != self._own and server.status == ALIVE:
                addresses.setdefault(server.datacenter, []).append(server.rpc_address)
        self._forwarder.update(addresses)

    async def call(self, datacenter: str, method: str, request: Record) -> Any:
        """Another datacenter's reply; raises `DiscoveryError`, `NoPathToDatacenter` among others."""
        return await self._forwarder.call(datacenter, method, request)

    def others(self) -> list[str]:
        """Those to which there is a way."""
        return self._forwarder.datacenters()

    def reachable(self) -> list[str]:
        """The others to which there is a way, the nearest first."""
        ways = set(self.others())
        return [name for name in self.names() if name in ways]

    def names(self) -> list[str]:
        """All that are known, the nearest first."""
        origin = self._pool.coordinate_of(self._own_name)
        distances: dict[str, list[float]] = {self._own: [0.0]}
        for name, server in self._servers():
            if server.datacenter != self._own:
                distances.setdefault(server.datacenter, []).append(_distance(origin, self._pool.coordinate_of(name)))
        return sorted(distances, key=lambda datacenter: (statistics.median(distances[datacenter]), datacenter))

    def maps(self) -> list[DatacenterMap]:
        """The coordinates of the servers of each datacenter."""
        nodes: dict[str, list[NodeCoordinate]] = {self._own: []}
        for name, server in self._servers():
            known = nodes.setdefault(server.datacenter, [])
            coordinate = self._pool.coordinate_of(name)
            if coordinate is not None:
                known.append(NodeCoordinate(node=name.removesuffix(f".{server.datacenter}"), coord=coordinate))
        return [DatacenterMap(datacenter=name, area_id="wan", coordinates=nodes[name]) for name in sorted(nodes)]

    def _servers(self) -> Iterable[tuple[str, ServerMember]]:
        """With the names they have in the WAN pool."""
        for member in self._pool.members():
            server = as_server(member)
            if server is not None:
                yield member.name, server


def _distance(origin: Coordinate | None, place: Coordinate | None) -> float:
    if origin is None or place is None or len(origin.vec) != len(place.vec):
        return math.inf
    return distance(origin, place)

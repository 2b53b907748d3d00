"""Endpoints about the cluster itself: status, Raft configuration, server health, datacenters, coordinates, events, renewals."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, RequestFailed
from discovery.model.records import Coordinate, RaftServer
from discovery.model.service_rules import several_errors
from discovery.state.store import StateStore

from .autopilot import Autopilot
from .datacenters import Datacenters
from .endpoints import Endpoints
from .keyrings import Keyrings
from .members import Member, servers_of
from .replica import Replica
from .sessions import SessionTimers
from .writes import require_uuid

COORDINATE_UPDATE_PERIOD: Final = 5.0
"""Between the commands that write the coordinates which came in meanwhile."""
COORDINATE_BATCH_SIZE: Final = 640
COORDINATE_DIMENSIONS: Final = 8


class OperatorEndpoints:
    """Adds its endpoints to `endpoints`; `members` gives the LAN pool, `fire` gossips a user event."""

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        replica: Replica,
        store: StateStore,
        sessions: SessionTimers,
        autopilot: Autopilot,
        datacenter: str,
        members: Callable[[], Iterable[Member]],
        coordinate_of: Callable[[str], Coordinate | None],
        fire: Callable[[str, bytes], None],
        datacenters: Datacenters,
        keyrings: Keyrings,
        coordinate_update_period: float,
    ) -> None:
        self._replica = replica
        self._store = store
        self._sessions = sessions
        self._autopilot = autopilot
        self._datacenter = datacenter
        self._members = members
        self._coordinate_of = coordinate_of
        self._coordinate_update_period = coordinate_update_period
        self._fire = fire
        self._all_datacenters = datacenters
        self._updates: dict[tuple[str, str], Coordinate] = {}
        anywhere: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "Status.Ping": self._ping,
            "Status.Leader": self._leader,
            "Status.Peers": self._peers,
            "Status.RaftStats": self._raft_stats,
            "Catalog.ListDatacenters": self._datacenters,
            "Coordinate.ListDatacenters": self._datacenter_coordinates,
            "Internal.EventFire": self._event_fire,
            "Internal.KeyringOperation": keyrings.operation,
        }
        at_the_leader: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "Coordinate.Update": self._coordinate_update,
            "Session.Renew": self._session_renew,
            "Operator.RaftRemovePeerByAddress": self._remove_by_address,
            "Operator.RaftRemovePeerByID": self._remove_by_id,
            "Operator.ServerHealth": self._server_health,
            "Operator.AutopilotState": self._autopilot_state,
            "Operator.TransferLeader": self._transfer_leader,
        }
        for method, handler in anywhere.items():
            endpoints.serve(method, handler, anywhere=True)
        for method, handler in at_the_leader.items():
            endpoints.serve(method, handler)
        endpoints.serve("Operator.RaftGetConfiguration", self._raft_configuration, stale=True)

    # --- status ------------------------------------------------------------------------------------------------------

    async def _ping(self, _request: r.Empty) -> r.Empty:
        return r.Empty()

    async def _leader(self, _request: r.DCSpecificRequest) -> str:
        return self._replica.leader_address

    async def _peers(self, _request: r.DCSpecificRequest) -> list[str]:
        return sorted(server.address for server in self._replica.configuration.servers)

    async def _raft_stats(self, _request: r.Empty) -> r.RaftStatsReply:
        stats = self._replica.stats()
        return r.RaftStatsReply(
            last_contact=stats["last_contact"], last_term=int(stats["last_log_term"]), last_index=int(stats["last_log_index"])
        )

    async def _datacenters(self, _request: r.QueryOptions) -> list[str]:
        return self._all_datacenters.names()

    # --- coordinates and events --------------------------------------------------------------------------------------

    async def _datacenter_coordinates(self, _request: r.Empty) -> list[r.DatacenterMap]:
        return self._all_datacenters.maps()

    async def _coordinate_update(self, request: r.CoordinateUpdateRequest) -> r.Empty:
        coordinate = request.coord
        if coordinate is None or len(coordinate.vec) != COORDINATE_DIMENSIONS or not _finite(coordinate):
            raise RequestFailed("incompatible coordinate")
        self._updates[(request.node, request.segment)] = coordinate
        return r.Empty()

    async def flush_coordinates(self) -> None:
        """While leading: write the coordinates that came in, many in one command."""
        while True:
            await asyncio.sleep(self._coordinate_update_period)
            if not self._replica.leader_ready:
                self._updates.clear()
                continue
            batch = [(node, segment, coord) for (node, segment), coord in self._updates.items()][:COORDINATE_BATCH_SIZE]
            self._updates.clear()
            if batch:
                try:
                    await self._replica.propose(c.CoordinateBatch(batch))
                except DiscoveryError:
                    # Coordinates come again every few seconds; those of a lost leadership are not missed.
                    continue

    async def _event_fire(self, request: r.EventFireRequest) -> r.QueryMeta:
        try:
            self._fire(request.name, request.payload or b"")
        except RequestFailed as error:
            problem = f'error broadcasting event to segment "": {error.text}'
            raise RequestFailed(several_errors([problem])) from None
        return r.QueryMeta(known_leader=self._replica.known_leader)

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def _session_renew(self, request: r.SessionSpecificRequest) -> r.IndexedSessions:
        session_id = request.session_id or request.session
        require_uuid(session_id, "session")
        read = self._store.session_get(session_id)
        if read.value is not None:
            self._sessions.renew(read.value)
        return r.IndexedSessions(
            index=read.index or 1,
            known_leader=self._replica.known_leader,
            sessions=[] if read.value is None else [read.value],
        )

    # --- operator ----------------------------------------------------------------------------------------------------

    async def _raft_configuration(self, _request: r.DCSpecificRequest) -> r.RaftConfigurationResponse:
        names = {server.id: server.name for server in servers_of(self._members(), self._datacenter)}
        leader = self._replica.leader_address
        return r.RaftConfigurationResponse(
            servers=[
                RaftServer(
                    id=server.id,
                    node=names.get(server.id, "(unknown)"),
                    address=server.address,
                    leader=server.address == leader,
                    protocol_version="3",
                    voter=server.voter,
                )
                for server in self._replica.configuration.servers
            ],
        )

    async def _remove_by_address(self, request: r.RaftRemovePeerRequest) -> r.Empty:
        for server in self._replica.configuration.servers:
            if server.address == request.address:
                await self._replica.remove_server(server.id)
                return r.Empty()
        raise RequestFailed(f'address "{request.address}" was not found in the Raft configuration')

    async def _remove_by_id(self, request: r.RaftRemovePeerRequest) -> r.Empty:
        if self._replica.configuration.get(request.id) is None:
            raise RequestFailed(f'id "{request.id}" was not found in the Raft configuration')
        await self._replica.remove_server(request.id)
        return r.Empty()

    async def _server_health(self, _request: r.DCSpecificRequest) -> r.OperatorHealthReply:
        return self._autopilot.health()

    async def _autopilot_state(self, _request: r.DCSpecificRequest) -> r.AutopilotState:
        return self._autopilot.state()

    async def _transfer_leader(self, request: r.TransferLeaderRequest) -> r.TransferLeaderResponse:
        """An unknown target is refused; if the target does not take over in time, we go on and say so."""
        if request.id and self._replica.configuration.get(request.id) is None:
            raise RequestFailed(f'id "{request.id}" was not found in the Raft configuration')
        await self._replica.transfer_leadership(request.id or None)
        return r.TransferLeaderResponse(success=True)


def _finite(coordinate: Coordinate) -> bool:
    return all(map(math.isfinite, (*coordinate.vec, coordinate.error, coordinate.adjustment, coordinate.height)))

"""Running prepared queries: the instances they stand for here, or, where there are none, in another datacenter.

Source: Consul documentation (prepared queries: `Failover`, `Near`, `Tags`); what Consul 1.8.7 answers.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from discovery.model import requests as r
from discovery.model.distance import nearest_first
from discovery.model.errors import DiscoveryError
from discovery.model.records import CheckServiceNode, PreparedQuery, QueryService, Record
from discovery.state.store import StateStore

_log = logging.getLogger(__name__)

_AGENT: Final = "_agent"
_ADDRESS: Final = "_ip"
_FRONT: Final = 10
"""How many of the nearest are looked through for the very node that the order is about."""


class PreparedQueries:
    """`elsewhere` asks another datacenter; `others` are the other datacenters to which there is a way, the nearest first."""

    def __init__(
        self,
        *,
        store: StateStore,
        datacenter: str,
        rng: random.Random,
        elsewhere: Callable[[str, str, Record], Awaitable[Any]],
        others: Callable[[], Sequence[str]],
    ) -> None:
        self._store = store
        self._datacenter = datacenter
        self._rng = rng
        self._elsewhere = elsewhere
        self._others = others

    async def execute(self, query: PreparedQuery, request: r.PreparedQueryExecuteRequest) -> r.PreparedQueryExecuteResponse:
        """The answer, but for how fresh it is."""
        nodes = self._in_order(self._instances(query.service, connect=request.connect), query.service.near, request)
        if nodes:
            return self._response(query, nodes, request.limit)
        return await self._fail_over(query, request)

    def execute_for_another(self, request: r.PreparedQueryExecuteRemoteRequest) -> r.PreparedQueryExecuteResponse:
        """The same for a server of another datacenter, which knows the query; the order is left to chance."""
        query = request.query
        return self._response(query, self._instances(query.service, connect=request.connect), request.limit)

    def _response(self, query: PreparedQuery, nodes: list[CheckServiceNode], limit: int) -> r.PreparedQueryExecuteResponse:
        shown = nodes[:limit] if limit > 0 else nodes
        return r.PreparedQueryExecuteResponse(
            service=query.service.service, nodes=shown, dns=query.dns, datacenter=self._datacenter
        )

    # --- here --------------------------------------------------------------------------------------------------------

    def _instances(self, wanted: QueryService, *, connect: bool) -> list[CheckServiceNode]:
        """By health, tags and metadata, shuffled. None if a template came to no name."""
        if not wanted.service:
            return []
        nodes = self._store.check_service_nodes(
            wanted.service, tags=[], connect=wanted.connect or connect, ingress=False, meta=wanted.node_meta
        ).value
        ignored = set(wanted.ignore_check_ids or ())
        chosen = [node for node in nodes if _accepts(node, wanted, ignored)]
        self._rng.shuffle(chosen)
        return chosen

    def _in_order(
        self, nodes: list[CheckServiceNode], near: str, request: r.PreparedQueryExecuteRequest
    ) -> list[CheckServiceNode]:
        """The nearest first, if the caller or else the query says to what; that node itself before all others."""
        source = request.source
        if source.datacenter not in ("", self._datacenter):
            return nodes
        origin = self._origin(source.node or near, request)
        if not origin or not nodes:
            return nodes
        nodes = nearest_first(nodes, lambda item: item.node.node, origin, self._store.coordinates().value)
        for place, item in enumerate(nodes[:_FRONT]):
            if item.node.node == origin:
                return [item, *nodes[:place], *nodes[place + 1 :]]
        return nodes

    def _origin(self, name: str, request: r.PreparedQueryExecuteRequest) -> str:
        """The node that is meant: the agent that was asked also where nobody has the caller's address."""
        if name == _ADDRESS:
            named = (node.node for node in self._store.nodes().value if node.address == request.source.ip)
            return next(named, request.agent.node)
        return request.agent.node if name == _AGENT else name

    # --- elsewhere ---------------------------------------------------------------------------------------------------

    async def _fail_over(self, query: PreparedQuery, request: r.PreparedQueryExecuteRequest) -> r.PreparedQueryExecuteResponse:
        response = self._response(query, [], 0)
        tried = 0
        for datacenter in self._candidates(query.service):
            tried += 1
            try:
                response = await self._elsewhere(
                    datacenter, "PreparedQuery.ExecuteRemote", _passed_on(query, request, datacenter)
                )
            except DiscoveryError as error:
                _log.warning("prepared query for %s fails over past datacenter %s: %s", query.service.service, datacenter, error)
                continue
            if response.nodes:
                break
        return replace(response, failovers=tried)

    def _candidates(self, wanted: QueryService) -> list[str]:
        failover = wanted.failover
        if not failover.nearest_n and not failover.datacenters:
            return []
        known = self._others()
        chosen = list(known[: max(failover.nearest_n, 0)])
        for datacenter in failover.datacenters or ():
            if datacenter in known and datacenter not in chosen:
                chosen.append(datacenter)
        return chosen


def _passed_on(
    query: PreparedQuery, request: r.PreparedQueryExecuteRequest, datacenter: str
) -> r.PreparedQueryExecuteRemoteRequest:
    options = {name: getattr(request, name) for name in r.QueryOptions.__struct_fields__}
    return r.PreparedQueryExecuteRemoteRequest(
        query=query, limit=request.limit, connect=request.connect, **options | {"datacenter": datacenter}
    )


def _accepts(node: CheckServiceNode, wanted: QueryService, ignored: set[str]) -> bool:
    for check in node.checks:
        if check.check_id in ignored:
            continue
        if check.status == "critical" or (wanted.only_passing and check.status != "passing"):
            return False
    tags = {tag.lower() for tag in node.service.tags}
    for tag in wanted.tags or ():
        if tag.startswith("!") == (tag.lstrip("!").lower() in tags):
            return False
    meta = node.service.meta or {}
    return all(meta.get(key) == value for key, value in (wanted.service_meta or {}).items())

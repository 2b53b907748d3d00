"""Alias checks: as well as another service, and the node it is on.

On the same agent they follow its checks as these change; for another node they follow the catalog with blocking reads.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError
from discovery.model.records import CRITICAL, PASSING, WARNING, HealthCheck
from discovery.model.requests import NodeSpecificRequest

from .result import Publish, Result, Spawn, critical, passing

_REFRESH: Final = 60.0
"""Seconds a blocking read lasts, and the longest pause after failures."""
_PATIENCE: Final = 3
_WORSE: Final = {PASSING: 0, WARNING: 1, CRITICAL: 2}


class Checks(Protocol):
    """This agent's services and checks, for aliases of them."""

    def has_service(self, service_id: str) -> bool: ...
    def checks_about(self, service_id: str) -> Iterable[HealthCheck]:
        """Those of the service and those of the node."""

    def watch(self, service_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called whenever `checks_about` or `has_service` would say something else; the result ends that."""


def judge(service_id: str, node: str, has_service: bool, checks: Iterable[HealthCheck], own_id: str) -> Result:
    """The worst of the checks of that service and of its node; `own_id` is the alias itself."""
    relevant = [check for check in checks if check.service_id in ("", service_id) and check.check_id != own_id]
    bad = [check for check in relevant if check.status != PASSING]
    if bad:
        worst = max(bad, key=lambda check: _WORSE.get(check.status, 2))
        return Result(worst.status, f'Aliased check "{worst.name}" failing: {worst.output}')
    if service_id and not has_service:
        return critical(f"Service {service_id} could not be found on node {node}")
    return passing("All checks passing." if relevant else "No checks found.")


class LocalAlias:
    """An alias of a service of this agent."""

    def __init__(self, service_id: str, check_id: str, checks: Checks, limit: int, publish: Publish) -> None:
        """`limit` bounds the output, which could grow without end where aliases alias each other."""
        self._service_id = service_id
        self._check_id = check_id
        self._checks = checks
        self._limit = limit
        self._publish = publish
        self._unwatch: Callable[[], None] | None = None
        self._scheduled: asyncio.Handle | None = None

    def start(self) -> None:
        self._unwatch = self._checks.watch(self._service_id, self._schedule)
        self._schedule()

    def stop(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
        if self._scheduled is not None:
            self._scheduled.cancel()

    def _schedule(self) -> None:
        """Look once in this turn of the loop, however much changes."""
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._scheduled = None
        found = self._checks.has_service(self._service_id)
        result = judge(self._service_id, "", found, self._checks.checks_about(self._service_id), self._check_id)
        self._publish(result.status, result.output[: self._limit])


class RemoteAlias:
    """An alias of a service of another node."""

    def __init__(
        self,
        service_id: str,
        node: str,
        *,
        datacenter: str,
        token: str,
        delegate: Delegate,
        publish: Publish,
        rng: random.Random,
        spawn: Spawn,
    ) -> None:
        self._service_id = service_id
        self._node = node
        self._request = NodeSpecificRequest(
            datacenter=datacenter, token=token, node=node, allow_stale=True, max_query_time=int(_REFRESH * 10**9)
        )
        self._delegate = delegate
        self._publish = publish
        self._rng = rng
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._spawn(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        index, failures = 0, 0
        while True:
            try:
                index = await self._look(index)
                failures = 0
            except DiscoveryError as error:
                index, failures = 0, failures + 1
                self._publish(CRITICAL, f"Failure checking alias: {error.text}")
                await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        over = max(0, failures - _PATIENCE)
        return min(_REFRESH, 2.0**over) * (0.5 + self._rng.random() / 2)

    async def _look(self, index: int) -> int:
        """Publish what the catalog says once it is newer than `index`; returns its index."""
        reply = await self._ask("Health.NodeChecks", index)
        services = await self._ask("Catalog.NodeServices", 0)
        known = (services.node_services and services.node_services.services) or {}
        self._publish(*judge(self._service_id, self._node, self._service_id in known, reply.health_checks, ""))
        return int(reply.index) if reply.index >= index else 0

    async def _ask(self, method: str, index: int) -> Any:
        return await self._delegate.call(method, msgspec.structs.replace(self._request, min_query_index=index))

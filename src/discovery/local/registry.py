"""The tables of this agent's services and checks, and who is told when something in them changes."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from discovery.model.agent import AgentService
from discovery.model.records import CRITICAL, HealthCheck, NodeService

from .entries import Change, CheckEntry, ServiceEntry, shown


class Registry:
    """Keeps what it is given; all rules are elsewhere. Everything is called on the event loop."""

    def __init__(self) -> None:
        self.services: dict[str, ServiceEntry] = {}
        self.checks: dict[str, CheckEntry] = {}
        self.shown: dict[str, AgentService] = {}
        self.changed_hook: Callable[[Change], None] = lambda change: None
        self._check_ids: dict[str, set[str]] = {}
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    # --- reading -----------------------------------------------------------------------------------------------------

    def has_service(self, service_id: str) -> bool:
        return service_id in self.services

    def check_ids_of(self, service_id: str) -> Collection[str]:
        """The checks of a service; of the node, if empty."""
        return self._check_ids.get(service_id, frozenset())

    def checks_about(self, service_id: str) -> Iterable[HealthCheck]:
        """Those of the service and those of the node."""
        return [self.checks[check_id].check for check_id in (*self.check_ids_of(service_id), *self.check_ids_of(""))]

    def health_checks(self) -> Mapping[str, HealthCheck]:
        return {check_id: entry.check for check_id, entry in self.checks.items()}

    # --- writing -----------------------------------------------------------------------------------------------------

    def put_service(self, entry: ServiceEntry) -> None:
        service = entry.service
        before = self.services.get(service.id)
        self.services[service.id] = entry
        self.shown[service.id] = shown(service)
        if before is None or before.service != service:
            self._definition_changed(service.id)
            self._rename_checks(service)
        self._notify(service.id, Change())

    def _rename_checks(self, service: NodeService) -> None:
        """Checks carry the name and tags of their service."""
        for check_id in self.check_ids_of(service.id):
            entry = self.checks[check_id]
            entry.check = msgspec.structs.replace(entry.check, service_name=service.service, service_tags=service.tags)

    def drop_service(self, service_id: str) -> None:
        del self.services[service_id]
        del self.shown[service_id]
        self._definition_changed(service_id)
        self._notify(service_id, Change())

    def put_check(self, entry: CheckEntry, now: float) -> None:
        """A new check, or a new definition for one; how long it has been critical carries over."""
        check = entry.check
        before = self.checks.get(check.check_id)
        if before is not None:
            entry.critical_since = before.critical_since
            self._check_ids[before.check.service_id].discard(check.check_id)
        if check.status == CRITICAL and entry.critical_since is None:
            entry.critical_since = now
        self.checks[check.check_id] = entry
        self._check_ids.setdefault(check.service_id, set()).add(check.check_id)
        if before is None or before.check != check or before.token != entry.token:
            self._notify(check.service_id, Change())

    def set_result(self, check_id: str, status: str, output: str, now: float) -> None:
        entry = self.checks[check_id]
        before = entry.check
        if (before.status, before.output) == (status, output):
            return
        entry.check = msgspec.structs.replace(before, status=status, output=output)
        if status != CRITICAL:
            entry.critical_since = None
        elif before.status != CRITICAL:
            entry.critical_since = now
        self._notify(before.service_id, Change(check_id, output_only=before.status == status))

    def drop_check(self, check_id: str) -> None:
        service_id = self.checks.pop(check_id).check.service_id
        ids = self._check_ids[service_id]
        ids.discard(check_id)
        if not ids:
            del self._check_ids[service_id]
        self._notify(service_id, Change())

    # --- telling -----------------------------------------------------------------------------------------------------

    def watch(self, service_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called when that service, its checks or the node's checks change; the result ends that."""
        self._watchers.setdefault(service_id, []).append(changed)
        return lambda: self._unwatch(service_id, changed)

    def _unwatch(self, service_id: str, changed: Callable[[], None]) -> None:
        watchers = self._watchers.get(service_id, [])
        if changed in watchers:
            watchers.remove(changed)
        if not watchers:
            self._watchers.pop(service_id, None)

    def _notify(self, service_id: str, change: Change) -> None:
        self.changed_hook(change)
        concerned = [self._watchers.get(service_id, [])] if service_id else list(self._watchers.values())
        for watchers in concerned:
            for changed in list(watchers):
                changed()

    async def definition_changed(self, service_id: str) -> None:
        """Return when the definition of that service has changed or gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(service_id, [])
        waiting.append(future)
        try:
            await future
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(service_id) is waiting:
                del self._waiting[service_id]

    def _definition_changed(self, service_id: str) -> None:
        for future in self._waiting.pop(service_id, []):
            if not future.done():
                future.set_result(None)

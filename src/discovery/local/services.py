"""This agent's own services and checks: the truth of which the catalog is a copy.

What is registered here, through files or the API, is validated, kept, persisted and watched; whoever keeps the catalog in step
(`sync`) hears of every change. Registering the same again changes nothing, and registering something again keeps the status
and output that its checks have.

Source: Consul documentation (agent API, service and check definitions) and the observed behaviour of 1.8.
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from discovery.model.agent import AgentService, CheckRun
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError, InvalidRequest, NotFound, RequestFailed
from discovery.model.records import CRITICAL, NODE_MAINTENANCE, SERVICE_MAINTENANCE_PREFIX, HealthCheck
from discovery.telemetry import fields

from .checks.factory import Surroundings, make_runner
from .checks.http import HttpClient
from .checks.periodic import MIN_INTERVAL, Periodic
from .checks.tls import TlsContexts
from .checks.ttl import TtlCheck
from .definitions import FILE, LOCAL, REMOTE, STATUSES, check_scripts_allowed, service_of, type_of
from .difference import canonical_service
from .draining import Drains
from .entries import Change, CheckEntry, Runner, ServiceEntry
from .persist import SavedCheck, SavedService, Store
from .preparing import Prepared, prepare, prepare_check, prepare_files
from .registry import Registry
from .settings import Settings
from .sidecar import sidecar_id
from .states import CheckStates

_log = logging.getLogger(__name__)

REAP_INTERVAL: Final = 5.0
"""Seconds between looks for services that have been critical for too long."""
MIN_REAP_AFTER: Final = 60.0
_NO_REASON: Final = "Maintenance mode is enabled for this {}, but no reason was provided. This is a default message."
_MAINTENANCE_TYPE: Final = "maintenance"


class Local:
    """Everything is called on the event loop; nothing may be registered before `start`.

    `data_dir` None: nothing is persisted. `wall` tells seconds since the epoch, for what has to outlive the process.
    """

    def __init__(
        self,
        settings: Settings,
        delegate: Delegate,
        *,
        data_dir: Path | None,
        rng: random.Random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `OSError` if the data directory can't be used."""
        self._settings = settings
        self._delegate = delegate
        self._rng = rng
        self._store = Store(data_dir)
        self._states = CheckStates(self._store, wall)
        self._http = HttpClient()
        self._tls = TlsContexts(settings.check_tls)
        self._registry = Registry()
        self._drains = Drains(self._store.drains, self, wall)
        self._registered_at: dict[str, float] = {}
        self._wall = wall
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, services: Sequence[ServiceSpec], checks: Sequence[CheckSpec]) -> None:
        """Begin with the definitions from files and with what was registered before; a file wins over what was persisted.

        Raises `DiscoveryError` for a bad definition in a file.
        """
        self.reload_definitions(services, checks)
        for saved_service in self._store.services.load_all():
            self._restore_service(saved_service)
        for saved_check in self._store.checks.load_all():
            self._restore_check(saved_check)
        self._states.forget_all_but(self._registry.checks)
        self._drains.resume()
        self._states.beat()
        self._spawn(self._states.beat_forever())
        self._spawn(self._reap_forever())

    async def close(self) -> None:
        """Stop all checks, and wait for what they started to end. Registrations stay on disk."""
        self._drains.close()
        for entry in self._registry.checks.values():
            _stop(entry.runner)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._states.beat()
        await self._http.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def reconfigure(self, settings: Settings) -> None:
        """New settings, for what is registered or reported from now on."""
        self._settings = settings
        self._tls = TlsContexts(settings.check_tls)

    def on_change(self, changed: Callable[[Change], None]) -> None:
        """Have `changed` called whenever the catalog should say something else."""
        self._registry.changed_hook = changed

    # --- what there is -----------------------------------------------------------------------------------------------

    def services(self) -> Mapping[str, AgentService]:
        return self._registry.shown

    def service(self, service_id: str) -> AgentService | None:
        found = self._registry.shown.get(service_id)
        if found is None:
            return None
        digest = hashlib.blake2b(msgspec.json.encode(found), digest_size=8).hexdigest()
        return msgspec.structs.replace(found, content_hash=digest)

    def checks(self) -> Mapping[str, HealthCheck]:
        return self._registry.health_checks()

    @property
    def service_entries(self) -> Mapping[str, ServiceEntry]:
        return self._registry.services

    @property
    def check_entries(self) -> Mapping[str, CheckEntry]:
        return self._registry.checks

    def registered_at(self, service_id: str) -> float:
        """When the service was last registered through the API, in seconds since the epoch; 0 if that was before the start."""
        return self._registered_at.get(service_id, 0.0)

    async def changed(self, service_id: str) -> None:
        """Return when the definition of that service has changed or gone."""
        await self._registry.definition_changed(service_id)

    # --- services ----------------------------------------------------------------------------------------------------

    def add_service(self, spec: ServiceSpec, *, replace_existing_checks: bool = False) -> None:
        """Register through the API. Raises `DiscoveryError`; if the definition is at fault, nothing has changed."""
        prepared = prepare(spec, REMOTE, self._settings, self._registry.services)
        for one in prepared:
            self._register(one, REMOTE)
            self._registered_at[one.service_id] = self._wall()
        if replace_existing_checks:
            kept = {check.check_id for check in prepared[0].checks}
            for check_id in set(self._registry.check_ids_of(prepared[0].service_id)) - kept:
                self.remove_check(check_id)

    def _register(self, prepared: Prepared, source: str) -> None:
        self._put_service(ServiceEntry(service_of(prepared.spec), prepared.spec.token, source, prepared.sidecar))
        for check in prepared.checks:
            self._put_check(check, source)

    def _put_service(self, entry: ServiceEntry) -> None:
        if self._registry.services.get(entry.service.id) != entry:
            self._save_service(entry)
            self._registry.put_service(entry)

    def _save_service(self, entry: ServiceEntry) -> None:
        if entry.source == FILE:
            self._store.services.remove(entry.service.id)
            return
        saved = SavedService(
            token=entry.token, service=entry.service, source=entry.source, locally_registered_as_sidecar=entry.sidecar
        )
        self._store.services.save(entry.service.id, saved)

    def remove_service(self, service_id: str) -> None:
        """Remove a service with its checks and the sidecar that was made for it; an unknown one is not an error."""
        if not service_id:
            raise RequestFailed("ServiceID missing")
        if service_id not in self._registry.services:
            _log.warning("Failed to deregister service", extra=fields(service=service_id, error="Service does not exist"))
            return
        self._drains.end(service_id)
        self._registered_at.pop(service_id, None)
        self._store.services.remove(service_id)
        for check_id in list(self._registry.check_ids_of(service_id)):
            self.remove_check(check_id)
        self._registry.drop_service(service_id)
        sidecar = self._registry.services.get(sidecar_id(service_id))
        if sidecar is not None and sidecar.sidecar:
            self.remove_service(sidecar.service.id)

    def adopt_tags(self, service_id: str, tags: list[str]) -> None:
        """Take over the tags that the catalog has for a service with `enable_tag_override`."""
        entry = self._registry.services[service_id]
        self._put_service(msgspec.structs.replace(entry, service=msgspec.structs.replace(entry.service, tags=tags)))

    # --- checks ------------------------------------------------------------------------------------------------------

    def add_check(self, spec: CheckSpec) -> None:
        """Register through the API. Raises `DiscoveryError`; if the definition is at fault, nothing has changed."""
        self._put_check(prepare_check(spec, REMOTE, self._settings, self._registry.services), REMOTE)

    def _put_check(self, spec: CheckSpec, source: str, *, restored: bool = False) -> None:
        before = self._registry.checks.get(spec.check_id)
        if before is not None and before.spec == spec and before.source == source:
            if isinstance(before.runner, TtlCheck):
                before.runner.start()
            return
        status, output = self._initial(spec, before, restored)
        if type_of(spec) not in ("ttl", "alias") and spec.interval.seconds < MIN_INTERVAL:
            _log.warning("check has interval below minimum", extra=fields(check=spec.check_id, interval=spec.interval))
        check = self._health_check(spec, type_of(spec), status, output)
        self._keep_check(CheckEntry(check, spec, spec.token, source, self._runner(spec, output)))

    def _initial(self, spec: CheckSpec, before: CheckEntry | None, restored: bool) -> tuple[str, str]:
        """Status and output to begin with: what is known of the check, else what its definition says."""
        if before is not None:
            return before.check.status, before.check.output
        known = self._states.recall(spec)
        if known is not None:
            return known
        return (spec.status or CRITICAL) if not restored else CRITICAL, ""

    def _health_check(self, spec: CheckSpec, kind: str, status: str, output: str) -> HealthCheck:
        entry = self._registry.services.get(spec.service_id)
        return HealthCheck(
            node=self._settings.node_name,
            check_id=spec.check_id,
            name=spec.name,
            status=status,
            notes=spec.notes,
            output=output,
            service_id=spec.service_id,
            service_name=entry.service.service if entry is not None else "",
            service_tags=entry.service.tags if entry is not None else [],
            type=kind,
        )

    def _runner(self, spec: CheckSpec, output: str) -> Runner:
        surroundings = Surroundings(
            node_name=self._settings.node_name,
            datacenter=self._settings.datacenter,
            output_limit=self._settings.check_output_max_size,
            checks=self._registry,
            delegate=self._delegate,
            rng=self._rng,
            http=self._http,
            tls=self._tls,
            spawn=self._spawn,
        )
        return make_runner(spec, output, lambda status, output: self._publish(spec.check_id, status, output), surroundings)

    def _keep_check(self, entry: CheckEntry) -> None:
        check_id = entry.check.check_id
        before = self._registry.checks.get(check_id)
        if before is not None:
            _stop(before.runner)
        self._save_check(entry)
        self._registry.put_check(entry, asyncio.get_running_loop().time())
        if entry.runner is not None:
            entry.runner.start()

    def _save_check(self, entry: CheckEntry) -> None:
        if entry.source == FILE:
            self._store.checks.remove(entry.check.check_id)
            return
        saved = SavedCheck(check=entry.check, chk_type=entry.spec, token=entry.token, source=entry.source)
        self._store.checks.save(entry.check.check_id, saved)

    def _publish(self, check_id: str, status: str, output: str) -> None:
        """A check's result."""
        if status == CRITICAL:
            _log.warning("Check is now critical", extra=fields(check=check_id))
        else:
            _log.debug("Check status updated", extra=fields(check=check_id, status=status))
        kept = "" if self._settings.discard_check_output else output
        entry = self._registry.checks[check_id]
        if status != entry.check.status and not isinstance(entry.runner, TtlCheck):
            self._states.save(check_id, status, kept)
        self._registry.set_result(check_id, status, kept, asyncio.get_running_loop().time())

    def remove_check(self, check_id: str) -> None:
        """Remove a check; an unknown one is not an error."""
        if not check_id:
            raise RequestFailed("CheckID missing")
        entry = self._registry.checks.get(check_id)
        if entry is None:
            return
        _stop(entry.runner)
        self._store.checks.remove(check_id)
        self._states.forget(check_id)
        self._registry.drop_check(check_id)

    def update_ttl(self, check_id: str, status: str, output: str) -> None:
        """What a service says of itself. Raises `RequestFailed` if that is no TTL check."""
        entry = self._registry.checks.get(check_id)
        if entry is None or not isinstance(entry.runner, TtlCheck):
            raise RequestFailed(f'CheckID "{check_id}" does not have associated TTL')
        if status not in STATUSES:
            raise InvalidRequest(f"Invalid check status: '{status}'")
        kept = entry.runner.update(status, output)
        self._states.save_ttl(check_id, status, kept, entry.runner.ttl)

    async def run_check(self, check_id: str) -> CheckRun:
        """Run a check now, beside its schedule. Raises `NotFound`, and `RequestFailed` if it is not one that the agent runs."""
        entry = self._registry.checks.get(check_id)
        if entry is None:
            raise NotFound(f'Unknown check "{check_id}"')
        if not isinstance(entry.runner, Periodic):
            raise RequestFailed(f'CheckID "{check_id}" is not run by the agent: it has no interval')
        result = await entry.runner.run_now()
        present = self._registry.checks.get(check_id, entry)
        return CheckRun(check_id=check_id, status=result.status, output=result.output, published=present.check.status)

    # --- maintenance -------------------------------------------------------------------------------------------------

    def service_maintenance(self, service_id: str, enable: bool, reason: str) -> None:
        """Raises `NotFound`."""
        entry = self._registry.services.get(service_id)
        if entry is None:
            raise NotFound(f'No service registered with ID "{service_id}"')
        spec = CheckSpec(
            check_id=SERVICE_MAINTENANCE_PREFIX + service_id,
            name="Service Maintenance Mode",
            notes=reason or _NO_REASON.format("service"),
            service_id=service_id,
            token=entry.token,
        )
        self._maintenance(spec, enable, "Service")
        if not enable:
            self._drains.end(service_id)

    def drain_service(self, service_id: str, wait: float, reason: str) -> None:
        """Out of health and DNS now, deregistered in `wait` seconds; leaving maintenance ends that. Raises `NotFound`."""
        notes = f"Draining: deregistered in {wait:g}s. {reason}".rstrip()
        self.service_maintenance(service_id, True, notes)
        self._drains.begin(service_id, wait)
        _log.info("Service is draining", extra=fields(service=service_id, wait=f"{wait:g}s"))

    def has_service(self, service_id: str) -> bool:
        return service_id in self._registry.services

    def node_maintenance(self, enable: bool, reason: str) -> None:
        notes = reason or _NO_REASON.format("node")
        self._maintenance(CheckSpec(check_id=NODE_MAINTENANCE, name="Node Maintenance Mode", notes=notes), enable, "Node")

    def _maintenance(self, spec: CheckSpec, enable: bool, what: str) -> None:
        if enable == (spec.check_id in self._registry.checks):
            return
        if enable:
            check = self._health_check(spec, _MAINTENANCE_TYPE, CRITICAL, "")
            self._keep_check(CheckEntry(check, None, spec.token, LOCAL))
        else:
            self.remove_check(spec.check_id)
        _log.info("%s %s maintenance mode", what, "entered" if enable else "left", extra=fields(check=spec.check_id))

    # --- files -------------------------------------------------------------------------------------------------------

    def reload_definitions(self, services: Sequence[ServiceSpec], checks: Sequence[CheckSpec]) -> None:
        """Make the definitions from files these: what is gone is removed, what is the same keeps running, status and all.

        Raises `DiscoveryError` for a bad definition, and then nothing has changed. Of two with the same id the last counts.
        """
        wanted = prepare_files(services, checks, self._settings, self._registry.services)
        for service_id in [key for key, entry in self._registry.services.items() if entry.source == FILE]:
            # A sidecar goes with its service.
            if service_id not in wanted.services and service_id in self._registry.services:
                self.remove_service(service_id)
        check_ids = wanted.check_ids()
        for check_id in [key for key, entry in self._registry.checks.items() if entry.source == FILE]:
            if check_id not in check_ids:
                self.remove_check(check_id)
        for one in wanted.services.values():
            self._register(one, FILE)
        for check in wanted.checks:
            self._put_check(check, FILE)

    # --- what was persisted ------------------------------------------------------------------------------------------

    def _restore_service(self, saved: SavedService) -> None:
        service_id = saved.service.id
        if service_id in self._registry.services:
            _log.debug("service exists, not restoring from disk", extra=fields(service=service_id))
            self._store.services.remove(service_id)
            return
        entry = ServiceEntry(
            canonical_service(saved.service), saved.token, saved.source or REMOTE, saved.locally_registered_as_sidecar
        )
        self._registry.put_service(entry)

    def _restore_check(self, saved: SavedCheck) -> None:
        check = saved.check
        if check.check_id in self._registry.checks or (check.service_id and check.service_id not in self._registry.services):
            _log.debug("check not restored from disk", extra=fields(check=check.check_id, service=check.service_id))
            self._store.checks.remove(check.check_id)
            return
        if saved.chk_type is None:
            restored = msgspec.structs.replace(check, node=self._settings.node_name, service_tags=check.service_tags or [])
            self._keep_check(CheckEntry(restored, None, saved.token, saved.source))
            return
        spec = msgspec.structs.replace(
            saved.chk_type,
            check_id=check.check_id,
            name=check.name,
            notes=check.notes,
            service_id=check.service_id,
            token=saved.token,
        )
        try:
            check_scripts_allowed(spec, REMOTE, self._settings)
        except DiscoveryError as error:
            _log.warning("Failed to restore check", extra=fields(check=check.check_id, error=error.text))
            return
        self._put_check(spec, REMOTE, restored=True)

    # --- what is critical for too long -------------------------------------------------------------------------------

    async def _reap_forever(self) -> None:
        while True:
            await asyncio.sleep(REAP_INTERVAL)
            self._reap(asyncio.get_running_loop().time())

    def _reap(self, now: float) -> None:
        for check_id, entry in list(self._registry.checks.items()):
            service_id, spec = entry.check.service_id, entry.spec
            if spec is None or not service_id or entry.critical_since is None or spec.deregister_critical_service_after <= 0:
                continue
            allowed = max(MIN_REAP_AFTER, spec.deregister_critical_service_after.seconds) + spec.startup_grace.seconds
            if now - entry.critical_since > allowed and service_id in self._registry.services:
                values = fields(service=service_id, check=check_id, timeout=f"{allowed:g}s")
                _log.info("Deregistered service that had a critical check for too long", extra=values)
                self.remove_service(service_id)


def _stop(runner: Runner | None) -> None:
    if runner is not None:
        runner.stop()

"""From a definition to what only has to be carried out: everything that may be refused is refused here."""

from collections.abc import Container, Iterable, Mapping

import msgspec

from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.errors import DiscoveryError, RequestFailed

from .definitions import FILE, check_checks, check_scripts_allowed, check_service, check_standalone, checks_of, standalone_check
from .entries import ServiceEntry
from .settings import Settings
from .sidecar import sidecar_id, sidecar_of


class Prepared(msgspec.Struct, frozen=True):
    """A valid registration; `sidecar`: one that was made from another service's `sidecar_service`."""

    spec: ServiceSpec
    checks: list[CheckSpec]
    sidecar: bool

    @property
    def service_id(self) -> str:
        return self.spec.id or self.spec.name


def prepare(
    spec: ServiceSpec, source: str, settings: Settings, present: Mapping[str, ServiceEntry], promised: Iterable[int] = ()
) -> list[Prepared]:
    """The service, and the sidecar it asks for, whose port is none of `promised` and none of a service that is `present`.

    Raises `DiscoveryError`.
    """
    prepared = [Prepared(spec, _valid_checks(spec, source, settings), False)]
    if spec.connect is None or spec.connect.sidecar_service is None:
        return prepared
    before = present.get(sidecar_id(prepared[0].service_id))
    taken = {entry.service.port for entry in present.values()} | set(promised)
    port = before.service.port if before is not None and before.sidecar else 0
    sidecar = sidecar_of(spec, spec.connect.sidecar_service, settings, taken, port)
    return [*prepared, Prepared(sidecar, _valid_checks(sidecar, source, settings), True)]


def _valid_checks(spec: ServiceSpec, source: str, settings: Settings) -> list[CheckSpec]:
    check_service(spec, source)
    checks = checks_of(spec)
    check_checks(checks, source)
    for check in checks:
        check_scripts_allowed(check, source, settings)
    return checks


def prepare_check(spec: CheckSpec, source: str, settings: Settings, services: Container[str]) -> CheckSpec:
    """A check that is registered by itself, possibly for one of `services`. Raises `DiscoveryError`."""
    check_standalone(spec, source)
    if spec.service_id and spec.service_id not in services:
        raise RequestFailed(f'ServiceID "{spec.service_id}" does not exist')
    check_scripts_allowed(spec, source, settings)
    return standalone_check(spec)


class FileDefinitions(msgspec.Struct, frozen=True):
    """All definitions from files, by service id, and the checks that belong to none of them."""

    services: dict[str, Prepared]
    checks: list[CheckSpec]

    def check_ids(self) -> set[str]:
        return {check.check_id for one in self.services.values() for check in one.checks} | {c.check_id for c in self.checks}


def prepare_files(
    services: Iterable[ServiceSpec], checks: Iterable[CheckSpec], settings: Settings, present: Mapping[str, ServiceEntry]
) -> FileDefinitions:
    """Raises `RequestFailed` that names the definition at fault. Of two with the same id the last counts."""
    prepared: dict[str, Prepared] = {}
    ports: set[int] = set()
    for spec in services:
        try:
            found = prepare(spec, FILE, settings, present, ports)
        except DiscoveryError as error:
            raise RequestFailed(f'Failed to register service "{spec.name}": {error.text}') from None
        ports.update(one.spec.port for one in found)
        prepared.update((one.service_id, one) for one in found)
    known = prepared.keys() | {key for key, entry in present.items() if entry.source != FILE}
    return FileDefinitions(prepared, [_check_from_file(check, settings, known) for check in checks])


def _check_from_file(spec: CheckSpec, settings: Settings, services: Container[str]) -> CheckSpec:
    try:
        return prepare_check(spec, FILE, settings, services)
    except DiscoveryError as error:
        raise RequestFailed(f"Failed to register check '{spec.name}': {error.text}") from None

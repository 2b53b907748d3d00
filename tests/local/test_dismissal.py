"""Services deregistered everywhere: the agent that owns them heeds the note when it misses them in the catalog."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discovery.local.services import Local
from discovery.local.sync import Syncer
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.dismissal import LIFETIME, dismissal
from discovery.model.duration import Duration
from discovery.model.errors import RemoteError
from discovery.model.requests import KeyRequest
from tests.local.rig import NODE, Catalog, Wall, make_local, make_syncer, settle, simulate

HOUR = Duration.from_seconds(3600)
ROUNDS = 10 * 120.0
"""Seconds for ten full syncs."""


class Owner:
    def __init__(self, catalog: Catalog, wall: Wall, local: Local, syncer: Syncer) -> None:
        self.catalog = catalog
        self.wall = wall
        self.local = local
        self.syncer = syncer

    def dismiss(self, service_id: str, *, after: float = 1.0) -> None:
        """As the endpoint does it, some seconds from now."""
        note = dismissal(NODE.upper(), service_id, self.wall() + after)
        self.catalog.keys[note.key] = note
        self.catalog.services.pop(service_id)
        self.catalog.checks = {key: check for key, check in self.catalog.checks.items() if check.service_id != service_id}


@asynccontextmanager
async def running(catalog: Catalog, wall: Wall, folder: Path | None = None) -> AsyncIterator[Owner]:
    local = make_local(catalog, data_dir=folder, wall=wall)
    syncer = make_syncer(local, catalog, wall=wall)
    local.start([], [])
    syncer.start()
    await settle()
    yield Owner(catalog, wall, local, syncer)
    await syncer.stop()
    await local.close()


WEB = ServiceSpec(name="web", port=80, check=CheckSpec(ttl=HOUR))


def test_it_stays_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall, tmp_path) as owner:
            for spec in (WEB, ServiceSpec(name="other")):
                owner.local.add_service(spec)
            await settle()
            owner.dismiss("web")
            await asyncio.sleep(ROUNDS)
            assert set(catalog.services) == set(owner.local.services()) == {"other"}
            assert catalog.keys == {}, "the note has done its work"
        async with running(catalog, wall, tmp_path) as again:
            await asyncio.sleep(ROUNDS)
            assert set(catalog.services) == set(again.local.services()) == {"other"}

    simulate(scenario())


def test_it_stays_away_when_its_agent_comes_back_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall, tmp_path) as owner:
            owner.local.add_service(WEB)
            await settle()
        owner.dismiss("web")
        wall.now += 3600
        async with running(catalog, wall, tmp_path) as again:
            assert (catalog.services, again.local.services(), catalog.keys) == ({}, {}, {})

    simulate(scenario())


def test_a_check_that_speaks_up_meanwhile_does_not_bring_it_back() -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall) as owner:
            owner.local.add_service(WEB)
            await settle()
            owner.dismiss("web")

            def refuse(method: str, request: object) -> RemoteError | None:
                check = getattr(request, "check", None)
                lonely = check is not None and check.service_id not in catalog.services and request.service is None  # type: ignore[attr-defined]
                return RemoteError("Missing service registration") if lonely else None

            catalog.refuse = refuse
            owner.local.update_ttl("service:web", "passing", "")
            await asyncio.sleep(5)
            assert owner.local.services() == catalog.services == {}

    simulate(scenario())


def test_a_registration_after_it_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall, tmp_path) as owner:
            owner.local.add_service(WEB)
            await settle()
            owner.dismiss("web")
            wall.now += 10
            owner.local.add_service(WEB)
            await asyncio.sleep(ROUNDS)
            assert set(catalog.services) == set(owner.local.services()) == {"web"}
            assert catalog.keys == {}

    simulate(scenario())


def test_a_note_that_is_too_old_does_not_count(tmp_path: Path) -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall, tmp_path) as owner:
            owner.local.add_service(WEB)
            await settle()
        owner.dismiss("web")
        wall.now += LIFETIME + 10
        async with running(catalog, wall, tmp_path):
            assert (set(catalog.services), catalog.keys) == ({"web"}, {})

    simulate(scenario())


def test_without_a_note_a_missing_service_is_registered_again() -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall) as owner:
            owner.local.add_service(WEB)
            await settle()
            catalog.services.clear()
            await asyncio.sleep(121)
            assert set(catalog.services) == {"web"}
            asked = len([1 for _, _, request in catalog.calls if isinstance(request, KeyRequest)])
            await asyncio.sleep(ROUNDS)
            assert asked == len([1 for _, _, request in catalog.calls if isinstance(request, KeyRequest)]) == 1, "only then"

    simulate(scenario())


@pytest.mark.parametrize("text", ["Permission denied", "ACL not found"])
def test_notes_that_may_not_be_read_are_none(text: str) -> None:
    async def scenario() -> None:
        catalog, wall = Catalog(), Wall()
        async with running(catalog, wall) as owner:
            owner.local.add_service(WEB)
            await settle()
            owner.dismiss("web")
            catalog.refuse = lambda method, request: RemoteError(text) if method == "KVS.List" else None
            await asyncio.sleep(121)
            assert set(catalog.services) == {"web"}

    simulate(scenario())

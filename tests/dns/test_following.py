"""Lookups that are repeated are followed at the server: what was found stays good until the server says otherwise."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from discovery.dns.following import HOT, IDLE, LONGEST_SILENCE, Following
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError, NoServers
from discovery.model.requests import ServiceSpecificRequest
from tests.dns.catalog import FakeCatalog, reference_catalog
from tests.local.rig import now, settle, simulate

WEB = ServiceSpecificRequest(datacenter="dc1", service_name="web", allow_stale=True, max_age=Duration.from_seconds(1))


async def lookup(following: Following, request: ServiceSpecificRequest = WEB) -> int:
    """How many instances there are."""
    return len((await following.ask("Health.ServiceNodes", request)).reply.nodes)


def run(scenario: Callable[[FakeCatalog, Following], Awaitable[None]]) -> None:
    async def whole() -> None:
        catalog = reference_catalog()
        catalog.watching = False
        following = Following(catalog, now)
        await scenario(catalog, following)
        following.close()

    simulate(whole())


def plain_asks(catalog: FakeCatalog) -> int:
    return sum(request.min_query_index == 0 for _, request in catalog.asked)


def test_what_is_asked_again_soon_is_followed() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        for _ in range(5):
            assert await lookup(following) == 2
        assert plain_asks(catalog) == 2
        for _ in range(20):
            await asyncio.sleep(HOT * 0.9)
            assert await lookup(following) == 2
        assert plain_asks(catalog) == 2
        assert len(following) == 1

    run(scenario)


def test_what_is_asked_now_and_then_is_not() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        for _ in range(5):
            await lookup(following)
            await asyncio.sleep(HOT * 1.1)
        assert (plain_asks(catalog), len(following)) == (5, 0)

    run(scenario)


def test_a_change_is_seen_by_the_next_lookup() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        await lookup(following)
        answer = await following.ask("Health.ServiceNodes", WEB)
        await settle()
        assert answer.watch is not None
        assert not answer.watch.fired
        for more in range(1, 4):
            catalog.service(catalog.nodes[0], "web", 90 + more)
            await settle()
            assert answer.watch.fired
            assert await lookup(following) == 2 + more
        assert plain_asks(catalog) == 2

    run(scenario)


def test_what_nobody_asks_any_more_is_followed_no_more() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        await lookup(following)
        answer = await following.ask("Health.ServiceNodes", WEB)
        await asyncio.sleep(IDLE + LONGEST_SILENCE)
        assert (len(following), catalog.blocked) == (0, 0)
        assert answer.watch is not None
        assert answer.watch.fired

    run(scenario)


def test_a_silent_server_is_not_believed_for_long() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        await lookup(following)
        answer = await following.ask("Health.ServiceNodes", WEB)
        catalog.silent = True
        await asyncio.sleep(LONGEST_SILENCE + 0.01)
        assert answer.watch is not None
        assert answer.watch.fired
        assert len(following) == 0

    run(scenario)


def test_a_failure_is_told_to_whoever_asks_next() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        await lookup(following)
        answer = await following.ask("Health.ServiceNodes", WEB)
        await settle()
        catalog.failure = NoServers()
        catalog.changed()
        await settle()
        assert answer.watch is not None
        assert answer.watch.fired
        with pytest.raises(DiscoveryError):
            await lookup(following)
        catalog.failure = None
        assert await lookup(following) == 2

    run(scenario)


def test_a_server_that_does_not_wait_is_not_asked_without_end() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        catalog.index = 0
        for _ in range(10):
            await lookup(following)
            await settle()
        assert len(catalog.asked) <= 20

    run(scenario)


def test_only_lookups_that_any_server_may_answer_are_followed() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        for _ in range(5):
            await lookup(following, ServiceSpecificRequest(datacenter="dc1", service_name="web"))
        assert (plain_asks(catalog), len(following)) == (5, 0)

    run(scenario)


def test_watched_answers_need_no_following() -> None:
    async def scenario(catalog: FakeCatalog, following: Following) -> None:
        catalog.watching = True
        for _ in range(5):
            await lookup(following)
        assert (plain_asks(catalog), len(following)) == (5, 0)

    run(scenario)

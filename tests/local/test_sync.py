"""Anti-entropy in virtual time against a catalog in a dict."""

import asyncio
import itertools
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from discovery.local.services import Local
from discovery.local.sync import Syncer, Tokens, scale_factor
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import NoLeader, RemoteError, RequestFailed
from discovery.model.records import HealthCheck, Node, NodeService, Record
from discovery.model.requests import DeregisterRequest, NodeSpecificRequest, RegisterRequest
from tests.local.rig import IDENTITY, Catalog, make_local, make_syncer, now, settle, simulate

TTL = Duration.from_seconds(100_000)


class Agent:
    """A local registry and its syncer, started, with the first full sync behind them."""

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        self.catalog = catalog
        self.local: Local = make_local(catalog)
        self.local.start([], [])
        self.syncer: Syncer = make_syncer(self.local, catalog, **options)

    async def __aenter__(self) -> "Agent":
        self.syncer.start()
        await settle()
        self.catalog.forget_calls()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.syncer.stop()
        await self.local.close()


def test_the_first_full_sync_registers_the_node_and_cleans_up() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        catalog.services = {
            "consul": NodeService(id="consul", service="consul"),
            "stale": NodeService(id="stale", service="stale"),
        }
        catalog.checks = {
            "serfHealth": HealthCheck(check_id="serfHealth"),
            "stale": HealthCheck(check_id="stale"),
            "of-stale": HealthCheck(check_id="of-stale", service_id="stale"),
        }
        async with Agent(catalog):
            assert set(catalog.services) == {"consul"}
            assert set(catalog.checks) == {"serfHealth"}
            assert catalog.node is not None
            assert (catalog.node.id, catalog.node.address, catalog.node.meta) == (IDENTITY.id, "127.0.0.1", IDENTITY.meta)

    simulate(scenario())


def test_a_read_of_a_full_sync_may_be_a_little_stale() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        agent = Agent(catalog, tokens=Tokens(default="d", agent="a"))
        agent.syncer.start()
        await settle()
        (_, first, services), (_, second, checks) = catalog.calls[:2]
        assert (first, second) == ("Catalog.NodeServiceList", "Health.NodeChecks")
        assert services == checks
        assert isinstance(services, NodeSpecificRequest)
        assert (services.allow_stale, services.max_stale_duration, services.token) == (True, 2 * 10**9, "a")
        await agent.syncer.stop()
        await agent.local.close()

    simulate(scenario())


def test_a_change_is_pushed_at_once_with_all_that_changed_together() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            at = now()
            agent.local.add_service(ServiceSpec(name="web", port=80, check=CheckSpec(ttl=TTL)))
            agent.local.add_service(ServiceSpec(name="db", checks=[CheckSpec(ttl=TTL), CheckSpec(ttl=TTL)]))
            agent.local.update_ttl("service:web", "passing", "fine")
            await settle()
            assert now() == at
            web, db = catalog.writes()
            assert isinstance(web, RegisterRequest)
            assert isinstance(db, RegisterRequest)
            assert web.service is not None
            assert web.check is not None
            assert (web.service.id, web.check.status, web.checks, web.skip_node_update) == ("web", "passing", None, True)
            assert [check.check_id for check in db.checks or []] == ["service:db:1", "service:db:2"]
            assert (db.node, db.address, db.id) == ("node1", "127.0.0.1", IDENTITY.id)

    simulate(scenario())


def test_the_first_service_carries_the_node_if_that_differs() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        agent = Agent(catalog)
        agent.local.add_service(ServiceSpec(name="web"))
        agent.local.add_service(ServiceSpec(name="db"))
        agent.syncer.start()
        await settle()
        writes = [request for request in catalog.writes() if isinstance(request, RegisterRequest)]
        assert [(request.service and request.service.id, request.skip_node_update) for request in writes] == [
            ("web", False),
            ("db", True),
        ]
        await agent.syncer.stop()
        await agent.local.close()

    simulate(scenario())


def test_deregistrations_are_pushed() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_service(ServiceSpec(name="web", token="tok", check=CheckSpec(ttl=TTL)))
            agent.local.add_check(CheckSpec(name="c", ttl=TTL))
            await settle()
            assert (set(catalog.services), set(catalog.checks)) == ({"web"}, {"service:web", "c"})
            catalog.forget_calls()
            agent.local.remove_service("web")
            agent.local.remove_check("c")
            await settle()
            assert (catalog.services, catalog.checks) == ({}, {})
            assert [(request.service_id, request.check_id, request.token) for request in deregistrations(catalog)] == [
                ("web", "", "tok"),
                ("", "c", ""),
            ]

    simulate(scenario())


def deregistrations(catalog: Catalog) -> list[DeregisterRequest]:
    return [request for request in catalog.writes() if isinstance(request, DeregisterRequest)]


def test_nothing_is_pushed_when_nothing_has_changed() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            spec = ServiceSpec(name="web", tags=["a"], meta={"k": "v"}, address="10.0.0.1", check=CheckSpec(ttl=TTL))
            agent.local.add_service(spec)
            await settle()
            catalog.forget_calls()
            agent.local.add_service(spec)
            await asyncio.sleep(600)
            assert catalog.calls
            assert catalog.writes() == []

    simulate(scenario())


def test_tokens_are_the_services_own_or_the_default() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog, tokens=Tokens(default="default")) as agent:
            agent.local.add_service(ServiceSpec(name="own", token="mine", check=CheckSpec(ttl=TTL)))
            agent.local.add_service(ServiceSpec(name="other", check=CheckSpec(ttl=TTL, token="checks")))
            await settle()
            sent = {
                (request.service.id if request.service else "", request.check.check_id if request.check else ""): request.token
                for request in catalog.writes()
                if isinstance(request, RegisterRequest)
            }
            assert sent == {("own", "service:own"): "mine", ("other", ""): "default", ("", "service:other"): "checks"}

    simulate(scenario())


def test_full_syncs_come_about_once_a_minute() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog):
            await asyncio.sleep(1200)
            times = [at for at, method, _ in catalog.calls if method == "Catalog.NodeServiceList"]
            gaps = [after - before for before, after in pairwise(times)]
            assert len(gaps) > 8
            assert all(60 <= gap <= 120.1 for gap in gaps)
            assert max(gaps) - min(gaps) > 10

    simulate(scenario())


@pytest.mark.parametrize(("nodes", "factor"), [(0, 1), (1, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (8192, 7)])
def test_random_parts_grow_with_the_cluster(nodes: int, factor: int) -> None:
    assert scale_factor(nodes) == factor


def test_what_others_write_into_the_catalog_is_repaired() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_service(ServiceSpec(name="web", tags=["ours"]))
            await settle()
            catalog.services["intruder"] = NodeService(id="intruder", service="intruder")
            catalog.services["web"] = msgspec.structs.replace(catalog.services["web"], tags=["theirs"])
            catalog.node = msgspec.structs.replace(catalog.node or Node(), meta=None)
            await asyncio.sleep(121)
            assert set(catalog.services) == {"web"}
            assert catalog.services["web"].tags == ["ours"]
            assert catalog.node is not None
            assert catalog.node.meta == IDENTITY.meta

    simulate(scenario())


def test_tags_may_be_overridden_where_the_service_allows_it() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_service(ServiceSpec(name="web", tags=["ours"], enable_tag_override=True, check=CheckSpec(ttl=TTL)))
            await settle()
            catalog.services["web"] = msgspec.structs.replace(catalog.services["web"], tags=["theirs"], port=99)
            await asyncio.sleep(121)
            assert catalog.services["web"].tags == ["theirs"]
            assert catalog.services["web"].port == 0, "everything but the tags is ours"
            assert agent.local.services()["web"].tags == ["theirs"]
            catalog.forget_calls()
            await asyncio.sleep(300)
            assert catalog.writes() == []

    simulate(scenario())


def test_a_failed_full_sync_is_tried_again_at_once() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        catalog.refuse = lambda method, request: NoLeader()
        agent = Agent(catalog)
        agent.local.add_service(ServiceSpec(name="web"))
        agent.syncer.start()
        await settle()
        assert catalog.services == {}
        catalog.refuse = lambda method, request: None
        await asyncio.sleep(1.1)
        assert set(catalog.services) == {"web"}
        await agent.syncer.stop()
        await agent.local.close()

    simulate(scenario())


def test_full_syncs_that_go_on_failing_are_tried_ever_more_rarely() -> None:
    async def scenario() -> None:
        tries = []
        loop = asyncio.get_running_loop()

        def refuse(method: str, request: object) -> NoLeader:
            if method == "Catalog.NodeServiceList":
                tries.append(loop.time())
            return NoLeader()

        catalog = Catalog()
        catalog.refuse = refuse
        agent = Agent(catalog)
        agent.syncer.start()
        await asyncio.sleep(300)
        pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
        assert 0.5 <= pauses[0] <= 1
        assert all(15 <= pause <= 30 for pause in pauses[5:])
        await agent.syncer.stop()
        await agent.local.close()

    simulate(scenario())


def test_a_failed_push_is_tried_again_at_the_next_change() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            catalog.refuse = lambda method, request: NoLeader()
            agent.local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=TTL)))
            await settle()
            catalog.refuse = lambda method, request: None
            agent.local.add_service(ServiceSpec(name="db"))
            await settle()
            assert (set(catalog.services), set(catalog.checks)) == ({"web", "db"}, {"service:web"})

    simulate(scenario())


def test_a_push_of_unknown_outcome_is_undone_if_the_service_goes() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:

            def lose_the_answer(method: str, request: Record) -> NoLeader | None:
                if isinstance(request, RegisterRequest) and request.service is not None:
                    catalog.services[request.service.id] = request.service
                    return NoLeader()
                return None

            catalog.refuse = lose_the_answer
            agent.local.add_service(ServiceSpec(name="web"))
            await settle()
            assert set(catalog.services) == {"web"}
            agent.local.remove_service("web")
            await settle()
            assert catalog.services == {}

    simulate(scenario())


def test_a_check_of_unknown_outcome_is_undone_if_it_goes() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:

            def lose_the_answer(method: str, request: Record) -> NoLeader | None:
                if isinstance(request, RegisterRequest) and request.check is not None:
                    catalog.checks[request.check.check_id] = request.check
                    return NoLeader()
                return None

            catalog.refuse = lose_the_answer
            agent.local.add_check(CheckSpec(name="c", ttl=TTL))
            await settle()
            agent.local.remove_check("c")
            await settle()
            assert catalog.checks == {}

    simulate(scenario())


def test_after_a_failure_the_rest_of_many_pushes_waits() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            catalog.refuse = lambda method, request: NoLeader()
            for number in range(500):
                agent.local.add_service(ServiceSpec(name=f"w{number}"))
            await settle()
            assert 0 < len(catalog.writes()) < 100
            catalog.refuse = lambda method, request: None
            await asyncio.sleep(31)
            assert len(catalog.services) == 500

    simulate(scenario())


@pytest.mark.parametrize("error", [RequestFailed("Permission denied", status=403), RemoteError("ACL not found")])
def test_a_denied_push_counts_as_done_until_the_next_full_sync(error: RequestFailed) -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            denied = {"web"}

            def refuse(method: str, request: Record) -> RequestFailed | None:
                service = request.service if isinstance(request, RegisterRequest) else None
                return error if service is not None and service.id in denied else None

            catalog.refuse = refuse
            agent.local.add_service(ServiceSpec(name="web"))
            agent.local.add_service(ServiceSpec(name="db"))
            await settle()
            assert set(catalog.services) == {"db"}
            catalog.forget_calls()
            agent.local.add_service(ServiceSpec(name="third"))
            await settle()
            assert len(catalog.writes()) == 1
            denied.clear()
            await asyncio.sleep(121)
            assert set(catalog.services) == {"web", "db", "third"}

    simulate(scenario())


def test_deregistering_what_the_catalog_does_not_know_is_success() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_service(ServiceSpec(name="web"))
            await settle()
            catalog.refuse = lambda method, request: (
                RequestFailed("Unknown service 'web'") if method == "Catalog.Deregister" else None
            )
            agent.local.remove_service("web")
            await settle()
            catalog.forget_calls()
            agent.local.add_service(ServiceSpec(name="db"))
            await settle()
            assert len(catalog.writes()) == 1

    simulate(scenario())


def test_new_output_with_the_same_status_waits() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_check(CheckSpec(name="c", ttl=TTL, status="passing"))
            await settle()
            agent.local.update_ttl("c", "passing", "one")
            await asyncio.sleep(149)
            assert catalog.checks["c"].output == "", "neither at once nor with a full sync"
            agent.local.update_ttl("c", "passing", "two")
            await asyncio.sleep(302)
            assert catalog.checks["c"].output == "two"

    simulate(scenario())


def test_a_new_status_takes_the_output_along_at_once() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.local.add_check(CheckSpec(name="c", ttl=TTL, status="passing"))
            await settle()
            agent.local.update_ttl("c", "passing", "one")
            agent.local.update_ttl("c", "warning", "two")
            await settle()
            assert (catalog.checks["c"].status, catalog.checks["c"].output) == ("warning", "two")

    simulate(scenario())


def test_output_is_pushed_at_once_where_nothing_may_wait() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog, check_update_interval=0.0) as agent:
            agent.local.add_check(CheckSpec(name="c", ttl=TTL, status="passing"))
            await settle()
            agent.local.update_ttl("c", "passing", "one")
            await settle()
            assert catalog.checks["c"].output == "one"

    simulate(scenario())


def test_nothing_is_pushed_while_paused_and_one_pass_follows() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.syncer.pause()
            agent.syncer.pause()
            agent.local.add_service(ServiceSpec(name="web"))
            await asyncio.sleep(200)
            agent.syncer.resume()
            await settle()
            assert catalog.calls == []
            agent.syncer.resume()
            await settle()
            assert set(catalog.services) == {"web"}

    simulate(scenario())


def test_a_server_that_joins_brings_a_full_sync_within_seconds() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.syncer.trigger_full()
            await asyncio.sleep(3.01)
            assert [method for _, method, _ in catalog.calls] == ["Catalog.NodeServiceList", "Health.NodeChecks"]
            catalog.forget_calls()
            agent.syncer.trigger_full(stagger=False)
            await settle()
            assert len(catalog.calls) == 2

    simulate(scenario())


def test_a_trigger_during_a_full_sync_is_not_lost() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.syncer.trigger_full(stagger=False)
            await asyncio.sleep(0)
            assert len(catalog.calls) == 1, "the first of two reads is under way"
            agent.syncer.trigger_full(stagger=False)
            await settle()
            assert len(catalog.calls) == 4

    simulate(scenario())


def test_after_stop_nothing_is_pushed() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            await agent.syncer.stop()
            agent.local.add_service(ServiceSpec(name="web"))
            agent.syncer.trigger_full(stagger=False)
            await asyncio.sleep(600)
            assert catalog.calls == []

    simulate(scenario())


def test_a_fault_of_ours_does_not_end_syncing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:

            def fault(method: str, request: Record) -> None:
                raise ZeroDivisionError

            catalog.refuse = fault
            agent.local.add_service(ServiceSpec(name="web"))
            await settle()
            catalog.refuse = lambda method, request: None
            await asyncio.sleep(31)
            assert set(catalog.services) == {"web"}

    simulate(scenario())
    assert any(record.exc_info for record in caplog.records)


def test_a_node_described_otherwise_is_pushed_with_the_next_full_sync() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        async with Agent(catalog) as agent:
            agent.syncer.set_identity(msgspec.structs.replace(IDENTITY, meta={"k": "v"}))
            await asyncio.sleep(121)
            assert catalog.node is not None
            assert catalog.node.meta == {"k": "v"}

    simulate(scenario())

"""Aliases of services here and elsewhere."""

import asyncio
from typing import Any

import pytest

from discovery.local.checks.alias import judge
from discovery.local.services import Local
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import NoLeader
from discovery.model.records import HealthCheck, NodeService, Record
from discovery.model.requests import NodeSpecificRequest
from tests.local.rig import Catalog, make_local, settle, simulate

TTL = Duration.from_seconds(100_000)


def check(check_id: str, status: str, service_id: str = "web", output: str = "out") -> HealthCheck:
    return HealthCheck(check_id=check_id, name=check_id.upper(), status=status, service_id=service_id, output=output)


@pytest.mark.parametrize(
    ("has_service", "checks", "expected"),
    [
        (True, [], ("passing", "No checks found.")),
        (True, [check("a", "passing")], ("passing", "All checks passing.")),
        (True, [check("a", "warning")], ("warning", 'Aliased check "A" failing: out')),
        (True, [check("a", "warning"), check("b", "critical")], ("critical", 'Aliased check "B" failing: out')),
        (True, [check("a", "passing"), check("n", "critical", "")], ("critical", 'Aliased check "N" failing: out')),
        (True, [check("o", "critical", "other")], ("passing", "No checks found.")),
        (True, [check("self", "critical")], ("passing", "No checks found.")),
        (False, [], ("critical", "Service web could not be found on node ")),
    ],
)
def test_judgement(has_service: bool, checks: list[HealthCheck], expected: tuple[str, str]) -> None:
    assert judge("web", "", has_service, checks, "self") == expected


def started(catalog: Catalog | None = None) -> Local:
    local = make_local(catalog)
    local.start([], [])
    return local


def test_a_local_alias_follows_at_once() -> None:
    async def scenario() -> None:
        local = started()
        local.add_check(CheckSpec(id="alias", name="alias", alias_service="web"))
        await settle()
        assert local.checks()["alias"].output == "Service web could not be found on node "
        local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=TTL, name="c")))
        await settle()
        assert (local.checks()["alias"].status, local.checks()["alias"].type) == ("critical", "alias")
        local.update_ttl("service:web", "passing", "")
        await settle()
        assert (local.checks()["alias"].status, local.checks()["alias"].output) == ("passing", "All checks passing.")
        local.add_service(ServiceSpec(name="other", check=CheckSpec(ttl=TTL)))
        await settle()
        assert local.checks()["alias"].status == "passing"
        local.node_maintenance(True, "")
        await settle()
        assert local.checks()["alias"].output == 'Aliased check "Node Maintenance Mode" failing: '
        local.remove_check("alias")
        local.node_maintenance(False, "")
        await settle()
        await local.close()

    simulate(scenario())


def test_aliases_of_each_other_come_to_rest() -> None:
    async def scenario() -> None:
        local = started()
        for name, other in (("a", "b"), ("b", "a")):
            checks = [CheckSpec(check_id=f"to-{other}", name=f"to-{other}", alias_service=other)]
            local.add_service(ServiceSpec(name=name, checks=checks))
        local.add_check(CheckSpec(name="bad", service_id="a", ttl=TTL))
        await asyncio.sleep(1)
        seen = dict(local.checks())
        await asyncio.sleep(1)
        assert local.checks() == seen
        assert max(len(check.output) for check in seen.values()) <= 4096
        await local.close()

    simulate(scenario())


def test_a_remote_alias_follows_the_catalog_and_survives_failures() -> None:
    async def scenario() -> None:
        catalog = Catalog()
        catalog.services = {"web": NodeService(id="web", service="web")}
        catalog.checks = {"c": check("c", "passing"), "serfHealth": check("serfHealth", "passing", "")}
        answered = asyncio.Event()
        blocked = asyncio.Event()

        class Blocking(Catalog):
            async def call(self, method: str, request: Record) -> Any:
                assert isinstance(request, NodeSpecificRequest)
                if method == "Health.NodeChecks" and request.min_query_index:
                    answered.set()
                    await blocked.wait()
                return await catalog.call(method, request)

        local = started(Blocking())
        local.add_check(CheckSpec(name="alias", alias_service="web", alias_node="node2"))
        await answered.wait()
        assert (local.checks()["alias"].status, local.checks()["alias"].output) == ("passing", "All checks passing.")
        assert {getattr(request, "node", "") for _, _, request in catalog.calls} == {"node2"}
        catalog.checks["c"] = check("c", "critical")
        blocked.set()
        await settle()
        assert local.checks()["alias"].output == 'Aliased check "C" failing: out'
        catalog.refuse = lambda method, request: NoLeader()
        await asyncio.sleep(5)
        assert local.checks()["alias"].output == "Failure checking alias: No cluster leader"
        blocked.clear()
        catalog.refuse = lambda method, request: None
        await asyncio.sleep(61)
        assert local.checks()["alias"].output == 'Aliased check "C" failing: out'
        local.remove_check("alias")
        await local.close()

    simulate(scenario())

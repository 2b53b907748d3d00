"""What can be done with an agent's services and checks beyond Consul's API."""

import pytest

from discovery.model.errors import NotFound
from tests.http.conftest import World


async def test_a_check_is_run_on_demand(world: World) -> None:
    response = await world.put("/v1/agent/check/run/service:web")
    assert response.json() == {"CheckID": "service:web", "Status": "critical", "Output": "out", "Published": "passing"}
    assert world.services.asked == [("run_check", "service:web")]
    world.services.refusal = NotFound('Unknown check "x"')
    refused = await world.put("/v1/agent/check/run/x")
    assert (refused.status, refused.text) == (404, 'Unknown check "x"')
    assert (await world.put("/v1/agent/check/run/")).status == 400
    assert (await world.get("/v1/agent/check/run/x")).status == 405


@pytest.mark.parametrize(("query", "wait", "reason"), [("", 30.0, ""), ("?wait=90s&reason=new%20version", 90.0, "new version")])
async def test_a_service_is_drained(world: World, query: str, wait: float, reason: str) -> None:
    response = await world.put(f"/v1/agent/service/drain/web-1{query}")
    assert (response.status, response.body) == (200, b"")
    assert world.services.asked == [("drain_service", "web-1", wait, reason)]


@pytest.mark.parametrize("wait", ["soon", "-1s"])
async def test_a_bad_wait_is_refused(world: World, wait: str) -> None:
    response = await world.put(f"/v1/agent/service/drain/web-1?wait={wait}")
    assert response.status == 400
    assert response.text.startswith("Invalid wait: ")
    assert world.services.asked == []

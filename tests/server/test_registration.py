"""Registering what is registered already: no log entry, no index, no wake-up; only a leader that surely leads may say so."""

from pathlib import Path
from typing import Any

import pytest

from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, NoLeader
from discovery.model.records import HealthCheck, NodeService
from tests.server.rig import Node, cluster


def registration(**changes: Any) -> r.RegisterRequest:
    fields: dict[str, Any] = {
        "datacenter": "dc1",
        "node": "web-1",
        "id": "11111111-2222-3333-4444-555555555555",
        "address": "10.0.0.1",
        "node_meta": {"rack": "r1"},
        "service": NodeService(id="web", service="web", tags=["a", "b"], port=80, meta={"version": "1"}),
        "checks": [HealthCheck(check_id="alive", name="alive", status="passing", output="ok", service_id="web")],
    }
    return r.RegisterRequest(**fields | changes)


async def register(node: Node, request: r.RegisterRequest) -> None:
    assert await node.call("Catalog.Register", request) == r.Empty()


async def test_the_same_again_leaves_no_trace(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.quiet()
        await register(leader, registration())
        before = (leader.server.replica.last_index, leader.server.store.index)
        watch = leader.server.store.watches.watch((("services",), ("nodes",), ("checks",)))
        for node in made.nodes:
            await register(node, registration())
            await register(node, registration(skip_node_update=True))
            await register(node, registration(service=None, checks=None))
        assert (leader.server.replica.last_index, leader.server.store.index) == before
        assert not watch.fired


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "10.0.0.2"},
        {"node_meta": {"rack": "r2"}},
        {"service": NodeService(id="web", service="web", tags=["a", "b"], port=81, meta={"version": "1"})},
        {"service": NodeService(id="web", service="web", tags=["b", "a"], port=80, meta={"version": "1"})},
        {"service": NodeService(id="other", service="web", port=80)},
        {"checks": [HealthCheck(check_id="alive", name="alive", status="critical", output="ok", service_id="web")]},
        {"checks": [HealthCheck(check_id="alive", name="alive", status="passing", output="fine", service_id="web")]},
        {"checks": [HealthCheck(check_id="more", name="more", status="passing")]},
    ],
)
async def test_any_difference_goes_through_the_log(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with cluster(tmp_path, 1) as made:
        only = await made.quiet()
        await register(only, registration())
        before = only.server.store.index
        await register(only, registration(**changes))
        assert only.server.store.index == before + 1
        await register(only, registration(**changes))
        assert only.server.store.index == before + 1


async def test_what_is_refused_is_refused_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        for _ in range(2):
            with pytest.raises(DiscoveryError, match="Missing service registration"):
                await only.call("Catalog.Register", registration(service=None))
            with pytest.raises(DiscoveryError, match="Must provide address"):
                await only.call("Catalog.Register", registration(address=""))


async def test_a_leader_cut_off_does_not_claim_it(tmp_path: Path) -> None:
    """Another one may have deregistered the service meanwhile."""
    async with cluster(tmp_path, 3, rpc_hold_time=0.3) as made:
        old = await made.quiet()
        await register(old, registration())
        with old.isolated():
            new = await made.leader(other_than=old)
            await new.call("Catalog.Deregister", r.DeregisterRequest(node="web-1"))
            with pytest.raises(NoLeader):
                await old.call("Catalog.Register", registration())
        await made.settled()
        await register(old, registration())
        assert (await made.leader()).server.store.service_nodes("web").value

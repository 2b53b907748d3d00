"""Deregistering a service so that it stays away."""

import time

import pytest

from discovery.model.requests import DeregisterRequest, KVSRequest
from tests.http.conftest import World


async def test_a_note_is_left_before_the_service_is_deregistered(world: World) -> None:
    world.delegate.answers["Catalog.Deregister"] = None
    before = time.time()
    response = await world.put("/v1/catalog/deregister-everywhere?dc=dc2", {"Node": "N1", "ServiceID": "a/b"})
    assert (response.status, response.text) == (200, "true")
    (first, note), (second, request) = world.delegate.calls
    assert (first, second) == ("KVS.Apply", "Catalog.Deregister")
    assert isinstance(note, KVSRequest)
    assert isinstance(request, DeregisterRequest)
    assert (note.op, note.datacenter, note.dir_ent.key) == ("set", "dc2", "_dismissed/n1/a/b")
    assert before <= note.dir_ent.flags / 1000 <= time.time() + 0.001
    assert (request.datacenter, request.node, request.service_id) == ("dc2", "N1", "a/b")


@pytest.mark.parametrize("body", [{}, {"Node": "n"}, {"ServiceID": "s"}])
async def test_node_and_service_are_needed(world: World, body: dict[str, str]) -> None:
    response = await world.put("/v1/catalog/deregister-everywhere", body)
    assert (response.status, response.text) == (400, "Must provide Node and ServiceID")
    assert world.delegate.calls == []

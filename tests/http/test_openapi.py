"""The description of the API is whole: every route, every reference, and what the handlers read is what is said."""

import json
import re
from typing import Any

import pytest
import schemathesis

from discovery.http.openapi import document
from discovery.http.parameters import PARAMETERS
from discovery.http.routes import ROUTES, described_routes
from tests.http.conftest import World

DOCUMENT: Any = document(described_routes())
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


def test_every_route_is_described() -> None:
    served = {(route.path, method.lower()) for route in ROUTES for method in route.methods if method != "OPTIONS"}
    described = {(path.partition("{")[0], method) for path, method in OPERATIONS}
    assert described == served


def test_references_lead_somewhere() -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert names == set(DOCUMENT["components"]["schemas"])


def test_operations_have_ids_of_their_own() -> None:
    ids = [DOCUMENT["paths"][path][method]["operationId"] for path, method in OPERATIONS]
    assert len(set(ids)) == len(ids)


def test_no_parameter_is_described_in_vain() -> None:
    used = {
        parameter["name"]
        for path, method in OPERATIONS
        for parameter in DOCUMENT["paths"][path][method]["parameters"]
        if parameter["in"] == "query"
    }
    assert used == set(PARAMETERS)


def test_another_program_understands_it() -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    assert sum(1 for found in schema.get_all_operations() if found.ok()) == len(OPERATIONS)


async def test_it_is_served(world: World) -> None:
    response = await world.get("/v1/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == json.loads(json.dumps(DOCUMENT))


@pytest.mark.parametrize(
    ("path", "method", "body", "reply"),
    [
        ("/v1/catalog/register", "put", {"$ref": "#/components/schemas/RegisterRequest"}, {"type": "boolean"}),
        ("/v1/health/service/{service}", "get", None, {"$ref": "#/components/schemas/CheckServiceNode"}),
        ("/v1/kv/{key}", "put", {}, {"type": "boolean"}),
    ],
)
def test_bodies_come_from_the_model(path: str, method: str, body: Any, reply: Any) -> None:
    operation = DOCUMENT["paths"][path][method]
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answered in (reply, {"type": "array", "items": reply})
    given = operation.get("requestBody", {}).get("content", {})
    assert [each.get("schema", {}) for each in given.values()] == ([] if body is None else [body])

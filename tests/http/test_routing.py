"""Paths and methods: which handler, and what everything else is answered."""

import pytest

from discovery.http.options import HttpOptions
from discovery.http.routes import ROUTES, Router, clean_path
from tests.http.conftest import World


@pytest.mark.parametrize(
    ("method", "target", "status", "allow", "text"),
    [
        ("PUT", "/v1/catalog/nodes", 405, "OPTIONS,GET", "method PUT not allowed"),
        ("POST", "/v1/kv/a", 405, "OPTIONS,GET,PUT,DELETE", "method POST not allowed"),
        ("PATCH", "/v1/query", 405, "OPTIONS,GET,POST", "method PATCH not allowed"),
        ("POST", "/v1/query/x", 405, "GET,PUT,DELETE", "method POST not allowed"),
        ("GET", "/v1/session/create", 405, "OPTIONS,PUT", "method GET not allowed"),
        ("GET", "/v1/acl/bootstrap", 405, "OPTIONS,PUT", "method GET not allowed"),
        ("GET", "/v1/config", 405, "OPTIONS,PUT", "method GET not allowed"),
        ("OPTIONS", "/v1/txn", 200, "OPTIONS,PUT", ""),
        ("OPTIONS", "/v1/session/renew/x", 200, "OPTIONS,PUT", ""),
        ("HEAD", "/v1/session/list", 405, "OPTIONS,GET", ""),
    ],
)
async def test_methods(world: World, method: str, target: str, status: int, allow: str, text: str) -> None:
    response = await world.request(method, target)
    assert (response.status, response.headers["Allow"], response.text) == (status, allow, text)


async def test_options_of_a_query_answers_an_object(world: World) -> None:
    response = await world.request("OPTIONS", "/v1/query/x")
    assert (response.status, response.text, response.headers["Content-Type"]) == (200, "{}", "application/json")
    assert response.headers["Allow"] == "OPTIONS,GET,PUT,DELETE"


@pytest.mark.parametrize(
    "target", ["/v1/nothing", "/v2/kv/a", "/v1/", "/kv/a", "/v1/catalog/nodes/", "/v1/agent", "/ui/x", "/v1"]
)
async def test_unknown_paths(world: World, target: str) -> None:
    response = await world.get(target)
    assert (response.status, response.body) == (404, b"")
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/v1/kv", "/v1/kv/"),
        ("/v1/kv?recurse&x=1", "/v1/kv/?recurse&x=1"),
        ("//v1/status/leader", "/v1/status/leader"),
        ("/v1/status/../status/leader", "/v1/status/leader"),
        ("/v1//kv//a", "/v1/kv/a"),
        ("/v1/kv/a%2F..%2Fb", "/v1/kv/b"),
        ("/v1/kv/a/..", "/v1/kv/"),
        ("/v1/kv/a%2F%2Fb%20c", "/v1/kv/a/b%20c"),
    ],
)
async def test_redirects(world: World, target: str, location: str) -> None:
    response = await world.get(target)
    assert (response.status, response.headers["Location"]) == (301, location)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.text.startswith(f'<a href="{location.replace("&", "&amp;")}">Moved Permanently</a>.')


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/v1/kv/a/b/", "a/b/"),
        ("/v1/kv/a%2Fb", "a/b"),
        ("/v1/kv/%C3%A9%20x", "é x"),
        ("/v1/kv/a+b", "a+b"),
        ("/v1/kv/100%25", "100%"),
        ("/v1/kv/.hidden", ".hidden"),
        ("/v1/kv/a?dc=dc1", "a"),
    ],
)
async def test_keys_survive_the_path(world: World, target: str, key: str) -> None:
    await world.get(target)
    assert world.delegate.last.key == key


async def test_service_ids_with_encoded_slashes(world: World) -> None:
    assert (await world.put("/v1/agent/service/deregister/scope%2Fname")).status == 200
    assert world.services.asked == [("remove_service", "scope/name")]


@pytest.mark.parametrize("target", ["/v1/kv/a%00b", "/v1/kv/a%0Ab", "/v1/kv/%FF"])
async def test_unprintable_paths(world: World, target: str) -> None:
    response = await world.get(target)
    assert (response.status, response.body) == (400, b"")


async def test_bad_escapes_in_the_path(world: World) -> None:
    response = await world.get("/v1/kv/%zz")
    assert (response.status, response.text, response.headers["Connection"]) == (400, "400 Bad Request", "close")


async def test_unprintable_paths_may_be_allowed(world: World) -> None:
    world.server.reconfigure(HttpOptions(filter_unprintable_paths=False))
    await world.get("/v1/kv/a%00b")
    assert world.delegate.last.key == "a\0b"


async def test_undecodable_query(world: World) -> None:
    response = await world.get("/v1/kv/a?x=%zz")
    assert (response.status, response.body) == (500, b"")


async def test_root(world: World) -> None:
    assert (await world.get("/")).text == "Consul Agent"


async def test_absolute_request_target(world: World) -> None:
    assert (await world.get("http://test/v1/status/leader")).json() == "127.0.0.1:8300"


def test_no_path_stands_twice_in_the_table() -> None:
    paths = [(route.path, route.end) for route in ROUTES]
    assert len(paths) == len(set(paths))


def test_longer_paths_win() -> None:
    found = Router().find("/v1/acl/policy/name/x")
    assert found is not None
    assert (found[0].path, found[1]) == ("/v1/acl/policy/name/", "x")


@pytest.mark.parametrize(("path", "clean"), [("/a/./b", "/a/b"), ("/..", "/"), ("//a//", "/a/"), ("/a/b/", "/a/b/"), ("/", "/")])
def test_clean_path(path: str, clean: str) -> None:
    assert clean_path(path) == clean

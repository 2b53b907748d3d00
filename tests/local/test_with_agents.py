"""A server and a client as processes: what the catalog says of the client's services through reloads, restarts and more."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import HTTP_PORT, Agent, Cluster, running, until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "conf").mkdir()
    with running(Cluster(tmp_path, 1, clients=1)) as started:
        yield started


class Watcher:
    """Follows a service on a server with blocking queries and notes every status of its checks that is ever shown."""

    def __init__(self, server: Agent, service: str) -> None:
        self.seen: list[list[str]] = []
        self._server = server
        self._path = f"/v1/health/service/{service}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        index = "0"
        while not self._over.is_set():
            _, headers, body = self._server.exchange("GET", f"{self._path}?index={index}&wait=1s")
            index = headers["X-Consul-Index"]
            self.seen.append([check["Status"] for entry in json.loads(body) for check in entry["Checks"]])

    def stop(self) -> list[list[str]]:
        self._over.set()
        self._thread.join()
        return self.seen


@contextmanager
def watching(server: Agent, service: str) -> Iterator[Watcher]:
    watcher = Watcher(server, service)
    until(lambda: watcher.seen, "the first look")
    try:
        yield watcher
    finally:
        watcher.stop()


def passing(server: Agent, service: str) -> list[str]:
    return [entry["Service"]["ID"] for entry in server.http("GET", f"/v1/health/service/{service}?passing")]


def index_of(server: Agent, service: str) -> int:
    found: int = server.http("GET", f"/v1/catalog/service/{service}")[0]["ModifyIndex"]
    return found


def tcp_check(server: Agent) -> dict[str, Any]:
    return {"TCP": f"{server.address}:{HTTP_PORT}", "Interval": "1s"}


def settle(client: Agent, server: Agent, *services: str) -> None:
    """Until the checks of these services have run, and what came of it has reached the server."""
    for service in services:
        assert client.http("PUT", f"/v1/agent/check/run/service:{service}")["Status"] == "passing"
    client.http("PUT", "/v1/agent/service/register", {"Name": "settled"})
    until(lambda: passing(server, "settled"), "what was registered last")


def test_a_killed_agent_comes_back_without_a_flap(cluster: Cluster) -> None:
    server, client = cluster.servers[0], cluster.clients[0]
    client.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80, "Check": tcp_check(server)})
    client.http("PUT", "/v1/agent/service/register", {"Name": "ttl", "Check": {"TTL": "1h", "Status": "critical"}})
    client.http("PUT", "/v1/agent/check/pass/service:ttl")
    until(lambda: passing(server, "web") and passing(server, "ttl"), "both services to pass")
    with watching(server, "web") as web, watching(server, "ttl") as ttl:
        client.kill()
        client.start().ready()
        until(lambda: set(client.http("GET", "/v1/agent/services")) == {"web", "ttl"}, "the services")
        settle(client, server, "web")
        for watcher in (web, ttl):
            statuses = {status for look in watcher.stop() for status in look}
            assert statuses == {"passing"}
            assert all(len(look) == 2 for look in watcher.seen), "each time with its own check and the node's"


def test_a_reload_changes_only_what_is_different(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    with running(Cluster(tmp_path, 1, clients=1, flags=[f"-config-dir={conf}"])) as cluster:
        server, client = cluster.servers[0], cluster.clients[0]
        check = tcp_check(server)
        services = [{"name": name, "port": 80, "check": {"tcp": check["TCP"], "interval": "1s"}} for name in ("a", "b", "c")]

        def write(definitions: list[dict[str, Any]]) -> None:
            (conf / "services.json").write_text(json.dumps({"services": definitions}))

        for agent in cluster.servers:
            assert agent.http("GET", "/v1/agent/services") == {}
        write(services)
        client.http("PUT", "/v1/agent/reload")
        until(lambda: all(passing(server, name) for name in "abc"), "the services of the file")
        before = {name: index_of(server, name) for name in "ab"}
        changed = {**services[1], "port": 81, "tags": ["new"]}
        write([services[0], changed, {"name": "d"}])
        with watching(server, "a") as a, watching(server, "b") as b:
            client.http("PUT", "/v1/agent/reload")
            until(lambda: passing(server, "d") and not passing(server, "c"), "the new file to take effect")
            until(lambda: server.http("GET", "/v1/catalog/service/b")[0]["ServicePort"] == 81, "the new port")
            settle(client, server, "a", "b")
            for watcher in (a, b):
                assert {status for look in watcher.stop() for status in look} == {"passing"}
        assert index_of(server, "a") == before["a"]
        assert index_of(server, "b") > before["b"]


def test_what_is_deregistered_everywhere_stays_away_and_what_is_not_comes_back(cluster: Cluster) -> None:
    server, client = cluster.servers[0], cluster.clients[0]
    for name in ("web", "api"):
        client.http("PUT", "/v1/agent/service/register", {"Name": name})
    until(lambda: passing(server, "web") and passing(server, "api"), "both services")
    for path, name in (("deregister-everywhere", "web"), ("deregister", "api")):
        server.http("PUT", f"/v1/catalog/{path}", {"Node": client.name, "ServiceID": name})
    assert passing(server, "web") == passing(server, "api") == []
    client.kill()
    client.start().ready()
    until(lambda: passing(server, "api"), "the one to be registered again")
    assert passing(server, "web") == []
    assert set(client.http("GET", "/v1/agent/services")) == {"api"}
    client.http("PUT", "/v1/agent/service/register", {"Name": "web"})
    until(lambda: passing(server, "web"), "the service that was registered anew")


def test_tags_are_the_catalogs_where_that_is_allowed(cluster: Cluster) -> None:
    server, client = cluster.servers[0], cluster.clients[0]
    for name, allowed in (("mine", False), ("shared", True)):
        client.http("PUT", "/v1/agent/service/register", {"Name": name, "Tags": ["a"], "EnableTagOverride": allowed})
    until(lambda: passing(server, "mine") and passing(server, "shared"), "both services")
    node = server.http("GET", f"/v1/catalog/node/{client.name}")["Node"]
    for name, allowed in (("mine", False), ("shared", True)):
        service = {"Service": name, "Tags": ["b"], "EnableTagOverride": allowed}
        server.http("PUT", "/v1/catalog/register", {"Node": node["Node"], "Address": node["Address"], "Service": service})
    client.kill()
    client.start().ready()
    until(lambda: client.http("GET", "/v1/agent/service/shared")["Tags"] == ["b"], "the agent to adopt the tags")
    until(lambda: server.http("GET", "/v1/catalog/service/mine")[0]["ServiceTags"] == ["a"], "the agent to put its tags back")
    assert server.http("GET", "/v1/catalog/service/shared")[0]["ServiceTags"] == ["b"]

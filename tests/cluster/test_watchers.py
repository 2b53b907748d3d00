"""Hundreds of blocking queries on a real agent: each is answered by the write that it is about, once, and by no other."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.agents import HTTP_PORT, Agent

CROWD: Final = 150
"""Watchers of each of the two questions about `web`."""
EACH: Final = 10
"""Watchers of each of the other questions."""
UNRELATED: Final = 30
WEB: Final = ("/v1/health/service/web?passing&", "/v1/health/service/web?")


def instance(node: str, service: str, port: int, status: str = "passing") -> dict[str, Any]:
    check = {"CheckID": service, "Name": service, "ServiceID": service, "Status": status}
    return {"Node": node, "Address": "10.0.0.1", "Service": {"Service": service, "Port": port}, "Check": check}


Write = tuple[str, str, object]
OTHERS: Final[dict[str, Write]] = {
    "/v1/kv/key?": ("PUT", "/v1/kv/key", b"2"),
    "/v1/kv/missing?": ("PUT", "/v1/kv/missing", b"2"),
    "/v1/kv/tree/?recurse&": ("PUT", "/v1/kv/tree/leaf", b"2"),
    "/v1/kv/tree/?keys&stale&": ("PUT", "/v1/kv/tree/leaf", b"2"),
    "/v1/kv/empty/?recurse&": ("PUT", "/v1/kv/empty/leaf", b"2"),
    "/v1/kv/consistent?consistent&": ("PUT", "/v1/kv/consistent", b"2"),
    "/v1/health/service/absent?": ("PUT", "/v1/catalog/register", instance("n3", "absent", 1)),
    "/v1/catalog/service/absent?": ("PUT", "/v1/catalog/register", instance("n3", "absent", 1)),
    "/v1/health/checks/absent?": ("PUT", "/v1/catalog/register", instance("n3", "absent", 1)),
    "/v1/catalog/node/n4?": ("PUT", "/v1/catalog/register", {"Node": "n4", "Address": "10.0.0.4"}),
    "/v1/health/node/n3?": ("PUT", "/v1/catalog/register", instance("n3", "absent", 1)),
    "/v1/session/node/n1?": ("PUT", "/v1/session/create", {"Node": "n1", "Checks": []}),
    "/v1/query?": ("POST", "/v1/query", {"Name": "q", "Service": {"Service": "web"}}),
    "/v1/connect/intentions?": ("POST", "/v1/connect/intentions", {"SourceName": "x", "DestinationName": "y", "Action": "allow"}),
    "/v1/config/service-defaults/web?": ("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}),
}
"""What is watched beside `web`, and the write that is about it."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    telemetry = 'telemetry { prometheus_retention_time = "1h" disable_hostname = true }'
    settings = f"-hcl=limits {{ http_max_conns_per_client = 1000 }} {telemetry}"
    made = Agent(tmp_path, "a", "-server", "-bootstrap", settings).start()
    try:
        yield made.ready()
    finally:
        made.kill()


class Watcher:
    def __init__(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target = target
        self.index = 0
        self._reader = reader
        self.writer = writer

    def ask(self) -> None:
        question = f"index={self.index}&wait=2m" if self.index else ""
        self.writer.write(f"GET {self.target}{question} HTTP/1.1\r\nHost: agent\r\n\r\n".encode())

    async def hear(self) -> bytes:
        """The body of the next answer, whose index is kept."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length, index = re.search(rb"Content-Length: (\d+)", head), re.search(rb"X-Consul-Index: (\d+)", head)
        assert length is not None, head
        assert index is not None, head
        self.index = int(index[1])
        return await self._reader.readexactly(int(length[1]))

    async def has_nothing_more(self) -> bool:
        """Tells by the answer to a next request being the next answer."""
        self.writer.write(b"GET /v1/status/leader HTTP/1.1\r\nHost: agent\r\n\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        return b"X-Consul-Index" not in head


async def watcher(agent: Agent, target: str) -> Watcher:
    made = Watcher(target, *await asyncio.open_connection(agent.address, HTTP_PORT))
    made.ask()
    await made.hear()
    made.ask()
    return made


def metric(agent: Agent, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", agent.http("GET", "/v1/agent/metrics?format=prometheus").decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def all_wait(agent: Agent, count: int) -> None:
    async with asyncio.timeout(20):
        while metric(agent, "consul_rpc_queries_blocking") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_each_is_woken_by_what_it_watches_alone_and_many_at_the_price_of_one(agent: Agent) -> None:
    for write in (("/v1/kv/key", b"1"), ("/v1/kv/consistent", b"1"), ("/v1/kv/tree/leaf", b"1")):
        agent.http("PUT", *write)
    agent.http("PUT", "/v1/catalog/register", instance("n1", "web", 80))
    crowd = [await watcher(agent, target) for target in WEB for _ in range(CROWD)]
    others = [await watcher(agent, target) for target in OTHERS for _ in range(EACH)]
    await all_wait(agent, len(crowd) + len(others))
    asked = metric(agent, "consul_rpc_query")

    for number in range(UNRELATED):
        agent.http("PUT", f"/v1/kv/unrelated/{number}", b"x")
        agent.http("PUT", "/v1/catalog/register", instance("n2", "unrelated", number, ("passing", "critical")[number % 2]))
        agent.http("PUT", "/v1/session/create", {"Name": f"s{number}"})
    agent.http("PUT", "/v1/catalog/register", instance("n1", "web", 81, "critical"))
    bodies = await asyncio.gather(*(each.hear() for each in crowd))
    assert metric(agent, "consul_rpc_query") - asked < EACH, "one asks for all; the agent itself may have asked something too"
    assert {(each.target, body) for each, body in zip(crowd, bodies, strict=True)} == {
        (target, agent.exchange("GET", target)[2]) for target in WEB
    }
    assert await _are_done(agent, crowd)
    await all_wait(agent, len(others))

    for write in OTHERS.values():
        agent.http(*write)
    await asyncio.gather(*(each.hear() for each in others))
    assert await _are_done(agent, others)
    await all_wait(agent, 0)


async def _are_done(agent: Agent, watchers: list[Watcher]) -> bool:
    """Whether all have the index that their question has now, and were given no second answer."""
    now = {target: agent.exchange("GET", target)[1]["X-Consul-Index"] for target in {each.target for each in watchers}}
    assert {each.target: str(each.index) for each in watchers} == now
    return all(await asyncio.gather(*(each.has_nothing_more() for each in watchers)))


async def test_those_who_go_away_are_no_longer_waited_for(agent: Agent) -> None:
    agent.http("PUT", "/v1/catalog/register", instance("n1", "web", 80))
    crowd = [await watcher(agent, target) for target in (*WEB, "/v1/kv/missing?") for _ in range(CROWD)]
    await all_wait(agent, len(crowd))
    for each in crowd[::2]:
        each.writer.close()
    await all_wait(agent, len(crowd) // 2)
    agent.http("PUT", "/v1/catalog/register", instance("n1", "web", 81))
    agent.http("PUT", "/v1/kv/missing", b"here")
    await asyncio.gather(*(each.hear() for each in crowd[1::2]))
    await all_wait(agent, 0)

"""A pretended agent for each test, and one real agent for each module that asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.agents import HTTP_PORT, Agent, fresh_address

from .programs import PretendedAgent


@pytest.fixture(scope="session")
def host() -> str:
    """A loopback address for pretended agents, which take any free port of it."""
    return fresh_address()


@pytest.fixture
def pretended(host: str) -> Iterator[PretendedAgent]:
    agent = PretendedAgent(host)
    yield agent
    agent.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    folder: Path = tmp_path_factory.mktemp("agent")
    started = Agent(folder, "node1", "-dev").start()
    try:
        yield started.ready()
    finally:
        started.kill()


@pytest.fixture
def address(agent: Agent) -> str:
    return f"{agent.address}:{HTTP_PORT}"

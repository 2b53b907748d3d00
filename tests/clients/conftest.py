"""An agent in development mode, shared by the tests of a file; they keep to names of their own."""

from collections.abc import Iterator

import pytest

from tests.cluster.agents import Agent


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    agent = Agent(tmp_path_factory.mktemp("agent"), "dev", "-dev").start()
    try:
        agent.ready()
        yield agent
    finally:
        agent.kill()

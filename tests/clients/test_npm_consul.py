"""npm's `consul`, unchanged, against our agent: what is said in `npm_consul/*.test.mjs`."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cluster.agents import Agent

SCENARIOS = Path(__file__).parent / "npm_consul"
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="the programs node and npm are not both in PATH"
)


def run(*command: str, folder: Path, variables: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenarios beside the packages that the lock file names, whose checksums npm verifies."""
    folder = tmp_path_factory.mktemp("npm") / "scenarios"
    shutil.copytree(SCENARIOS, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = run("npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    if done.returncode != 0:
        if run("npm", "ping", folder=folder).returncode != 0:
            pytest.skip("npm cannot reach its registry")
        pytest.fail(done.stdout)
    return folder


@pytest.mark.parametrize("scenario", sorted(path.name for path in SCENARIOS.glob("*.test.mjs")))
def test_scenario(scenario: str, installed: Path, agent: Agent) -> None:
    done = run("node", "--test", scenario, folder=installed, variables={"CONSUL_HTTP_HOST": agent.address})
    assert done.returncode == 0, done.stdout

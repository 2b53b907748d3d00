"""The integration tests that py-consul comes with, as their authors wrote them, against our agent."""

import subprocess
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[2] / "scripts/py-consul-suite"
MISSING = 77
PATIENCE = 540.0


@pytest.mark.timeout(PATIENCE + 30)
def test_py_consuls_own_tests_pass() -> None:
    done = subprocess.run([str(SUITE)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    if done.returncode == MISSING:
        pytest.skip(done.stdout.strip().rpartition("\n")[2])
    assert done.returncode == 0, done.stdout

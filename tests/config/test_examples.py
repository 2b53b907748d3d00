"""The example files in `config/`: they load, say what they do, and warn of nothing they can help."""

from pathlib import Path

import pytest

from discovery.config.load import Sources, load

from .rig import MACHINE

EXAMPLES = Path(__file__).parents[2] / "config"


def test_the_examples_are_those_that_the_readme_names() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {"dev.hcl", "server.hcl", "client.hcl", "web.hcl"}
    readme = (EXAMPLES.parent / "README.md").read_text()
    for name in ("server.hcl", "client.hcl", "web.hcl"):
        assert f"config/{name}" in readme


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.hcl")), ids=lambda path: path.name)
def test_each_begins_with_four_lines_for_a_newcomer(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert all(line.startswith("# ") for line in lines[:4])
    assert not lines[4]
    assert any("discovery " in line or "curl " in line for line in lines[:4])


def test_dev() -> None:
    loaded = load(Sources(dev=True, paths=(EXAMPLES / "dev.hcl",)), lambda: MACHINE)
    assert loaded.options.services == ({"Name": "demo", "Port": 8080, "Tags": ["v1"]},)
    assert loaded.warnings == ()


def test_three_servers() -> None:
    loaded = load(Sources(paths=(EXAMPLES / "server.hcl",), flags={"node_name": ("server-1",)}), lambda: MACHINE)
    options = loaded.options
    assert (options.server, options.bootstrap_expect, len(options.retry_join)) == (True, 3, 3)
    assert (options.bind_addr, options.advertise_addr) == ("10.0.0.7", "10.0.0.7")
    assert loaded.warnings == ("bootstrap_expect > 0: expecting 3 servers",)


def test_a_client_with_a_web_service() -> None:
    paths = (EXAMPLES / "client.hcl", EXAMPLES / "web.hcl")
    loaded = load(Sources(paths=paths, flags={"node_name": ("client-1",)}), lambda: MACHINE)
    options = loaded.options
    assert (options.server, options.leave_on_terminate, len(options.retry_join)) == (False, True, 3)
    (web,) = options.services
    assert (web["Name"], web["Port"]) == ("web", 8080)
    assert isinstance(web["Check"], dict)
    assert web["Check"]["HTTP"] == "http://localhost:8080/health"
    assert loaded.warnings == ()

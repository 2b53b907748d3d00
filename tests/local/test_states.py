"""What checks have found, after restarts of the agent."""

import asyncio
import socket
from pathlib import Path

import pytest

from discovery.local import states
from discovery.local.services import Local
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import NotFound, RequestFailed
from tests.local.rig import Wall, make_local, simulate

SECOND = Duration.from_seconds(1)
PATIENCE = 10.0


def started(folder: Path, wall: Wall, files: list[CheckSpec] | None = None) -> Local:
    local = make_local(data_dir=folder, wall=wall, enable_script_checks=True)
    local.start([], files or [])
    return local


async def until_passing(local: Local, check_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        news = asyncio.Event()
        local.on_change(lambda change: news.set())
        while local.checks()[check_id].status != "passing":
            await news.wait()
            news.clear()


@pytest.fixture
def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(False)
    return made


@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(
    ("away", "machine_restarted", "expected"), [(0, False, "passing"), (59, False, "passing"), (61, False, ""), (1, True, "")]
)
async def test_a_short_restart_keeps_what_was_found(
    tmp_path: Path,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    from_file: bool,
    away: int,
    machine_restarted: bool,
    expected: str,
) -> None:
    wall, spec = Wall(), CheckSpec(name="c", tcp=f"127.0.0.1:{listener.getsockname()[1]}", interval=SECOND)
    files = [spec] if from_file else []
    local = started(tmp_path, wall, files)
    if not from_file:
        local.add_check(spec)
    assert local.checks()["c"].status == "critical"
    await until_passing(local, "c")
    output = local.checks()["c"].output
    await local.close()
    wall.now += away
    if machine_restarted:
        monkeypatch.setattr(states, "_BOOT_ID", tmp_path / "checks" / "nothing")
    again = started(tmp_path, wall, files)
    found = again.checks()["c"]
    assert (found.status, found.output) == ((expected, output) if expected else ("critical", ""))
    await again.close()


async def test_an_agent_that_was_killed_has_been_alive_a_moment_ago(tmp_path: Path, listener: socket.socket) -> None:
    wall, spec = Wall(), CheckSpec(name="c", tcp=f"127.0.0.1:{listener.getsockname()[1]}", interval=SECOND)
    killed = started(tmp_path, wall)
    killed.add_check(spec)
    await until_passing(killed, "c")
    wall.now += 20
    again = started(tmp_path, wall)
    assert again.checks()["c"].status == "passing"
    for local in (again, killed):
        await local.close()


def test_the_agent_notes_that_it_is_alive(tmp_path: Path) -> None:
    async def scenario() -> None:
        wall = Wall()
        local = started(tmp_path, wall)
        note = next((tmp_path / "checks" / "alive").iterdir())
        first = note.read_bytes()
        wall.now += 10
        await asyncio.sleep(states.BEAT + 0.1)
        assert note.read_bytes() != first
        await local.close()

    simulate(scenario())


def test_states_of_checks_that_are_no_more_are_forgotten(tmp_path: Path) -> None:
    async def before() -> None:
        local = started(tmp_path, Wall(), [CheckSpec(name="c", ttl=Duration.from_seconds(60))])
        local.update_ttl("c", "passing", "")
        await local.close()

    async def after() -> None:
        await started(tmp_path, Wall()).close()

    simulate(before())
    assert list((tmp_path / "checks" / "state").iterdir())
    simulate(after())
    assert not list((tmp_path / "checks" / "state").iterdir())


# --- runs on demand --------------------------------------------------------------------------------------------------


async def test_a_check_runs_on_demand(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    local = started(tmp_path / "data", Wall())
    minute = Duration.from_seconds(3600)
    thresholds = {"failures_before_critical": 2}
    local.add_check(CheckSpec(name="c", args=["test", "-e", str(flag)], interval=minute, **thresholds))  # type: ignore[arg-type]
    flag.touch()
    found = await local.run_check("c")
    assert (found.check_id, found.status, found.published) == ("c", "passing", "passing")
    assert local.checks()["c"].status == "passing"
    flag.unlink()
    found = await local.run_check("c")
    assert (found.status, found.published) == ("warning", "warning")
    await local.close()


async def test_only_checks_that_the_agent_runs_can_be_run(tmp_path: Path) -> None:
    local = started(tmp_path, Wall())
    local.add_check(CheckSpec(name="ttl", ttl=SECOND))
    with pytest.raises(NotFound, match='Unknown check "nope"'):
        await local.run_check("nope")
    with pytest.raises(RequestFailed, match='CheckID "ttl" is not run by the agent'):
        await local.run_check("ttl")
    await local.close()


# --- draining --------------------------------------------------------------------------------------------------------


def test_a_draining_service_is_out_of_use_and_later_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = started(tmp_path, Wall())
        local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=SECOND, status="passing")))
        local.drain_service("web", 30.0, "new version")
        maintenance = local.checks()["_service_maintenance:web"]
        assert (maintenance.status, maintenance.notes) == ("critical", "Draining: deregistered in 30s. new version")
        await asyncio.sleep(29.9)
        assert "web" in local.services()
        await asyncio.sleep(0.2)
        assert (local.services(), local.checks()) == ({}, {})
        with pytest.raises(NotFound):
            local.drain_service("web", 30.0, "")
        await local.close()

    simulate(scenario())


def test_leaving_maintenance_ends_draining(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = started(tmp_path, Wall())
        local.add_service(ServiceSpec(name="web"))
        local.drain_service("web", 30.0, "")
        local.service_maintenance("web", False, "")
        await asyncio.sleep(60)
        assert "web" in local.services()
        assert local.checks() == {}
        local.drain_service("web", 30.0, "")
        await asyncio.sleep(20)
        local.drain_service("web", 30.0, "")
        await asyncio.sleep(20)
        assert "web" in local.services(), "the last wish counts"
        await asyncio.sleep(11)
        assert "web" not in local.services()
        await local.close()

    simulate(scenario())


@pytest.mark.parametrize(("away", "left"), [(10, 20.0), (300, 0.0)])
def test_draining_goes_on_after_a_restart(tmp_path: Path, away: int, left: float) -> None:
    wall = Wall()

    async def before() -> None:
        local = started(tmp_path, wall)
        local.add_service(ServiceSpec(name="web"))
        local.drain_service("web", 30.0, "")
        await local.close()

    async def after() -> None:
        local = started(tmp_path, wall)
        if left:
            await asyncio.sleep(left - 0.1)
            assert local.checks()["_service_maintenance:web"].status == "critical"
        await asyncio.sleep(0.2)
        assert local.services() == {}
        await local.close()
        assert not list((tmp_path / "services" / "draining").iterdir())

    simulate(before())
    wall.now += away
    simulate(after())

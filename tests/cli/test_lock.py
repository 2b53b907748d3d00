"""`lock` against a real agent: who gets in, when the program is stopped, and that nothing is left behind."""

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import Agent, until
from tests.transport.peers import find, needs

from .programs import PATIENCE, PROGRAM, PretendedAgent, environment, run, start


def keys(agent: Agent, prefix: str) -> list[dict[str, Any]]:
    status, _, body = agent.status_of("GET", f"/v1/kv/{prefix}?recurse")
    found: list[dict[str, Any]] = json.loads(body) if status == 200 else []
    return found


def session_of(agent: Agent, key: str) -> str:
    return next((pair.get("Session", "") for pair in keys(agent, key) if pair["Key"] == key), "")


def nothing_left(agent: Agent, prefix: str) -> bool:
    return not keys(agent, prefix) and not agent.http("GET", "/v1/session/list")


@contextlib.contextmanager
def holding(agent: Agent, address: str, prefix: str, folder: Path, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    """A lock that is held until the file `<prefix>.go` is there."""
    script = f"touch {prefix}.in; while [ ! -e {prefix}.go ]; do sleep 0.05; done"
    process = start("lock", *flags, prefix, script, address=address, folder=folder)
    until((folder / f"{prefix}.in").exists, "the holder to get in")
    go = folder / f"{prefix}.go"
    try:
        yield process
        go.touch()
        assert process.wait(PATIENCE) == 0
    finally:
        # Also ends the script, which else would hold the output open for ever.
        go.touch()
        process.kill()
        process.communicate()


def test_the_program_runs_while_the_lock_is_held(agent: Agent, address: str) -> None:
    result = run("lock", "-verbose", "once", 'echo "$CONSUL_LOCK_HELD"', address=address)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "Setting up lock at path: once/.lock",
        "Attempting lock acquisition",
        "Starting handler",
        "true",
        "Child terminated, releasing lock",
        "Cleanup succeeded",
    ]
    assert nothing_left(agent, "once")


def test_the_lock_is_consuls_own_kind(agent: Agent, address: str, tmp_path: Path) -> None:
    with holding(agent, address, "kind", tmp_path):
        [pair] = keys(agent, "kind")
        assert (pair["Key"], pair["Flags"], pair["Value"]) == ("kind/.lock", 0x2DDCCBC058A50C18, None)
        [session] = agent.http("GET", f"/v1/session/info/{pair['Session']}")
        assert session["Name"].startswith("Consul lock for 'touch kind.in;")
        assert session["Name"].endswith("' at 'kind'")
        assert (session["TTL"], session["Behavior"], session["LockDelay"]) == ("15s", "release", 15 * 10**9)
    assert nothing_left(agent, "kind")


def test_only_one_gets_in_and_the_next_waits(agent: Agent, address: str, tmp_path: Path) -> None:
    with holding(agent, address, "one", tmp_path):
        refused = run("lock", "-timeout=300ms", "one", "echo in", address=address)
        assert refused == (1, "", "Shutdown triggered or timeout during lock acquisition\n")
        waiting = start("lock", "one", "echo in", address=address)
        until(lambda: len(agent.http("GET", "/v1/session/list")) == 2, "the other to wait")
    assert waiting.communicate(timeout=PATIENCE) == ("in\n", "")
    assert waiting.returncode == 0
    assert nothing_left(agent, "one")


@pytest.mark.parametrize(
    ("flags", "command", "code", "out", "err"),
    [
        ([], ["exit 3"], 0, "", "Error running handler: exit status 3\n"),
        (["-child-exit-code"], ["exit 3"], 2, "", "Error running handler: exit status 3\n"),
        (["-child-exit-code"], ["true"], 0, "", ""),
        (["-child-exit-code"], ["kill -9 $$"], 2, "", "Error running handler: signal: killed\n"),
        (["-shell=false"], ["/bin/echo", "a  b", "c"], 0, "a  b c\n", ""),
        (["-shell=false"], ["/nosuch"], 0, "", "Error starting handler: fork/exec /nosuch: no such file or directory\n"),
        ([], ["cat"], 0, "", ""),
        (["-pass-stdin"], ["cat"], 0, "given\n", ""),
    ],
)
def test_how_the_program_ends(
    flags: list[str], command: list[str], code: int, out: str, err: str, agent: Agent, address: str
) -> None:
    assert run("lock", *flags, "ends", *command, address=address, stdin="given\n") == (code, out, err)
    assert nothing_left(agent, "ends")


def test_a_lost_lock_stops_the_program_with_all_it_started(agent: Agent, address: str) -> None:
    process = start("lock", "-verbose", "lost", "sleep 1000 & echo $!; wait", address=address)
    session = until(lambda: session_of(agent, "lost/.lock"), "the lock to be held")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    agent.http("PUT", f"/v1/session/destroy/{session}")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == "Error running handler: signal: terminated\n"
    shown = out.splitlines()
    assert (shown[0], shown[2:]) == ("Lock lost, killing child", ["Child terminated", "Cleanup succeeded"])
    until(lambda: not Path(f"/proc/{lines[3].strip()}").exists(), "the grandchild to be gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_program_and_frees_the_lock(number: signal.Signals, agent: Agent, address: str) -> None:
    process = start("lock", "-verbose", "stop", "echo started; sleep 1000", address=address)
    assert process.stdout is not None
    while process.stdout.readline() != "started\n":
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "Error running handler: signal: terminated\n")
    assert out.splitlines()[0] == "Shutdown triggered, killing child"
    assert nothing_left(agent, "stop")


def test_an_interrupt_while_waiting_leaves_nothing_behind(agent: Agent, address: str, tmp_path: Path) -> None:
    with holding(agent, address, "wait", tmp_path):
        waiting = start("lock", "wait", "echo never", address=address)
        until(lambda: len(agent.http("GET", "/v1/session/list")) == 2, "the other to wait")
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=PATIENCE) == ("", "Shutdown triggered or timeout during lock acquisition\n")
        assert waiting.returncode == 1
        assert len(agent.http("GET", "/v1/session/list")) == 1
    assert nothing_left(agent, "wait")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_session_is_made_leaves_none_behind(number: signal.Signals, pretended: PretendedAgent) -> None:
    create, destroy = "PUT /v1/session/create", "PUT /v1/session/destroy/s1"
    for line, answer in (("GET /v1/agent/self", {}), (create, {"ID": "s1"}), (destroy, True)):
        pretended.answer(line, answer)
    pretended.held_back[create] = threading.Event()
    process = start("lock", "p", "true", address=pretended.address)
    until(lambda: create in pretended.lines, "the session to be asked for")
    process.send_signal(number)
    pretended.held_back[create].set()
    assert process.communicate(timeout=PATIENCE) == ("", "Shutdown triggered or timeout during lock acquisition\n")
    assert process.returncode == 1
    assert pretended.lines[-1] == destroy


def test_a_second_interrupt_does_not_wait_for_the_session(pretended: PretendedAgent) -> None:
    create = "PUT /v1/session/create"
    pretended.answer("GET /v1/agent/self", {})
    pretended.held_back[create] = threading.Event()
    process = start("lock", "p", "true", address=pretended.address)
    until(lambda: create in pretended.lines, "the session to be asked for")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE) == ("", "Shutdown triggered or timeout during lock acquisition\n")
    assert process.returncode == 1
    pretended.held_back[create].set()


def test_a_key_of_another_kind_is_not_taken(agent: Agent, address: str) -> None:
    agent.put("taken/.lock", b"data")
    result = run("lock", "taken", "true", address=address)
    assert result == (1, "", "Lock acquisition failed: Existing key does not match lock use\n")
    assert agent.get("taken/.lock") == b"data"
    agent.http("DELETE", "/v1/kv/taken?recurse")


def test_a_semaphore_lets_as_many_in_as_it_says(agent: Agent, address: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with holding(agent, address, "sem", tmp_path, "-n=2"), holding(agent, address, "sem", other, "-n=2"):
        held = {pair["Key"]: pair for pair in keys(agent, "sem")}
        assert len(held) == 3
        assert all(pair["Flags"] == 0xE0F69A2BAA414DE0 for pair in held.values())
        value = json.loads(agent.get("sem/.lock") or b"")
        assert value == {"Limit": 2, "Holders": {key.split("/")[1]: True for key in held if key != "sem/.lock"}}
        full = run("lock", "-n=2", "-timeout=300ms", "sem", "true", address=address)
        assert full == (1, "", "Shutdown triggered or timeout during lock acquisition\n")
        conflict = run("lock", "-n=3", "sem", "true", address=address)
        assert conflict == (1, "", "Lock acquisition failed: semaphore limit conflict (lock: 2, local: 3)\n")
        third = start("lock", "-verbose", "-n=2", "sem", "echo in", address=address)
        (tmp_path / "sem.go").touch()
        out, err = third.communicate(timeout=PATIENCE)
        assert (third.returncode, err) == (0, "")
        assert out.splitlines() == [
            "Setting up semaphore (limit 2) at prefix: sem",
            "Attempting lock acquisition",
            "Starting handler",
            "in",
            "Child terminated, releasing lock",
            "Cleanup aborted, lock in use",
        ]
    assert nothing_left(agent, "sem")


def test_a_dead_holder_of_a_semaphore_makes_room(agent: Agent, address: str) -> None:
    for number in range(2):
        process = start("lock", "-n=2", "dead", f"echo {number}; sleep 1000", address=address)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{number}\n"
        process.kill()
        process.stdout.close()
        process.wait()
    waiting = start("lock", "-n=2", "dead", "echo in", address=address)
    until(lambda: len(agent.http("GET", "/v1/session/list")) == 3, "the third to wait")
    [dead, *_] = json.loads(agent.get("dead/.lock") or b"")["Holders"]
    agent.http("PUT", f"/v1/session/destroy/{dead}")
    assert waiting.communicate(timeout=PATIENCE) == ("in\n", "")
    for session in agent.http("GET", "/v1/session/list"):
        agent.http("PUT", f"/v1/session/destroy/{session['ID']}")
    agent.http("DELETE", "/v1/kv/dead?recurse")


def test_an_agent_that_cannot_tell_is_asked_as_often_as_said(pretended: PretendedAgent) -> None:
    """After the retries the lock counts as lost."""
    pair = {"Key": "p/.lock", "Flags": 0x2DDCCBC058A50C18, "Value": None, "Session": "s1", "ModifyIndex": 7, "LockIndex": 1}
    for line, answer in (
        ("GET /v1/agent/self", {}),
        ("PUT /v1/session/create", {"ID": "s1"}),
        ("GET /v1/kv/p/.lock?wait=15000ms", [pair]),
        ("PUT /v1/kv/p/.lock?flags=3304740253564472344&release=s1", True),
        ("PUT /v1/session/destroy/s1", True),
        ("GET /v1/kv/p/.lock", [{**pair, "Session": ""}]),
        ("DELETE /v1/kv/p/.lock?cas=7", True),
    ):
        pretended.answer(line, answer)
    pretended.answer("GET /v1/kv/p/.lock?consistent=", b"rpc error", 500)
    result = pretended.run("lock", "-monitor-retry=1", "p", "sleep 1000")
    assert result == (1, "", "Error running handler: signal: terminated\n")
    assert pretended.lines.count("GET /v1/kv/p/.lock?consistent=") == 2


@needs("consul")
@pytest.mark.parametrize("flags", [(), ("-n=1",)], ids=["lock", "explicit"])
def test_consuls_own_command_and_ours_exclude_each_other(
    flags: tuple[str, ...], agent: Agent, address: str, tmp_path: Path
) -> None:
    consul = find("consul")
    assert consul is not None

    def theirs(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [consul, "lock", *flags, *arguments]
        env = environment(address)
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=PATIENCE, check=False)

    with holding(agent, address, "both", tmp_path, *flags):
        refused = theirs("-timeout=300ms", "both", "echo in")
        assert (refused.returncode, refused.stdout) == (1, "")
    assert theirs("both", "echo in").stdout == "in\n"
    ours = f"{' '.join(PROGRAM)} lock -timeout=300ms both true; echo $?"
    assert theirs("both", ours).stdout == "1\n"

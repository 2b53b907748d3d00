"""`watch` and `monitor`: what is shown once, what a program is handed, and how both end."""

import json
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.agents import Agent, until

from .programs import PATIENCE, PretendedAgent, run, start

PAIR = {"LockIndex": 0, "Key": "a", "Flags": 3, "Value": "eA==", "CreateIndex": 5, "ModifyIndex": 6}
SHOWN = {"Key": "a", "CreateIndex": 5, "ModifyIndex": 6, "LockIndex": 0, "Flags": 3, "Value": "eA==", "Session": ""}

ONCE = [
    ("-type=key -key=a", "GET /v1/kv/a", [PAIR], SHOWN),
    ("-type=keyprefix -prefix=a", "GET /v1/kv/a?recurse=", [PAIR], [SHOWN]),
    ("-type=services", "GET /v1/catalog/services", {"web": ["v1"]}, {"web": ["v1"]}),
    ("-type=nodes -stale -datacenter=dc2", "GET /v1/catalog/nodes?dc=dc2&stale=", [{"Node": "n"}], [{"Node": "n"}]),
    (
        "-type=service -service=web -tag=a -tag=b -passingonly=true",
        "GET /v1/health/service/web?passing=1&tag=a&tag=b",
        [],
        [],
    ),
    ("-type=service -service=web -passingonly=false", "GET /v1/health/service/web", [], []),
    ("-type=checks", "GET /v1/health/state/any", [], []),
    ("-type=checks -state=warning", "GET /v1/health/state/warning", [], []),
    ("-type=checks -service=web", "GET /v1/health/checks/web", [], []),
    ("-type=event", "GET /v1/event/list", [], []),
    ("-type=event -name=a", "GET /v1/event/list?name=a", [], []),
]


@pytest.mark.parametrize(("flags", "line", "answer", "shown"), ONCE, ids=lambda value: str(value)[:30])
def test_shown_once(flags: str, line: str, answer: Any, shown: Any, pretended: PretendedAgent) -> None:
    pretended.answer(line, answer)
    self_line = "GET /v1/agent/self" + ("?dc=dc2&stale=" if "dc2" in flags else "")
    pretended.answer(self_line, {})
    result = pretended.run("watch", *flags.split(" "))
    assert result == (0, json.dumps(shown, indent=4) + "\n", "")
    assert pretended.lines == [self_line, line]


def test_what_is_missing_is_null(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/agent/self", {})
    assert pretended.run("watch", "-type=key", "-key=a") == (0, "null\n", "")
    assert pretended.run("watch", "-type=keyprefix", "-prefix=a") == (0, "null\n", "")


def lines_of(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def interrupted(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_is_handed_every_change(number: signal.Signals, agent: Agent, address: str) -> None:
    agent.http("DELETE", "/v1/kv/w?recurse")
    process = start("watch", "-type=key", "-key=w/k", 'cat; echo "at $CONSUL_INDEX"', address=address)
    assert lines_of(process, 1) == ["null"]
    assert lines_of(process, 1)[0].startswith("at ")
    agent.put("w/k", b"1")
    document, index = lines_of(process, 2)
    assert document.startswith('{"Key":"w/k","CreateIndex":')
    assert json.loads(document)["Value"] == "MQ=="
    assert index == f"at {json.loads(document)['ModifyIndex']}"
    agent.put("w/other", b"1")
    agent.put("w/k", b"2")
    document, _ = lines_of(process, 2)
    assert json.loads(document)["Value"] == "Mg=="
    agent.http("DELETE", "/v1/kv/w/k")
    assert lines_of(process, 1) == ["null"]
    lines_of(process, 1)
    assert interrupted(process, number) == (0, "", "")


def test_a_service_is_watched_until_it_passes(agent: Agent, address: str) -> None:
    script = "python3 -c 'import json,sys; print(len(json.load(sys.stdin)))'"
    process = start("watch", "-type=service", "-service=slow", "-passingonly=true", script, address=address)
    assert lines_of(process, 1) == ["0"]
    agent.http("PUT", "/v1/agent/service/register", {"Name": "slow", "Check": {"TTL": "10m"}})
    agent.http("PUT", "/v1/agent/check/pass/service:slow")
    assert lines_of(process, 1) == ["1"]
    assert interrupted(process) == (0, "", "")
    agent.http("PUT", "/v1/agent/service/deregister/slow")


def test_only_new_events_are_handed_over(agent: Agent, address: str) -> None:
    assert run("event", "-name=old", address=address).code == 0
    until(lambda: agent.http("GET", "/v1/event/list"), "the event to arrive")
    process = start("watch", "-type=event", "cat", address=address)
    assert [event["Name"] for event in json.loads(lines_of(process, 1)[0])] == ["old"]
    for name in ("first", "second"):
        assert run("event", f"-name={name}", "hello", address=address).code == 0
        [event] = json.loads(lines_of(process, 1)[0])
        assert (event["Name"], event["Payload"]) == (name, "aGVsbG8=")
    assert interrupted(process) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "out", "err"),
    [
        (("echo hi; exit 3",), "hi\n", "Error executing handler: exit status 3\n"),
        (("kill -9 $$",), "", "Error executing handler: signal: killed\n"),
        (("-shell=false", "/nosuch"), "", "Error starting handler: fork/exec /nosuch: no such file or directory\n"),
    ],
)
def test_a_program_that_fails_ends_the_watch(arguments: tuple[str, ...], out: str, err: str, address: str) -> None:
    assert run("watch", "-type=services", *arguments, address=address) == (1, out, err)


def test_a_program_need_not_read_what_it_is_given(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/agent/self", {})
    pretended.answer("GET /v1/catalog/services", {f"service-{number}": [] for number in range(20000)})
    process = start("watch", "-type=services", "echo done", address=pretended.address)
    assert lines_of(process, 1) == ["done"]
    assert interrupted(process)[0] == 0


def test_an_interrupt_stops_the_program_too(address: str) -> None:
    process = start("watch", "-type=services", "echo $$; exec sleep 1000", address=address)
    [pid] = lines_of(process, 1)
    assert interrupted(process) == (0, "", "")
    assert not Path(f"/proc/{pid}").exists()


def test_a_failed_read_is_told_and_tried_again(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/agent/self", {})
    pretended.answer("GET /v1/catalog/services", b"No cluster leader", 500)
    process = start("watch", "-type=services", "cat", address=pretended.address)
    assert process.stderr is not None
    told = process.stderr.readline()
    assert told == "Watch (type: services) errored: Unexpected response code: 500 (No cluster leader), retry in 5s\n"
    pretended.answer("GET /v1/catalog/services", {"back": []})
    assert lines_of(process, 1) == ['{"back":[]}']
    assert interrupted(process)[0] == 0


# --- monitor --------------------------------------------------------------------------------------------------------


def test_monitor_streams_the_log_until_interrupted(agent: Agent, address: str) -> None:
    process = start("monitor", "-log-level=debug", address=address)
    _until_streaming(agent, process)
    assert interrupted(process)[0::2] == (0, "")


def _until_streaming(agent: Agent, process: "subprocess.Popen[str]") -> str:
    """Make log lines until one comes out."""

    def line() -> str:
        agent.status_of("PUT", "/v1/agent/reload")
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 0.2)
        return process.stdout.readline() if ready else ""

    return until(line, "a log line")


@pytest.mark.parametrize("flags", [("-log-json",), ("-format=json",)])
def test_monitor_as_json(flags: tuple[str, ...], agent: Agent, address: str) -> None:
    process = start("monitor", *flags, "-log-level=debug", address=address)
    document = json.loads(_until_streaming(agent, process))
    assert document["@level"] in ("trace", "debug", "info", "warn", "error")
    assert {"@message", "@timestamp"} <= document.keys()
    assert interrupted(process)[0::2] == (0, "")


def test_monitor_refuses_unknown_levels(address: str) -> None:
    text = "Error starting monitor: Unexpected response code: 400 (Bad request: Unknown log level: bogus)\n"
    assert run("monitor", "-log-level=bogus", address=address) == (1, "", text)


def test_monitor_tells_when_the_agent_is_gone(tmp_path: Path) -> None:
    other = Agent(tmp_path, "gone", "-dev").start()
    try:
        other.ready()
        process = start("monitor", "-log-level=debug", address=f"{other.address}:8500")
        _until_streaming(other, process)
        other.kill()
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (1, "The agent ended the stream: it has stopped, or is no longer reachable.\n")
    finally:
        other.kill()

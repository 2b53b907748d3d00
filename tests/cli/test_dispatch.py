"""Which command runs, what help says and to which stream, and the exit codes that are not a command's own."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from discovery.cli.action import Action, Entry, Group
from discovery.cli.commands import COMMANDS
from tests.cluster.agents import until

from .programs import PATIENCE, PROGRAM, PretendedAgent, environment, run, start


def paths_of(name: str, handler: object) -> list[tuple[str, ...]]:
    """A command with all that is below it."""
    if isinstance(handler, Entry):
        return paths_of(name, handler.load())
    if isinstance(handler, Group):
        below = [path for member, one in handler.members.items() for path in paths_of(member, one)]
        return [(name,), *((name, *path) for path in below)]
    return [(name,)]


ALL_PATHS = [path for name, entry in COMMANDS.items() for path in paths_of(name, entry)]


@pytest.mark.parametrize("arguments", [(), ("bogus",), ("help",), ("bogus", "-h"), ("--bogus",)])
def test_no_or_unknown_command_shows_the_commands_on_stderr_and_exits_127(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (127, "")
    assert result.err.startswith("Usage: discovery [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n")
    shown = [line.split()[0] for line in result.err.splitlines() if line.startswith("    ")]
    assert shown == sorted(COMMANDS)


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_goes_to_stdout(flag: str) -> None:
    result = run(flag)
    assert (result.code, result.err) == (0, "")
    assert "Available commands are:" in result.out


@pytest.mark.parametrize("path", ALL_PATHS, ids=" ".join)
def test_every_command_has_a_help_page(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    handler = COMMANDS[path[0]].load()
    try:
        code = handler([*path[1:], "-h"])
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    assert shown.out.startswith("Usage: ")
    assert " ".join(path) in shown.out.splitlines()[0]


@pytest.mark.parametrize("path", ALL_PATHS, ids=" ".join)
def test_every_command_refuses_unknown_flags(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    handler = COMMANDS[path[0]].load()
    try:
        code = handler([*path[1:], "-bogus"])
    except SystemExit as ended:
        code = ended.code  # type: ignore[assignment]
    shown = capsys.readouterr()
    assert (code, shown.out) == (1, "")
    if isinstance(handler, Action):
        assert shown.err.startswith("flag provided but not defined: -bogus\nUsage:\n")


@pytest.mark.parametrize("arguments", [("kv",), ("kv", "bogus"), ("kv", "-version"), ("kv", "-bogus", "get", "a")])
def test_a_group_alone_shows_its_commands_on_stderr_and_exits_1(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Usage: discovery kv <subcommand> [options] [args]\n")
    assert result.err.rstrip().splitlines()[-6:] == [
        "Subcommands:",
        "    delete    Deletes a key, or all keys below a prefix",
        "    export    Writes the pairs below a prefix as JSON",
        "    get       Shows the value of a key, or what is below a prefix",
        "    import    Stores pairs that kv export wrote",
        "    put       Sets the value of a key",
    ]


@pytest.mark.parametrize("arguments", [("version",), ("-v",), ("-version",), ("--version",), ("-v", "kv")])
def test_version(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "Discovery v0.1.0",
        "Compatible with Consul v1.8.7",
        "Protocol 2 spoken by default, understands 2 to 3 "
        "(agent will automatically use protocol >2 when speaking to compatible agents)",
        "",
    ]


def test_version_as_json_has_consuls_fields() -> None:
    assert run("version", "-format=json").out == (
        '{\n   "Version": "1.8.7",\n   "Revision": "0.1.0",\n   "Prerelease": "",\n'
        '   "RPC": {\n      "Default": 2,\n      "Min": 2,\n      "Max": 3\n   }\n}\n'
    )
    assert run("version", "-format=xx") == (1, "", "Unknown format: xx\n")


def test_version_needs_no_heavy_imports() -> None:
    """What makes an agent takes long to import; no other command may wait for it."""
    script = "import sys; from discovery.cli.main import main; main(['version']); print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.endswith("False\n")


def test_called_consul_through_a_link_it_calls_itself_so(tmp_path: Path) -> None:
    installed = Path(sys.executable).parent / "discovery"
    if not installed.exists():
        pytest.skip("the program is not installed beside this interpreter")
    link = tmp_path / "consul"
    link.symlink_to(installed)

    def called(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [link, *arguments], capture_output=True, text=True, timeout=PATIENCE, env=environment(), check=False
        )

    assert called("version").stdout.startswith("Consul v1.8.7\n")
    assert called("kv", "get", "-h").stdout.startswith("Usage: consul kv get [options] [KEY_OR_PREFIX]\n")
    assert called("kv").stderr.startswith("Usage: consul kv <subcommand>")
    unknown = called("bogus")
    assert (unknown.returncode, unknown.stderr.split("\n")[0]) == (127, "Usage: consul [--version] [--help] <command> [<args>]")


def test_a_reader_that_has_seen_enough_is_no_error(pretended: PretendedAgent) -> None:
    # Far more than a pipe holds, so that the command is still writing when its reader goes.
    pairs = [{"Key": f"k{number}", "Flags": 0, "Value": "eHh4" * 250} for number in range(1000)]
    pretended.answer("GET /v1/kv/?recurse=", pairs)
    process = start("kv", "get", "-recurse", address=pretended.address)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("k0:xxx")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


def test_an_interrupt_ends_a_command_quietly(pretended: PretendedAgent) -> None:
    process = start("kv", "import", "-", address=pretended.address)
    # It waits for its stdin; the interrupt must not come before it is ready to take one.
    _until_reading(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (128 + signal.SIGINT, "", "")


def _until_reading(pid: int) -> None:
    """Until the process sleeps in a read of its stdin."""
    read = {"x86_64": "0", "aarch64": "63"}.get(platform.machine())

    def reads() -> bool:
        return Path(f"/proc/{pid}/syscall").read_text().split()[:2] == [read, "0x0"]

    if read is None or not os.access(f"/proc/{pid}/syscall", os.R_OK):
        pytest.skip("this system does not tell what a process waits for")
    until(reads, "the command to read its stdin")


def test_results_are_utf8_whatever_the_locale(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/kv/schl%C3%BCssel", [{"Key": "schlüssel", "Flags": 0, "Value": "w7Y="}])
    command = [*PROGRAM, "kv", "get", "schlüssel"]
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env = environment(pretended.address, variables)
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, env=env, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ö\n".encode(), b"")

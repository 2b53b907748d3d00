"""`validate`, as the processes that people and scripts run."""

import subprocess
import sys
from pathlib import Path

import pytest

from discovery.cli import validate

SERVER = 'data_dir = "/d"\nbind_addr = "127.0.0.1"\nnode_name = "n"\nserver = true\nbootstrap_expect = 3\n'


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = validate.run(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_valid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text(SERVER)
    valid = (0, "Configuration is valid!\n", "bootstrap_expect > 0: expecting 3 servers\n")
    assert run(capsys, str(tmp_path)) == valid
    assert run(capsys, str(tmp_path / "a.hcl")) == valid
    assert run(capsys, "-quiet", str(tmp_path)) == (0, "", "")


def test_several_files_are_one_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one, two = tmp_path / "one.hcl", tmp_path / "two.json"
    one.write_text('data_dir = "/d"\nbind_addr = "127.0.0.1"\nnode_name = "n"\n')
    two.write_text('{"bootstrap_expect": 3}')
    code, out, err = run(capsys, str(one), str(two))
    assert (code, out) == (1, "")
    assert err == f"Config validation failed: 'bootstrap_expect > 0' requires 'server = true' ({two}:1:2)\n"


def test_a_format_for_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text(SERVER)
    assert run(capsys, str(file))[0] == 1
    assert run(capsys, "-config-format=hcl", str(file))[0] == 0
    code, _, err = run(capsys, "-config-format", "yaml", str(file))
    assert (code, err) == (1, "Config validation failed: config: -config-format must be either 'hcl' or 'json'\n")


def test_invalid_is_told_even_when_quiet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "a.hcl"
    file.write_text("serverr = true\n")
    message = (
        f"Config validation failed: failed to parse {file}: 1 error occurred:\n"
        f"\t* invalid config key serverr ({file}:1:1; nearest known key: server)\n\n"
    )
    assert run(capsys, str(file)) == run(capsys, "-quiet", str(file)) == (1, "", message)


@pytest.mark.parametrize("arguments", [(), ("",), ("-quiet",)])
def test_nothing_to_validate(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run(capsys, *arguments) == (1, "", "Must specify at least one config file or directory\n")


def test_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text(SERVER)
    command = [sys.executable, "-m", "discovery", "validate"]
    good = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, "Configuration is valid!\n")
    bad = subprocess.run([*command, str(tmp_path / "gone")], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("Config validation failed: config: Open failed on ")
    mistaken = subprocess.run([*command, "-bogus"], capture_output=True, text=True, check=False)
    assert (mistaken.returncode, mistaken.stderr.splitlines()[0]) == (1, "flag provided but not defined: -bogus")

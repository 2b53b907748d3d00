"""Which files are read, in which order, as what, and what is said of those that can't be."""

import os
from pathlib import Path

import pytest

from discovery.config import read
from discovery.config.load import Sources, load
from discovery.config.tree import ConfigError

from .rig import BASE, loaded


def texts(*paths: Path, format: str = "") -> tuple[list[str], list[str]]:
    """Names of the files read, and what is said of others."""
    skipped: list[str] = []
    found = [Path(text.name).name for text in read.files(paths, format, skipped)]
    return found, skipped


def refusal(*paths: Path, format: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        load(Sources(paths=paths, format=format))
    return str(caught.value)


def test_a_directory_is_read_in_the_bytewise_order_of_names(tmp_path: Path) -> None:
    for name in ("b.hcl", "10.hcl", "9.json", "a.json", "B.hcl", "é.hcl", "z.hcl"):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "")
    assert texts(tmp_path)[0] == ["10.hcl", "9.json", "B.hcl", "a.json", "b.hcl", "z.hcl", "é.hcl"]


def test_only_the_files_of_the_directory_itself(tmp_path: Path) -> None:
    (tmp_path / "sub.hcl").mkdir()
    (tmp_path / "sub.hcl" / "inner.hcl").write_text("")
    (tmp_path / "a.hcl").write_text("")
    assert texts(tmp_path) == (["a.hcl"], [])


def test_files_and_directories_are_read_in_the_order_given(tmp_path: Path) -> None:
    first, last = tmp_path / "z.hcl", tmp_path / "a.hcl"
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (first, last, folder / "m.hcl"):
        path.write_text("")
    assert texts(first, folder, last)[0] == ["z.hcl", "m.hcl", "a.hcl"]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.hcl").symlink_to(tmp_path / "target")
    assert texts(tmp_path / "folder")[0] == ["link.hcl"]


def test_files_of_other_kinds_are_left_out_and_named(tmp_path: Path) -> None:
    for name in ("a.hcl", "b.txt", "c", "d.hcl~"):
        (tmp_path / name).write_text("")
    said = "skipping file {}, extension must be .hcl or .json, or config format must be set"
    assert texts(tmp_path) == (["a.hcl"], [said.format(tmp_path / name) for name in ("b.txt", "c", "d.hcl~")])


def test_what_is_left_out_is_among_the_warnings(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert any("notes.txt" in warning for warning in loaded(BASE, paths=[tmp_path]).warnings)


def test_with_a_format_every_file_is_of_that_format(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('node_name = "a"')
    (tmp_path / "b.json").write_text('datacenter = "b"')
    options = loaded(BASE.replace('node_name = "n"', ""), paths=[tmp_path], format="hcl").options
    assert (options.node_name, options.datacenter) == ("a", "b")


def test_hcl_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text('node_name = "a"')
    assert refusal(tmp_path, format="json") == f"failed to parse {tmp_path}/a.hcl: Expecting value ({tmp_path}/a.hcl:1:1)"


def test_a_format_that_is_none(tmp_path: Path) -> None:
    assert refusal(tmp_path, format="yaml") == "config: -config-format must be either 'hcl' or 'json'"


@pytest.mark.parametrize("text", ["", " \n", "\n\n"])
@pytest.mark.parametrize("name", ["a.hcl", "a.json"])
def test_an_empty_file_says_nothing(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert loaded(BASE, paths=[tmp_path]) == loaded(BASE)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    assert refusal(path) == f"config: Open failed on {path}. open {path}: no such file or directory"


def test_a_link_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.symlink_to(tmp_path / "gone")
    assert refusal(tmp_path) == f"config: Open failed on {path}. open {path}: no such file or directory"


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text("")
    path = tmp_path / "a.hcl" / "b.hcl"
    assert refusal(path) == f"config: Open failed on {path}. open {path}: not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.write_text("")
    path.chmod(0)
    assert refusal(path) == f"config: Open failed on {path}. open {path}: permission denied"


def test_a_file_that_fails_while_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.hcl"
    path.write_text("")

    def fail(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert refusal(path) == f"config: Open failed on {path}. open {path}: permission denied"


def test_the_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text("server = 1")
    (tmp_path / "b.hcl").write_text("=")
    (tmp_path / "c.hcl").write_text("serverr = true")
    message = refusal(tmp_path)
    assert [line for line in message.splitlines() if line.startswith("failed to parse")] == [
        f"failed to parse {tmp_path}/a.hcl: 1 error occurred:",
        f"failed to parse {tmp_path}/b.hcl: unexpected '=' ({tmp_path}/b.hcl:1:1)",
        f"failed to parse {tmp_path}/c.hcl: 1 error occurred:",
    ]


def test_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"snapshot_agent": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001)
    assert refusal(path) == f"failed to parse {path}: nested too deeply"
    path = tmp_path / "a.hcl"
    path.write_text("snapshot_agent " + "{ a " * 50_000 + "{}" + "}" * 50_000)
    assert refusal(path) == f"failed to parse {path}: nested too deeply"


def test_a_fragment_that_is_no_utf8() -> None:
    with pytest.raises(ConfigError, match=r"^failed to parse flags-0\.hcl: it is no UTF-8$"):
        loaded('node_name = "\udce9"')

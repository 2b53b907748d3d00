"""Snapshots: verified before they are kept, inspected without an agent."""

from pathlib import Path

import pytest

from discovery.wire.archive import ArchiveMeta, pack

from .programs import PretendedAgent, run

META = ArchiveMeta(
    version=1, id="2-354-1795444020186", index=354, term=2, peers=None, configuration={}, configuration_index=1, size=5
)
ARCHIVE = pack(META, b"state")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "good.snap"
    path.write_bytes(ARCHIVE)
    return path


def test_inspect(archive: Path) -> None:
    expected = "ID           2-354-1795444020186\nSize         5\nIndex        354\nTerm         2\nVersion      1\n\n"
    assert run("snapshot", "inspect", str(archive)) == (0, expected, "")


def test_inspect_as_json(archive: Path) -> None:
    assert run("snapshot", "inspect", "-format=json", str(archive)).out == (
        '{\n    "ID": "2-354-1795444020186",\n    "Size": 5,\n    "Index": 354,\n    "Term": 2,\n    "Version": 1\n}\n'
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no archive at all", "failed to decompress snapshot: gzip: invalid header"),
        (b"", "failed to decompress snapshot: EOF"),
        (ARCHIVE[:60], "failed to read snapshot file: "),
    ],
)
def test_inspect_tells_what_is_wrong(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(data)
    result = run("snapshot", "inspect", str(tmp_path / "bad"))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error verifying snapshot: {reason}")


def test_save_keeps_what_it_got(pretended: PretendedAgent, tmp_path: Path) -> None:
    pretended.answer("GET /v1/snapshot?stale=", ARCHIVE)
    result = pretended.run("snapshot", "save", "-stale", "x.snap", folder=tmp_path)
    assert result == (0, "Saved and verified snapshot to index 354\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["x.snap"]
    assert (tmp_path / "x.snap").read_bytes() == ARCHIVE


def test_a_damaged_answer_leaves_the_earlier_file_alone(pretended: PretendedAgent, archive: Path) -> None:
    pretended.answer("GET /v1/snapshot", ARCHIVE[:-20])
    result = pretended.run("snapshot", "save", str(archive))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error verifying snapshot: ")
    assert archive.read_bytes() == ARCHIVE
    assert len(list(archive.parent.iterdir())) == 1


def test_save_where_nothing_can_be_written(pretended: PretendedAgent, tmp_path: Path) -> None:
    pretended.answer("GET /v1/snapshot", ARCHIVE)
    result = pretended.run("snapshot", "save", "missing/x.snap", folder=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error writing unverified snapshot file: open missing/x.snap.unverified.tmp")
    assert result.err.endswith(": no such file or directory\n")


def test_restore_sends_the_whole_file(pretended: PretendedAgent, archive: Path) -> None:
    pretended.answer("PUT /v1/snapshot", b"")
    assert pretended.run("snapshot", "restore", str(archive)) == (0, "Restored snapshot\n", "")
    assert pretended.asked[-1].body == ARCHIVE


def test_restore_shows_why_the_server_refused(pretended: PretendedAgent, archive: Path) -> None:
    reason = "failed to decompress snapshot: gzip: invalid header"
    pretended.answer("PUT /v1/snapshot", reason.encode(), 500)
    text = f"Error restoring snapshot: Unexpected response code: 500 ({reason})\n"
    assert pretended.run("snapshot", "restore", str(archive)) == (1, "", text)

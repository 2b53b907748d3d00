"""Who an agent is, and that its directory is its own."""

from pathlib import Path

import pytest

from discovery.daemon import identity
from discovery.daemon.identity import DataDirectory, IdentityError, volatile_node_id

ID = "5ce9b7a2-5d9c-4b0a-9c3f-0b1c2d3e4f50"


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    held = DataDirectory(tmp_path / "data")
    held.acquire()
    return held


def test_an_id_is_made_once_and_kept(directory: DataDirectory) -> None:
    first = directory.node_id("")
    assert directory.node_id("") == first
    assert (directory.path / "node-id").read_text() == first


def test_a_configured_id_is_kept_in_lower_case(directory: DataDirectory) -> None:
    assert directory.node_id(ID.upper()) == ID
    assert directory.node_id("") == ID


def test_the_directory_of_another_node_is_refused_by_name(directory: DataDirectory) -> None:
    kept = directory.node_id("")
    with pytest.raises(IdentityError, match=f"belongs to node {kept}, not to the configured node_id {ID}"):
        directory.node_id(ID)


@pytest.mark.parametrize("bad", ["x", ID[:-1], ID[:-1] + "g", ID + "0"])
def test_ids_that_are_no_uuids_are_refused(directory: DataDirectory, bad: str) -> None:
    with pytest.raises(IdentityError, match="specified NodeID is invalid"):
        directory.node_id(bad)
    with pytest.raises(IdentityError, match="specified NodeID is invalid"):
        volatile_node_id(bad)


def test_a_damaged_id_file_is_named(directory: DataDirectory) -> None:
    (directory.path / "node-id").write_text("nonsense")
    with pytest.raises(IdentityError, match="node-id is damaged"):
        directory.node_id("")


def test_a_second_agent_is_kept_out_until_the_first_is_gone(directory: DataDirectory) -> None:
    second = DataDirectory(directory.path)
    with pytest.raises(IdentityError, match="in use by another running agent"):
        second.acquire()
    directory.release()
    second.acquire()
    second.release()


def test_a_path_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="can't be used"):
        DataDirectory(tmp_path / "file" / "data").acquire()


def test_agents_of_one_machine_share_its_id_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = tmp_path / "machine-id"
    monkeypatch.setattr(identity, "_MACHINE_ID", machine)
    directories = [DataDirectory(tmp_path / str(number)) for number in range(3)]
    for directory in directories:
        directory.acquire()
    assert directories[0].node_id("", of_host=True)
    machine.write_text("0123456789abcdef\n")
    first = directories[1].node_id("", of_host=True)
    assert first == directories[2].node_id("", of_host=True) != directories[0].node_id("")
    assert "0123456789abcdef" not in first.replace("-", "")

"""Where gossip keys come from, and what stays of them."""

import base64
import json
import stat
from pathlib import Path

import pytest

from discovery.daemon import keyring

FIRST, SECOND = b"1" * 32, b"2" * 16


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_without_key_and_file_gossip_is_not_encrypted(tmp_path: Path) -> None:
    assert keyring.load(tmp_path / "serf" / "local.keyring", "") is None
    assert keyring.load(None, "") is None


def test_the_configured_key_is_remembered_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "serf" / "local.keyring"
    assert keyring.load(file, encoded(FIRST)) == [FIRST]
    assert json.loads(file.read_text()) == [encoded(FIRST)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_wins_over_the_configured_key(tmp_path: Path) -> None:
    file = tmp_path / "local.keyring"
    keyring.save(file, [SECOND, FIRST])
    assert keyring.load(file, encoded(FIRST)) == [SECOND, FIRST]


def test_without_a_file_nothing_is_remembered(tmp_path: Path) -> None:
    assert keyring.load(None, encoded(FIRST)) == [FIRST]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '["x"]', '["AAAA"]', "[1]", '"text"'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "local.keyring"
    file.write_text(content)
    with pytest.raises(keyring.KeyringError, match=str(file)):
        keyring.load(file, encoded(FIRST))

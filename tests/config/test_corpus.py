"""Files as operators write them: the good ones with what they mean, the broken ones with what the operator is told.

Beside each file of `corpus/good` stand the options and warnings that it yields, beside each of `corpus/broken` the message.
`FILE` stands for the file's path.
"""

import json
import re
from pathlib import Path

import msgspec
import pytest

from discovery.config.load import Loaded, Sources, load
from discovery.config.tree import ConfigError

from .rig import by_key

CORPUS = Path(__file__).parent / "corpus"
GOOD = sorted(path for path in (CORPUS / "good").iterdir() if not path.name.endswith(".expected.json"))
BROKEN = sorted(path for path in (CORPUS / "broken").iterdir() if path.suffix != ".txt")


def read(path: Path) -> Loaded:
    return load(Sources(paths=(path,)))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_good_files(path: Path) -> None:
    expected = json.loads(path.with_name(f"{path.name}.expected.json").read_text())
    found = read(path)
    options = by_key(found.options)
    assert json.loads(msgspec.json.encode({key: options[key] for key in expected["options"]})) == expected["options"]
    # The name of this machine may be one that DNS has no room for.
    warnings = [warning.replace(str(path), "FILE") for warning in found.warnings if not warning.startswith("Node name")]
    assert warnings == expected["warnings"]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.name)
def test_broken_files(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(path)
    expected = path.with_name(f"{path.name}.txt").read_text()
    assert str(caught.value).replace(str(path), "FILE").rstrip("\n") + "\n" == expected


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.name)
def test_every_message_tells_file_line_and_column(path: Path) -> None:
    message = path.with_name(f"{path.name}.txt").read_text()
    places = re.findall(r"FILE:(\d+):(\d+)", message)
    assert places
    lines = path.read_bytes().decode(errors="replace").split("\n")
    for line, column in places:
        assert 1 <= int(column) <= len(lines[int(line) - 1]) + 1


def test_the_corpus_is_not_small() -> None:
    assert len(GOOD) >= 30
    assert len(BROKEN) >= 70

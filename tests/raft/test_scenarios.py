"""No scenario is forgotten: each has a test that names it, or a line in docs/testing.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTED = re.compile(r"^(\d+)\. ", re.MULTILINE)
NAMED = re.compile(r"@scenario\(([\d, ]+)\)")
EXCUSED = re.compile(r"^\| ([\d, –-]+) \|", re.MULTILINE)


def numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().replace("–", "-").partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def listed() -> list[int]:
    return [int(number) for number in LISTED.findall((Path(__file__).parent / "scenarios.md").read_text())]


def named() -> set[int]:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    return {number for source in sources for match in NAMED.findall(source) for number in numbers(match)}


def excused() -> set[int]:
    section = (ROOT / "docs" / "testing.md").read_text().partition("## Scenarios")[2].partition("\n## ")[0]
    return {number for match in EXCUSED.findall(section) for number in numbers(match)}


def test_the_list_is_complete_and_in_order() -> None:
    assert listed() == list(range(1, len(listed()) + 1))


def test_every_scenario_is_played_or_excused() -> None:
    assert set(listed()) - named() - excused() == set()


def test_only_listed_scenarios_are_named_or_excused() -> None:
    assert named() | excused() <= set(listed())
    assert named() & excused() == set()

"""How names, ids, metadata and prefixes are matched."""

import re
from collections.abc import Iterator, Mapping, Sequence
from string import hexdigits
from typing import Final

from discovery.model.errors import RequestFailed

_UUID_LENGTH: Final = 36
_UUID_DASHES: Final = (8, 13, 18, 23)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def fold(name: str) -> str:
    """Names of nodes, services and checks are equal whatever their case."""
    folded = name.lower()
    return name if folded == name else folded


def require_uuid(text: str, noun: str) -> None:
    """Consul's tables refuse what can't be a UUID, in these words."""
    if len(text) != _UUID_LENGTH:
        raise RequestFailed(f"failed {noun} lookup: index error: UUID must be 36 characters")


def check_node_id(node_id: str) -> None:
    """Refuse an id that is no UUID, with Consul's texts; none at all is fine."""
    if node_id and len(node_id) != _UUID_LENGTH:
        raise RequestFailed("Bad node ID: uuid string is wrong length")
    if node_id and not _UUID.fullmatch(node_id):
        raise RequestFailed(f"Bad node ID: {_uuid_problem(node_id)}")


def _uuid_problem(text: str) -> str:
    if any(text[place] != "-" for place in _UUID_DASHES):
        return "uuid is improperly formatted"
    bad = next(character for character in text.replace("-", "") if character not in hexdigits)
    return f"encoding/hex: invalid byte: U+{ord(bad):04X} '{bad}'"


def has_meta(meta: Mapping[str, str] | None, wanted: Mapping[str, str] | None) -> bool:
    """Whether `meta` has every wanted pair."""
    if not wanted:
        return True
    return meta is not None and all(meta.get(key) == value for key, value in wanted.items())


def has_tags(tags: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether every wanted tag is among `tags`, whatever its case."""
    if not wanted:
        return True
    present = {tag.lower() for tag in tags}
    return all(tag.lower() in present for tag in wanted)


class Lengths:
    """How long the prefixes in a collection are, to find those of a name without trying every length."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, prefix: str) -> None:
        length = len(prefix)
        self._counts[length] = self._counts.get(length, 0) + 1

    def remove(self, prefix: str) -> None:
        length = len(prefix)
        left = self._counts.pop(length) - 1
        if left:
            self._counts[length] = left

    def starts_of(self, name: str) -> Iterator[str]:
        """The starts of `name` that are as long as some prefix."""
        size = len(name)
        return (name[:length] for length in tuple(self._counts) if length <= size)

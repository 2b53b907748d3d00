"""How names, ids and metadata are matched."""

from collections.abc import Mapping, Sequence
from typing import Final

from discovery.model.errors import RequestFailed

_UUID_LENGTH: Final = 36


def fold(name: str) -> str:
    """Names of nodes, services and checks are equal whatever their case."""
    return name.lower()


def require_uuid(text: str, noun: str) -> None:
    """Consul's tables refuse what can't be a UUID, in these words."""
    if len(text) != _UUID_LENGTH:
        raise RequestFailed(f"failed {noun} lookup: index error: UUID must be 36 characters")


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

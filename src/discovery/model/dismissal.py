"""Dismissals: notes in the KV store that a service was deregistered for good, for the agent that owns it.

An agent that misses its service in the catalog registers it again, unless there is such a note newer than the service's
registration. Consul keeps notes of its own in the KV store in the same way (`_rexec/`).
"""

import math
from typing import Final

from .records import DirEntry

_PREFIX: Final = "_dismissed/"
LIFETIME: Final = 72 * 3600
"""Seconds for which a note counts, as long as a failed node is remembered."""


def dismissals_of(node: str) -> str:
    """The key prefix of all notes for a node."""
    return f"{_PREFIX}{node.lower()}/"


def dismissal(node: str, service_id: str, at: float) -> DirEntry:
    """The note of a time in seconds since the epoch, as a key whose flags tell it in milliseconds."""
    return DirEntry(key=dismissals_of(node) + service_id, flags=math.ceil(at * 1000), value=b"deregistered everywhere")


def dismissed_at(entry: DirEntry, node: str) -> tuple[str, float]:
    """The service id that a note is about, and its time in seconds since the epoch."""
    return entry.key.removeprefix(dismissals_of(node)), entry.flags / 1000

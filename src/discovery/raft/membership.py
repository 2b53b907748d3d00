"""Which configuration is in force, as the log says.

A configuration is in force from the moment its entry is appended, committed or not, and falls with its entry
(dissertation, 4.1). So the committed and the newest one may differ; as long as they do, no other change begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InvariantViolated
from .messages import Configuration, Entry, EntryKind, decode_configuration


class Membership:
    """The configurations among the entries of a log, oldest first."""

    def __init__(self, index: int, configuration: Configuration) -> None:
        """Starts with the configuration that the entry at `index` fixed; 0 and an empty one for a virgin log."""
        self._history = [(index, configuration)]
        self.voters: frozenset[str] = configuration.voters()
        """The voters of the newest configuration: whoever is counted."""

    @property
    def configuration(self) -> Configuration:
        return self._history[-1][1]

    @property
    def index(self) -> int:
        """Where the newest configuration stands in the log."""
        return self._history[-1][0]

    @property
    def voters_before(self) -> frozenset[str]:
        """The voters of the last configuration but one; nobody when that is not known any longer."""
        return self._history[-2][1].voters() if len(self._history) > 1 else frozenset()

    def ever_named(self) -> frozenset[str]:
        """The voters of all configurations still known."""
        return frozenset().union(*(configuration.voters() for _, configuration in self._history))

    def at(self, index: int) -> tuple[int, Configuration]:
        """The configuration that was in force at `index`, and where it stands."""
        for found in reversed(self._history):
            if found[0] <= index:
                return found
        raise InvariantViolated(f"the configuration at {index} is forgotten, the oldest known stands at {self._history[0][0]}")

    def append(self, entries: Sequence[Entry]) -> None:
        """`entries` were appended to the log, instead of whatever stood at or after the first of them."""
        first = entries[0].index
        changed = False
        while self._history[-1][0] >= first:
            self._history.pop()
            changed = True
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self._history.append((entry.index, decode_configuration(entry.data)))
                changed = True
        if changed:
            self.voters = self.configuration.voters()

    def forget_before(self, index: int) -> None:
        """No question about a place before `index` will come."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)

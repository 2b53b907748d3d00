"""Answers kept as bytes.

Clients repeat their questions to the byte, but for the id. What was found for such a question is kept together with the watch
over it, and a handful of encoded answers drawn from it that are handed out in turn, so that instances are still mixed. They are
drawn anew every second: that keeps the load spread over more instances than fit into a handful, and the SOA serial young.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from discovery.model.delegate import Watch

VARIANTS: Final = 16
LONG_VARIANTS: Final = 4
"""For answers longer than `LONG` bytes, which take their time to encode and show most or all there is anyway."""
LONG: Final = 4096
VARIANT_AGE: Final = 1.0
"""Seconds for which a drawn answer is handed out."""
MAX_AGE: Final = 5.0
"""Seconds after which the catalog is asked again even if no change was seen, so that a server that lost its leader notices."""
_OVERHEAD: Final = 512
"""Bytes that an entry takes beside its answers, about."""


class Kept:
    """`draw` encodes an answer such as `example`; `varies`: whether answers differ; `until`: when it may no longer be used."""

    __slots__ = ("_draw", "_drawn_until", "_number", "_size", "_turn", "_variants", "leader_only", "until", "watch")

    def __init__(
        self, draw: Callable[[], bytes], example: bytes, *, watch: Watch, varies: bool, leader_only: bool, until: float
    ) -> None:
        self._draw = draw
        self._number = 1 if not varies else VARIANTS if len(example) <= LONG else LONG_VARIANTS
        self._variants: list[bytes] = []
        self._size = len(example)
        self._turn = 0
        self._drawn_until = 0.0
        self.watch = watch
        self.leader_only = leader_only
        self.until = until

    def next(self, now: float) -> bytes:
        """An answer without its id."""
        if now >= self._drawn_until:
            self._variants.clear()
            self._drawn_until = now + VARIANT_AGE
        if len(self._variants) < self._number:
            self._variants.append(self._draw()[2:])
            return self._variants[-1]
        self._turn = (self._turn + 1) % self._number
        return self._variants[self._turn]

    @property
    def weight(self) -> int:
        """Bytes that this takes once all its answers are drawn, about."""
        return _OVERHEAD + self._number * self._size


class AnswerCache:
    """Kept answers by the bytes of their question after the id; the least recently used go first.

    `leads` tells whether answers that only a leader may give are good right now.
    """

    def __init__(self, leads: Callable[[], bool], *, max_entries: int, max_bytes: int) -> None:
        self._leads = leads
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[Kept, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: bytes, now: float) -> bytes | None:
        """An answer without its id, if what it was drawn from still holds."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        kept = entry[0]
        if kept.watch.fired or now >= kept.until or (kept.leader_only and not self._leads()):
            self._forget(question)
            return None
        self._entries.move_to_end(question)
        return kept.next(now)

    def keep(self, question: bytes, kept: Kept) -> None:
        size = len(question) + kept.weight
        if kept.watch.fired or size > self._max_bytes // 8 or not self._max_entries:
            return
        if question in self._entries:
            self._forget(question)
        self._entries[question] = kept, size
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, question: bytes) -> None:
        self._bytes -= self._entries.pop(question)[1]

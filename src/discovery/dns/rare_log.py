"""Log lines that strangers or an outage could otherwise cause without end."""

import logging
import time
from typing import Final

PAUSE: Final = 1.0
"""Seconds between two lines of the same kind."""


class RareLog:
    """Writes a warning unless one with the same text was written just now; the next one tells how many were left out."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, text: str, *details: object) -> None:
        """`text` is a constant; what varies belongs into `details`."""
        now = time.monotonic()
        next_at, left_out = self._kinds.get(text, (0.0, 0))
        if now < next_at:
            self._kinds[text] = next_at, left_out + 1
            return
        self._kinds[text] = now + PAUSE, 0
        suffix = f" (and {left_out} such lines left out)" if left_out else ""
        self._log.warning(text + suffix, *details)

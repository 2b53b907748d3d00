"""Who spoke to us and could not be understood or taken in, so that an operator learns why somebody is missing."""

from typing import Final

_KEPT: Final = 64
_REMEMBERED: Final = 60.0


class Strangers:
    """By IP address the last complaint and when it was (seconds); the most recent of them."""

    def __init__(self) -> None:
        self._met: dict[str, tuple[float, str]] = {}

    def met(self, host: str, complaint: str, now: float) -> None:
        self._met.pop(host, None)
        self._met[host] = (now, complaint)
        if len(self._met) > _KEPT:
            del self._met[next(iter(self._met))]

    def recent(self, now: float) -> dict[str, str]:
        """The complaints of the last minute."""
        return {host: complaint for host, (when, complaint) in self._met.items() if now - when <= _REMEMBERED}

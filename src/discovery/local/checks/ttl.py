"""TTL checks: whoever watches the service has to say so in time, or the check turns critical."""

import asyncio
from typing import Final

from discovery.model.records import CRITICAL

from .result import Publish, head

_EXPIRED: Final = "TTL expired"


class TtlCheck:
    """`ttl` is in seconds; `output` is what was last said, if anything; `limit` is its size in bytes."""

    def __init__(self, ttl: float, limit: int, publish: Publish, output: str = "") -> None:
        self.ttl = ttl
        self._limit = limit
        self._publish = publish
        self._last = output
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to wait, or begin anew."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(self.ttl, self._expire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def update(self, status: str, output: str) -> str:
        """Publish what was said and restart the time; returns the output as it was kept."""
        self._last = head(output, self._limit)
        self.start()
        self._publish(status, self._last)
        return self._last

    def _expire(self) -> None:
        text = f"{_EXPIRED} (last output before timeout follows): {self._last}" if self._last else _EXPIRED
        self._publish(CRITICAL, text)

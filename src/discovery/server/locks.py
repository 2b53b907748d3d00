"""Lock-delay: after a session that held a lock is invalidated, nobody may take that lock for a while.

It gives the former holder, who may not know yet that it lost the lock, time to notice. Kept in the memory of every server, which
all see the session end, so that it outlives a change of leader (Consul keeps it on the leader alone); a restart forgets it, as
the log does not say how long ago a session ended. Source: Consul documentation of sessions; the delay is at most 60 s.
"""

import time
from typing import Final

from discovery.state.store import StateStore

MAX_DELAY: Final = 60.0
_MANY: Final = 10_000


class LockDelays:
    """Which keys can't be locked now."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._until: dict[str, float] = {}

    def refuses(self, key: str) -> bool:
        self.collect()
        until = self._until.get(key)
        if until is None:
            return False
        if until > time.monotonic():
            return True
        del self._until[key]
        return False

    def forget(self) -> None:
        """Sessions that ended before this server was started start no delay."""
        self._store.take_released_locks()
        self._until.clear()

    def collect(self) -> None:
        """Start the delays of the locks that the store released since the last call."""
        now = time.monotonic()
        for key, delay_ns in self._store.take_released_locks():
            delay = min(delay_ns / 1e9, MAX_DELAY)
            if delay > 0:
                self._until[key] = now + delay
        if len(self._until) > _MANY:
            self._until = {key: until for key, until in self._until.items() if until > now}

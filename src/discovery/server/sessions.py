"""Session TTLs: the leader destroys a session that was not renewed.

Timers live in the leader's memory and start in full on every new leader, so that a change of leader never ends a session
early. A session ends after twice its TTL, which clients of Consul count on. Source: Consul documentation of sessions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from discovery.model.duration import Duration
from discovery.model.records import Session
from discovery.state.store import StateStore

_TTL_MULTIPLIER = 2


class SessionTimers:
    """`destroy` ends a session through the log."""

    def __init__(self, store: StateStore, destroy: Callable[[str], Awaitable[None]], log: logging.Logger) -> None:
        self._store = store
        self._destroy = destroy
        self._log = log
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        return len(self._timers)

    def start(self) -> None:
        """We lead now: every session gets its full time."""
        for session in self._store.sessions_with_ttl():
            self.renew(session)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def follow_store(self) -> None:
        """Take up sessions that were made, and let go of those that ended, since the last call."""
        current = {session.id: session for session in self._store.sessions_with_ttl()}
        for gone in self._timers.keys() - current.keys():
            self._timers.pop(gone).cancel()
        for session_id, session in current.items():
            if session_id not in self._timers:
                self.renew(session)

    def renew(self, session: Session) -> None:
        ttl = Duration.parse(session.ttl).seconds if session.ttl else 0.0
        if ttl <= 0:
            return
        running = self._timers.pop(session.id, None)
        if running is not None:
            running.cancel()
        loop = asyncio.get_running_loop()
        self._timers[session.id] = loop.call_later(ttl * _TTL_MULTIPLIER, self._expire, session.id)

    def _expire(self, session_id: str) -> None:
        self._timers.pop(session_id, None)
        task = asyncio.get_running_loop().create_task(self._end(session_id))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, session_id: str) -> None:
        try:
            await self._destroy(session_id)
            self._log.info("session expired: session=%s", session_id)
        except Exception as error:
            self._log.warning("failed to destroy an expired session, a new leader will: session=%s error=%s", session_id, error)
            remaining = self._store.session_get(session_id).value
            if remaining is not None:
                self.renew(remaining)

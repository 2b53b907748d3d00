"""What only the leader does: reconcile members (`reconcile`), watch servers (`autopilot`), end sessions, forget tombstones."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.errors import DiscoveryError, NoLeader, OutcomeUnknown
from discovery.model.records import Session
from discovery.state.store import StateStore
from discovery.telemetry import Metrics

from .autopilot import Autopilot
from .members import Member
from .reconcile import Reconciler
from .replica import Replica
from .sessions import SessionTimers

RECONCILE_INTERVAL: Final = 60.0
TOMBSTONE_TTL: Final = 15 * 60.0
TOMBSTONE_GRANULARITY: Final = 30.0
SESSION_PAUSE: Final = 0.2
"""Seconds for which changes of sessions are gathered before timers are set."""
RETRY_PAUSE: Final = 1.0


class LeaderDuties:
    """Runs while this server leads."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: StateStore,
        reconciler: Reconciler,
        autopilot: Autopilot,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._store = store
        self._reconciler = reconciler
        self._autopilot = autopilot
        self._metrics = metrics
        self._log = log
        self.sessions = SessionTimers(store, self._destroy_session, log)
        metrics.session_ttl_active.read = lambda: float(self.sessions.active)
        self._tasks: list[asyncio.Task[None]] = []
        self._dirty: set[str] = set()
        self._gone: dict[str, Member] = {}
        self._work = asyncio.Event()

    # --- life cycle --------------------------------------------------------------------------------------------------

    def started_leading(self) -> None:
        """Called once we lead and have applied everything of earlier terms."""
        self.stopped_leading()
        self.sessions.start()
        duties = (self._reconcile, self._autopilot.run, self._watch_sessions, self._reap_tombstones)
        self._tasks = [asyncio.create_task(self._insist(duty)) for duty in duties]

    def stopped_leading(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._dirty.clear()
        self._gone.clear()
        self.sessions.stop()

    async def _insist(self, duty: Callable[[], Awaitable[None]]) -> None:
        """A duty that fails begins again after a pause: without it the cluster would decay unnoticed."""
        while True:
            try:
                await duty()
            except (NoLeader, OutcomeUnknown):
                self._log.debug("a duty of the leader ends, leadership is lost")
            except Exception:
                self._log.exception("a duty of the leader failed and begins again")
            await asyncio.sleep(RETRY_PAUSE)

    # --- members -----------------------------------------------------------------------------------------------------

    def member_changed(self, member: Member) -> None:
        """A member joined, failed, left or changed its tags."""
        self._dirty.add(member.name)
        self._work.set()

    def member_reaped(self, member: Member) -> None:
        self._dirty.discard(member.name)
        self._gone[member.name] = member
        self._work.set()

    async def _reconcile(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await self._reconciler.all()
            next_full = clock() + RECONCILE_INTERVAL
            while (remaining := next_full - clock()) > 0:
                try:
                    await asyncio.wait_for(self._work.wait(), remaining)
                except TimeoutError:
                    break
                await self._reconcile_changed()

    async def _reconcile_changed(self) -> None:
        self._work.clear()
        dirty, self._dirty = self._dirty, set()
        gone, self._gone = self._gone, {}
        await self._reconciler.some(dirty)
        for member in gone.values():
            await self._reconciler.reaped(member)

    # --- time --------------------------------------------------------------------------------------------------------

    async def _watch_sessions(self) -> None:
        while True:
            changed = asyncio.Event()
            watch = self._store.watches.watch((("sessions",),))
            watch.on_fire(changed.set)
            self.sessions.follow_store()
            try:
                await changed.wait()
            finally:
                watch.cancel()
            await asyncio.sleep(SESSION_PAUSE)

    async def _destroy_session(self, session_id: str) -> None:
        started = time.monotonic()
        await self._propose(c.SessionChange(r.SessionRequest(op="destroy", session=Session(id=session_id))))
        self._metrics.session_ttl_invalidate.observe(time.monotonic() - started)

    async def _reap_tombstones(self) -> None:
        """Delete markers are kept a quarter of an hour, so that watchers of a prefix see deletions as newer."""
        marks: list[tuple[float, int]] = []
        while True:
            marks.append((time.monotonic(), self._store.index))
            await asyncio.sleep(TOMBSTONE_GRANULARITY)
            expired = [index for taken, index in marks if taken <= time.monotonic() - TOMBSTONE_TTL]
            if expired and self._store.has_tombstones(expired[-1]):
                started = time.monotonic()
                await self._propose(c.ReapTombstones(expired[-1]))
                self._metrics.leader_reap_tombstones.observe(time.monotonic() - started)
            del marks[: len(expired)]

    async def _propose(self, command: c.Command) -> None:
        result = await self._replica.propose(command)
        if isinstance(result, DiscoveryError):
            raise result

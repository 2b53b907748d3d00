"""Coalescing of user events: of those with one name that arrive close together, only the newest are told.

A first event opens a batch, which is told when no further one came for the quiescent period, at the latest after the coalesce
period. Events that forbid it are told at once. Source: Serf's documentation of event handlers (coalescing).
"""

from collections.abc import Callable

from .events import UserEvent
from .timers import Timer, Timers


class UserEventCoalescer:
    """Periods in seconds; with a coalesce period of zero every event is told at once, as Consul does. `tell` gets them."""

    def __init__(
        self, coalesce_period: float, quiescent_period: float, timers: Timers, tell: Callable[[UserEvent], None]
    ) -> None:
        self._coalesce_period = coalesce_period
        self._quiescent_period = quiescent_period
        self._timers = timers
        self._tell = tell
        self._newest: dict[str, list[UserEvent]] = {}
        self._latest: Timer | None = None
        self._silence: Timer | None = None

    def add(self, event: UserEvent, now: float) -> None:
        if not (event.coalesce and self._coalesce_period):
            self._tell(event)
            return
        rivals = self._newest.get(event.name, [])
        if not rivals or event.ltime > rivals[0].ltime:
            self._newest[event.name] = [event]
        elif event.ltime == rivals[0].ltime:
            rivals.append(event)
        if self._latest is None:
            self._latest = self._timers.at(now + self._coalesce_period, self._flush)
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._timers.at(now + self._quiescent_period, self._flush)

    def _flush(self, now: float) -> None:
        for timer in (self._latest, self._silence):
            if timer is not None:
                timer.cancel()
        self._latest = self._silence = None
        batch, self._newest = self._newest, {}
        for events in batch.values():
            for event in events:
                self._tell(event)

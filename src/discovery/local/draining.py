"""Taking a service out of use without failing anybody: first out of health and DNS, later deregistered.

A draining service is in maintenance, with the time at which it goes in the notes of its maintenance check. That time is kept on
disk, so that a restart of the agent does not leave the service in maintenance for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from .persist import Folder, SavedDrain


class Services(Protocol):
    """What draining needs of the services it is about."""

    def has_service(self, service_id: str) -> bool: ...
    def remove_service(self, service_id: str) -> None: ...


class Drains:
    """`wall` tells seconds since the epoch."""

    def __init__(self, folder: Folder[SavedDrain], services: Services, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._services = services
        self._wall = wall
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def begin(self, service_id: str, wait: float) -> None:
        """Have the service removed in `wait` seconds, whatever was planned before. Raises `OSError`."""
        self._folder.save(service_id, SavedDrain(service_id=service_id, until=self._wall() + wait))
        self._plan(service_id, wait)

    def resume(self) -> None:
        """Go on with what was begun before a restart."""
        for saved in self._folder.load_all():
            if self._services.has_service(saved.service_id):
                self._plan(saved.service_id, max(0.0, saved.until - self._wall()))
            else:
                self._folder.remove(saved.service_id)

    def end(self, service_id: str) -> None:
        """The service is gone, or is to stay after all."""
        timer = self._timers.pop(service_id, None)
        if timer is not None:
            timer.cancel()
            self._folder.remove(service_id)

    def close(self) -> None:
        """Remove nothing any more. What is planned stays on disk."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _plan(self, service_id: str, wait: float) -> None:
        timer = self._timers.pop(service_id, None)
        if timer is not None:
            timer.cancel()
        self._timers[service_id] = asyncio.get_running_loop().call_later(wait, self._services.remove_service, service_id)

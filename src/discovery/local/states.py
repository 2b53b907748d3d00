"""What checks have found, kept for the time after a restart.

TTL checks are kept with the time at which they expire, as Consul does. What other checks have found is kept as well, and counts
again after a short restart: whoever restarts an agent does not want its services to be away until each check has run. It does
not count if the agent was away for longer than `SHORT`, or if the machine was restarted: then nothing is known of the services.
"""

import asyncio
import logging
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final

from discovery.model.definitions import CheckSpec
from discovery.telemetry import fields

from .persist import SavedLife, SavedState, Store

_log = logging.getLogger(__name__)

BEAT: Final = 10.0
"""Seconds between notes that the agent is alive."""
SHORT: Final = 60.0
"""Seconds since the last such note after which a restart is not short any more."""
_ALIVE: Final = "agent"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class CheckStates:
    """`wall` tells seconds since the epoch. Without a data directory nothing is kept."""

    def __init__(self, store: Store, wall: Callable[[], float]) -> None:
        self._folder = store.states
        self._wall = wall
        self._life = store.life
        self._boot = _boot_id()
        self._restarted_soon = self._is_restart_short()

    def _is_restart_short(self) -> bool:
        life = self._life.load(_ALIVE)
        return life is not None and life.boot == self._boot and 0 <= self._wall() - life.at <= SHORT

    def recall(self, spec: CheckSpec) -> tuple[str, str] | None:
        """Status and output of before the start, if they still count."""
        state = self._folder.load(spec.check_id)
        if state is None:
            return None
        counts = state.expires > self._wall() if spec.ttl > 0 else self._restarted_soon
        return (state.status, state.output) if counts else None

    def save_ttl(self, check_id: str, status: str, output: str, ttl: float) -> None:
        """Raises `OSError`; whoever reports a state is told if it can't be kept."""
        expires = int(self._wall() + ttl)
        self._folder.save(check_id, SavedState(check_id=check_id, output=output, status=status, expires=expires))

    def save(self, check_id: str, status: str, output: str) -> None:
        """What a check has found. It goes on if that can't be kept."""
        try:
            self._folder.save(check_id, SavedState(check_id=check_id, output=output, status=status))
        except OSError as error:
            _log.error("Failed to keep a check's status", extra=fields(check=check_id, error=error))

    def forget(self, check_id: str) -> None:
        self._folder.remove(check_id)

    def forget_all_but(self, check_ids: Container[str]) -> None:
        """To be called once everything is registered that was before."""
        for state in self._folder.load_all():
            if state.check_id not in check_ids:
                self._folder.remove(state.check_id)

    def beat(self) -> None:
        """Note that the agent is alive."""
        try:
            self._life.save(_ALIVE, SavedLife(at=int(self._wall()), boot=self._boot))
        except OSError as error:
            _log.error("Failed to note that the agent is alive", extra=fields(error=error))

    async def beat_forever(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self.beat()


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""

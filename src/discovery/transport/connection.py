"""What all connections of the server port share, whichever protocol they carry."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

log = logging.getLogger(__name__)

WRITE_TIMEOUT: Final = 10.0
"""Seconds for which the other side may take nothing of what waits to be written."""

HIGH_WATER: Final = 1 << 20
"""Unsent bytes from which on a connection counts as congested."""

Peer = tuple[str, int]


class Connection(asyncio.Protocol):
    """An asyncio protocol that knows its transport and whether it is congested, and that tells when it is lost.

    The first byte of a connection, which selects the protocol, is read or written before `connection_made`.
    A connection that stays congested for `write_timeout` seconds is aborted.
    """

    def __init__(self, write_timeout: float = WRITE_TIMEOUT) -> None:
        self.transport: asyncio.Transport
        self.congested = False
        self.gone = asyncio.Event()
        self.on_lost: list[Callable[[], None]] = []
        self._write_timeout = write_timeout
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._stop_stall_timer()
        for callback in self.on_lost:
            callback()

    def pause_writing(self) -> None:
        self.congested = True
        self._stall_timer = asyncio.get_running_loop().call_later(self._write_timeout, self._stalled)

    def resume_writing(self) -> None:
        self.congested = False
        self._stop_stall_timer()

    @property
    def peer(self) -> str:
        """The other end, for the log."""
        name: Peer | None = self.transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if name else "unknown"

    @property
    def closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.gone.is_set() or self.transport.is_closing()

    def _stalled(self) -> None:
        log.warning("closing connection to %s: nothing written for %g s", self.peer, self._write_timeout)
        self.transport.abort()

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

"""A yamux session on a socket: moves bytes between session and transport, keeps the connection alive."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from discovery.wire import yamux

from .connection import HIGH_WATER, WRITE_TIMEOUT, Connection

log = logging.getLogger(__name__)

KEEP_ALIVE: Final = 30.0
"""Seconds between pings."""

_CONTROL_LIMIT: Final = 4 * HIGH_WATER  # unsent bytes that no honest peer brings about, as data waits during congestion


class MultiplexedConnection(Connection):
    """Base of both ends of a multiplexed connection. Subclasses fill in what happens to the streams.

    Output is gathered during one turn of the event loop and written at its end, so that answers to many
    streams leave in one piece.
    """

    def __init__(self, session: yamux.Session, *, keep_alive: float = KEEP_ALIVE) -> None:
        super().__init__()
        self.session = session
        self._keep_alive = keep_alive
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        self._unanswered_ping: int | None = None
        self._flush_scheduled = False
        self._handlers: dict[type[yamux.Event], Callable[[Any], None]] = {
            yamux.StreamOpened: lambda event: self.stream_opened(event.stream),
            yamux.DataReceived: lambda event: self.stream_data(event.stream, event.data),
            yamux.StreamEnded: lambda event: self.stream_ended(event.stream),
            yamux.StreamReset: lambda event: self.stream_reset(event.stream),
            yamux.PingAnswered: lambda event: self._ping_answered(event.value),
            yamux.WentAway: lambda event: self.went_away(event.reason),
        }

    # For subclasses to fill in.

    def stream_opened(self, stream: int) -> None:
        """The other side opened a stream."""

    def stream_data(self, stream: int, data: bytes) -> None:
        """Bytes came on a stream; give their window back by `session.grant`."""

    def stream_ended(self, stream: int) -> None:
        """The other side sends nothing more on a stream."""

    def stream_reset(self, stream: int) -> None:
        """The other side gave a stream up."""

    def stream_drained(self, stream: int) -> None:
        """All bytes queued on a stream have been handed to the transport."""

    def went_away(self, reason: int) -> None:
        """The other side takes no new streams."""

    # For subclasses to use.

    def send(self, stream: int, data: bytes) -> None:
        """Queue bytes on a stream; they leave with the next flush."""
        self.session.send(stream, data)
        self.schedule_flush()

    def schedule_flush(self) -> None:
        """See to it that what the session has to say leaves at the end of this turn of the event loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def close(self) -> None:
        """Say goodbye and close; calls under way on either side are lost."""
        if not self.closing:
            self.session.go_away()
            self._write(control_only=True)
            self.transport.close()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._keep_alive_timer = asyncio.get_running_loop().call_later(self._keep_alive, self._check_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.session.receive_data(data)
        except yamux.ProtocolError as error:
            log.warning("closing connection to %s: %s", self.peer, error)
            self._write(control_only=True)
            self.transport.close()
            return
        for event in events:
            self._handlers[type(event)](event)
        if self.session.has_output:
            self.schedule_flush()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.schedule_flush()

    # Inside.

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.closing:
            return
        while self._write(control_only=self.congested):
            if self.transport.get_write_buffer_size() > _CONTROL_LIMIT:
                log.warning("closing connection to %s: it asks for answers and does not read them", self.peer)
                self.transport.abort()
                return
        for stream in self.session.take_drained():
            self.stream_drained(stream)

    def _write(self, *, control_only: bool) -> bool:
        data = self.session.data_to_send(control_only=control_only)
        if data:
            self.transport.write(data)
        return bool(data)

    def _check_alive(self) -> None:
        """Ping once in a while; the answer is awaited for as long as a write may take."""
        loop = asyncio.get_running_loop()
        if self._unanswered_ping is not None:
            log.warning("closing connection to %s: ping not answered", self.peer)
            self.transport.abort()
            return
        self.session.reset_stale_streams()
        self._unanswered_ping = self.session.ping()
        self.schedule_flush()
        self._keep_alive_timer = loop.call_later(min(WRITE_TIMEOUT, self._keep_alive), self._check_alive)

    def _ping_answered(self, value: int) -> None:
        if value == self._unanswered_ping and self._keep_alive_timer is not None:
            self._unanswered_ping = None
            self._keep_alive_timer.cancel()
            self._keep_alive_timer = asyncio.get_running_loop().call_later(self._keep_alive, self._check_alive)

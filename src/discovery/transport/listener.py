"""The server port: one TCP listener for every kind of connection between agents.

The first byte of a connection is read from the socket alone, before any transport exists, so that a TLS handshake
or another protocol finds its bytes untouched. Inside TLS the next first byte selects again.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Final

from .connection import Connection
from .dialer import prepare_socket
from .first_bytes import NAMES, RAFT, TLS
from .tls import Tls

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_PAUSE_AFTER_ERROR: Final = 0.1  # seconds, where accepting fails for want of descriptors


class _Refused(Exception):
    """The connection asks for something that is not to be had; the text says why."""


Protocols = Mapping[int, Callable[[], Connection]]
"""First byte -> what makes the connection that serves it."""


class Listener:
    """Accepts connections and hands each to the protocol its first byte asks for.

    `handshake_timeout` is the time in seconds to send the first byte and to finish TLS;
    `max_per_client` bounds the connections from one IP address.
    """

    def __init__(
        self,
        protocols: Protocols,
        tls: Tls | None = None,
        *,
        handshake_timeout: float = 5.0,
        max_per_client: int = 100,
    ) -> None:
        self._protocols = protocols
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._max_per_client = max_per_client
        self._clients: Counter[str] = Counter()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the bound address. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        bound: tuple[str, int] = self._socket.getsockname()[:2]
        self._spawn(self._accept(self._socket))
        return bound

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
        connections = list(self._connections)
        for connection in connections:
            connection.transport.abort()
        await asyncio.gather(*(connection.gone.wait() for connection in connections))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                log.error("cannot accept connections: %s", error)
                await asyncio.sleep(_PAUSE_AFTER_ERROR)
                continue
            client = address[0]
            if self._clients[client] >= self._max_per_client:
                log.warning("refusing connection from %s: it has %d already", client, self._max_per_client)
                sock.close()
                continue
            self._clients[client] += 1
            self._spawn(self._greet(sock, client))

    async def _greet(self, sock: socket.socket, client: str) -> None:
        """Find out what a new connection is for and let it be served, within the handshake timeout."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._handshake_timeout):
                connection = await self._establish(sock)
        except _Refused as refusal:
            log.warning("refusing connection from %s: %s", client, refusal)
        except OSError as error:
            log.info("connection from %s failed before it began: %s", client, error or type(error).__name__)
        finally:
            if connection is None or connection.gone.is_set():
                self._release(client)
            else:
                self._connections.add(connection)
                connection.on_lost.append(partial(self._lost, connection, client))

    async def _establish(self, sock: socket.socket) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            prepare_socket(sock)
            first = await loop.sock_recv(sock, 1)
            if not first:
                raise ConnectionResetError("closed without a first byte")
            make = None if first[0] == TLS else self._select(first[0], None)
            context = self._context() if make is None else None
        except BaseException:
            sock.close()
            raise
        if make is None:
            return await self._establish_inside_tls(sock, context)
        _, connection = await loop.connect_accepted_socket(make, sock)
        return connection

    async def _establish_inside_tls(self, sock: socket.socket, context: ssl.SSLContext | None) -> Connection:
        loop = asyncio.get_running_loop()
        outer = _InsideTls(self._select)
        # The handshake timeout proper is the one around all of this.
        await loop.connect_accepted_socket(lambda: outer, sock, ssl=context)
        try:
            return await outer.selected
        except BaseException:
            outer.transport.abort()
            raise

    def _context(self) -> ssl.SSLContext:
        context = self._tls.incoming if self._tls else None
        if context is None:
            raise _Refused("TLS is not configured")
        return context

    def _select(self, first: int, encrypted: ssl.SSLObject | None) -> Callable[[], Connection]:
        """What serves a first byte, sent in the clear or inside TLS. Raises `_Refused`."""
        if encrypted is None and self._tls and self._tls.requires_incoming:
            raise _Refused(f"byte {first:#04x} without TLS, which is required")
        if encrypted is not None and first == TLS:
            raise _Refused("TLS inside TLS")
        if first == RAFT and encrypted is not None and self._tls and not self._tls.proves_server(encrypted):
            raise _Refused(f"Raft with a certificate that does not name {self._tls.server_name}")
        make = self._protocols.get(first)
        if make is None:
            raise _Refused(f"byte {first:#04x} ({NAMES.get(first, 'unknown')}) is not served here")
        return make

    def _lost(self, connection: Connection, client: str) -> None:
        self._connections.discard(connection)
        self._release(client)

    def _release(self, client: str) -> None:
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


class _InsideTls(Connection):
    """Reads the first byte inside TLS, then gives its transport to the connection that serves it."""

    def __init__(self, select: Callable[[int, ssl.SSLObject | None], Callable[[], Connection]]) -> None:
        super().__init__()
        self._select = select
        self.selected: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self.selected.done():
            return
        try:
            connection = self._select(data[0], self.transport.get_extra_info("ssl_object"))()
        except _Refused as refusal:
            self.selected.set_exception(refusal)
            return
        self.selected.set_result(connection)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        if len(data) > 1:
            connection.data_received(data[1:])

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.selected.done():
            self.selected.set_exception(exc or ConnectionResetError("closed without a first byte inside TLS"))

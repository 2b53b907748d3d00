"""Opens connections to the server port of other agents, under TLS where the options ask for it."""

import asyncio
import socket
from typing import TypeVar

from .connection import WRITE_TIMEOUT, Connection
from .first_bytes import TLS
from .tls import Tls

C = TypeVar("C", bound=Connection)


class Dialer:
    """`bind_address`, if given, is where connections come from; `timeout` is seconds, handshake included.

    `datacenter` is that of the servers dialled, if not our own.
    """

    def __init__(
        self, tls: Tls | None = None, *, bind_address: str = "", timeout: float = 10.0, datacenter: str | None = None
    ) -> None:
        self._tls = tls
        self._bind_address = bind_address
        self._timeout = timeout
        self._datacenter = datacenter

    def towards(self, datacenter: str) -> "Dialer":
        """The same for the servers of another datacenter, whose certificates name that one."""
        return Dialer(self._tls, bind_address=self._bind_address, timeout=self._timeout, datacenter=datacenter)

    async def dial(self, address: str, first_byte: int, connection: C, *, timeout: float | None = None) -> C:
        """Connect to `ip:port`, say what the connection is for, hand it to `connection`. Raises OSError."""
        context = self._tls.outgoing if self._tls else None
        async with asyncio.timeout(self._timeout if timeout is None else timeout):
            sock = await self._connect(address)
            try:
                if context is not None:
                    await asyncio.get_running_loop().sock_sendall(sock, bytes([TLS]))
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=context,
                    server_hostname=self._tls.name_of_servers(self._datacenter) if self._tls and context else None,
                )
            except BaseException:
                sock.close()
                raise
        connection.transport.write(bytes([first_byte]))
        return connection

    async def refuses(self, address: str, *, timeout: float) -> bool:
        """Whether the host of `ip:port` says that nobody listens there; not if it says nothing for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                (await self._connect(address)).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    async def _connect(self, address: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, _, port = address.rpartition(":")
        family, kind, protocol, _, target = (await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM))[0]
        sock = socket.socket(family, kind, protocol)
        try:
            prepare_socket(sock)
            if self._bind_address:
                sock.bind((self._bind_address, 0))
            await loop.sock_connect(sock, target)
        except BaseException:
            sock.close()
            raise
        return sock


def prepare_socket(sock: socket.socket) -> None:
    """Options of every TCP connection of the server port."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Without it, bytes sent to a host that vanished are repeated for a quarter of an hour before we hear of it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT * 1000))

"""HTTP/2 ping checks: passing if a PING frame is acknowledged (RFC 9113 section 6.7)."""

import asyncio
import ssl as tls
from typing import Final

from .dialing import DialError
from .http2 import Connection, ProtocolError
from .result import Result, critical, passing

_PAYLOAD: Final = b"checking"


class H2PingProbe:
    """Without `context` the ping goes over plain TCP."""

    def __init__(self, address: str, timeout: float, context: tls.SSLContext | None, server_name: str = "") -> None:
        self._address = address
        self._timeout = timeout
        self._context = context
        self._server_name = server_name

    async def run(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                await self._ping()
        except TimeoutError:
            return critical("HTTP2 ping failed: context deadline exceeded")
        except (DialError, ProtocolError, OSError, EOFError) as error:
            return critical(f"HTTP2 ping failed: {error}")
        return passing("HTTP2 ping was successful")

    async def _ping(self) -> None:
        connection = await Connection.open(self._address, self._timeout, self._context, self._server_name)
        try:
            await connection.ping(_PAYLOAD)
        finally:
            connection.close()

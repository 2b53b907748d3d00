"""TCP checks: passing if a connection can be made, over TLS if that is asked for."""

import ssl as tls

from .dialing import DialError, connect
from .result import Result, critical, passing


class TcpProbe:
    def __init__(self, address: str, timeout: float, context: tls.SSLContext | None = None, server_name: str = "") -> None:
        self._address = address
        self._timeout = timeout
        self._context = context
        self._server_name = server_name

    async def run(self) -> Result:
        try:
            _, writer = await connect(self._address, self._timeout, self._context, self._server_name)
        except DialError as error:
            return critical(str(error))
        writer.close()
        return passing(f"TCP connect {self._address}: Success")

"""TCP checks: passing if a connection can be made."""

from .dialing import DialError, connect
from .result import Result, critical, passing


class TcpProbe:
    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    async def run(self) -> Result:
        try:
            _, writer = await connect(self._address, self._timeout)
        except DialError as error:
            return critical(str(error))
        writer.close()
        return passing(f"TCP connect {self._address}: Success")

"""UDP checks: passing if something answers, and also if nothing does: only a refusal tells that nobody is there."""

import asyncio
import socket

from .dialing import DialError, dial_error, error_text, resolve
from .result import Result, critical, passing


class UdpProbe:
    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    async def run(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                target = (await resolve(self._address, socket.SOCK_DGRAM, "udp"))[0]
        except DialError as error:
            return critical(str(error))
        except TimeoutError as error:
            return critical(dial_error(self._address, error, "udp"))
        try:
            refusal = await self._ask(target)
        except OSError as error:
            return critical(dial_error(self._address, error, "udp"))
        if refusal is not None:
            return critical(f"read udp {self._address}: read: {error_text(refusal)}")
        return passing(f"UDP connect {self._address}: Success")

    async def _ask(self, target: tuple[str, int]) -> OSError | None:
        """The refusal that an empty packet meets, None if it meets none in time."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, target)
            sock.send(b"")
            try:
                async with asyncio.timeout(self._timeout):
                    await loop.sock_recv(sock, 1)
            except TimeoutError:
                return None
            except OSError as refusal:
                return refusal
        return None

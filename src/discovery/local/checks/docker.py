"""Docker checks: a command run inside a container through the Docker engine's API, judged by its exit code.

Source: Docker Engine API, "Exec" (create, start, inspect) and its framing of attached output: eight bytes, the last four of
which are the length of what follows.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from .dialing import error_text
from .result import Result, Tail, critical
from .script import of_exit_code

_SOCKET: Final = "unix:///var/run/docker.sock"
_HEADER: Final = 8


class DockerProbe:
    """`timeout` (seconds) is for the whole exchange, `limit` the bytes of output that are kept."""

    def __init__(self, container: str, args: Sequence[str], timeout: float, limit: int, engine: str = "") -> None:
        """`engine` is the URL of the engine's socket (`unix://path`); empty: what `DOCKER_HOST` says, or the usual one."""
        self._container = container
        self._args = args
        self._timeout = timeout
        self._limit = limit
        self._socket = (engine or os.environ.get("DOCKER_HOST") or _SOCKET).removeprefix("unix://")

    async def run(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout), self._session() as session:
                return await self._exec(session)
        except TimeoutError:
            return critical(f"exec in container {self._container}: timed out")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return critical(f"create exec failed for container {self._container}: {self._error_text(error)}")

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession("http://docker", connector=aiohttp.UnixConnector(self._socket), raise_for_status=True)

    async def _exec(self, session: aiohttp.ClientSession) -> Result:
        request = {"AttachStdout": True, "AttachStderr": True, "Tty": False, "Cmd": list(self._args)}
        async with session.post(self._create_path, json=request) as response:
            exec_id = str((await response.json())["Id"])
        output = Tail(self._limit)
        async with session.post(f"/exec/{exec_id}/start", json={"Detach": False, "Tty": False}) as response:
            await _read_frames(response.content, output)
        async with session.get(f"/exec/{exec_id}/json") as response:
            state: dict[str, Any] = await response.json()
        return of_exit_code(state.get("ExitCode"), output.captured())

    @property
    def _create_path(self) -> str:
        return f"/containers/{quote(self._container, safe='')}/exec"

    def _error_text(self, error: Exception) -> str:
        if isinstance(error, aiohttp.ClientConnectorError):
            url = f"http://{quote(self._socket, safe='')}{self._create_path}"
            return f'Post "{url}": dial unix {self._socket}: connect: {error_text(error.os_error)}'
        return str(error) or type(error).__name__


async def _read_frames(stream: aiohttp.StreamReader, output: Tail) -> None:
    while True:
        try:
            left = int.from_bytes((await stream.readexactly(_HEADER))[4:], "big")
        except asyncio.IncompleteReadError:
            return
        while left and (data := await stream.read(min(left, 65536))):
            output.add(data)
            left -= len(data)

"""Script checks: a program's exit code says how the service is. Never a shell, unless the operator names one in `args`."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from typing import Final

from .result import Result, Tail, critical, passing, warning

_GRACE: Final = 1.0
"""Seconds for the kernel to take a killed program down."""


def of_exit_code(code: int | None, output: str) -> Result:
    """0 passing, 1 warning, everything else critical."""
    if code == 0:
        return passing(output)
    return warning(output) if code == 1 else critical(output)


class ScriptProbe:
    """`timeout` is in seconds, `timeout_text` as it was written, `limit` the bytes of output that are kept."""

    def __init__(self, args: Sequence[str], timeout: float, timeout_text: str, limit: int) -> None:
        self._args = args
        self._timeout = timeout
        self._timeout_text = timeout_text
        self._limit = limit

    async def run(self) -> Result:
        try:
            transport, run = await self._start()
        except (OSError, ValueError) as error:
            return critical(self._start_error(error))
        try:
            async with asyncio.timeout(self._timeout):
                await run.exited.wait()
                await run.silent.wait()
        except TimeoutError:
            await _kill_group(transport.get_pid(), run)
            return critical(f"Timed out ({self._timeout_text}) running check\n\n{run.output.captured()}")
        except asyncio.CancelledError:
            await _kill_group(transport.get_pid(), run)
            raise
        finally:
            transport.close()
        return of_exit_code(transport.get_returncode(), run.output.captured())

    async def _start(self) -> "tuple[asyncio.SubprocessTransport, _Run]":
        """Raises `OSError` and `ValueError`.

        asyncio can't break off a start: it would wait for pipes that were never connected. So a cancellation waits for the
        program to be there, and ends it then.
        """
        # A session of its own, so that the whole family can be ended together.
        starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: _Run(self._limit), *self._args, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            if starting.exception() is None:
                transport, run = starting.result()
                await _kill_group(transport.get_pid(), run)
                transport.close()
            raise

    def _start_error(self, error: OSError | ValueError) -> str:
        program = self._args[0]
        if "/" not in program and isinstance(error, FileNotFoundError):
            return f'exec: "{program}": executable file not found in $PATH'
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        return f"fork/exec {program}: {reason}"


class _Run(asyncio.SubprocessProtocol):
    """Follows one run; `silent`: nobody holds the output any more, neither the program nor a child of it."""

    def __init__(self, limit: int) -> None:
        self.output = Tail(limit)
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output.add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()


async def _kill_group(leader: int, run: _Run) -> None:
    """End the program and its children; those that left the group are not waited for."""
    try:
        os.killpg(leader, signal.SIGKILL)
        async with asyncio.timeout(_GRACE):
            await run.exited.wait()
    except (ProcessLookupError, TimeoutError):
        pass

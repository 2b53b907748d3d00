"""Running a program for a check: bounded in time and output, and ended together with everything it has started."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from typing import Final

from .result import Tail

_GRACE: Final = 1.0
"""Seconds for the kernel to take a killed program down."""


class OutOfTime(Exception):
    """The program was ended; `output` is what it had said."""

    def __init__(self, output: Tail) -> None:
        super().__init__("out of time")
        self.output = output


async def run_program(args: Sequence[str], timeout: float, limit: int) -> tuple[int | None, Tail]:
    """The exit code (negative: a signal) and the last `limit` bytes of standard output and error together.

    Over only when nobody holds the output any more, neither the program nor a child of it. Raises `OutOfTime` after `timeout`
    seconds, and `OSError` or `ValueError` if it can't be started.
    """
    transport, run = await _start(args, limit)
    try:
        async with asyncio.timeout(timeout):
            await run.exited.wait()
            await run.silent.wait()
    except TimeoutError:
        await _kill_group(transport.get_pid(), run)
        raise OutOfTime(run.output) from None
    except asyncio.CancelledError:
        await _kill_group(transport.get_pid(), run)
        raise
    finally:
        transport.close()
    return transport.get_returncode(), run.output


class _Run(asyncio.SubprocessProtocol):
    """Follows one run; `silent`: the output is closed."""

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


async def _start(args: Sequence[str], limit: int) -> tuple[asyncio.SubprocessTransport, _Run]:
    """asyncio can't break off a start: it would wait for pipes that were never connected. So a cancellation waits for the
    program to be there, and ends it then.
    """
    # A session of its own, so that the whole family can be ended together.
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            lambda: _Run(limit), *args, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
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


async def _kill_group(leader: int, run: _Run) -> None:
    """End the program and its children; those that left the group are not waited for."""
    try:
        os.killpg(leader, signal.SIGKILL)
        async with asyncio.timeout(_GRACE):
            await run.exited.wait()
    except (ProcessLookupError, TimeoutError):
        pass

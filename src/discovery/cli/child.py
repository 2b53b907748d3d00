"""Programs that `lock` and `watch` run."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import IO, NoReturn

from .failure import Failed


def start(
    arguments: Sequence[str], *, shell: bool, stdin: int | IO[bytes] | None, variables: Mapping[str, str], own_group: bool
) -> "subprocess.Popen[bytes]":
    """Run a command line, by the shell that SHELL names unless told otherwise. Raises `Failed`.

    `stdin` None is our own. In a group of its own a program can be stopped together with all that it started, but can't read from
    a terminal.
    """
    command = [os.environ.get("SHELL") or "/bin/sh", "-c", " ".join(arguments)] if shell else list(arguments)
    try:
        environment = {**os.environ, **variables}
        return subprocess.Popen(command, stdin=stdin, env=environment, process_group=0 if own_group else None)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Failed(f"Error starting handler: fork/exec {command[0]}: {reason}") from None


def ending(code: int) -> str:
    """How a program that failed ended, as Go words it."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"


def send(process: "subprocess.Popen[bytes]", number: signal.Signals, *, own_group: bool) -> None:
    """Signal a program, with its group if it has one of its own; one that has just ended is no error."""
    with contextlib.suppress(ProcessLookupError):
        if own_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


@contextlib.contextmanager
def on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM do this, also where a script's background job would ignore SIGINT."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        action()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruptible() -> contextlib.AbstractContextManager[None]:
    """Inside, SIGINT and SIGTERM are raised as `KeyboardInterrupt`.

    Not for the time in which a program runs: one that has just been started would be left behind.
    """
    return on_interrupt(_raise)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """For what must not be left half done: the first interrupt inside is raised as `KeyboardInterrupt` at the end."""
    came: list[None] = []

    def note() -> None:
        if came:
            _raise()
        came.append(None)

    with on_interrupt(note):
        yield
    if came:
        _raise()


def _raise() -> NoReturn:
    raise KeyboardInterrupt

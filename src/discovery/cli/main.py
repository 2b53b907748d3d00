"""The program `discovery`: one command out of the table, with its exit code."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from .action import listing
from .commands import COMMANDS
from .flags import program

_HELP: Final = frozenset({"-h", "-help", "--help"})
_VERSION: Final = frozenset({"-v", "-version", "--version"})
_UNKNOWN_COMMAND: Final = 127


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; arguments are the process's own unless given."""
    for stream in (sys.stdout, sys.stderr):
        # As in Consul, whatever the locale: names and values may be any text, and bytes that are none pass through.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whatever reads our output has seen enough. The interpreter must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in _HELP:
        print(_usage())
        return 0
    if first in _VERSION:
        first, arguments = "version", ["version"]
    entry = COMMANDS.get(first)
    if entry is None:
        print(_usage(), file=sys.stderr)
        return _UNKNOWN_COMMAND
    return entry.load()(arguments[1:])


def _usage() -> str:
    synopses = {name: entry.synopsis for name, entry in COMMANDS.items()}
    return f"Usage: {program()} [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n{listing(synopses)}\n"

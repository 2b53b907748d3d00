"""Values on the command line that may stand elsewhere: `@FILE` is a file's content, `-` is what comes on stdin."""

import sys
from pathlib import Path

from .failure import Failed, file_error


def value_of(argument: str) -> bytes:
    """Raises `Failed` with Consul's text."""
    if argument == "-":
        return sys.stdin.buffer.read()
    if argument.startswith("@"):
        return file_content(argument[1:], "Error! Failed to read file")
    return argument.encode(errors="surrogateescape")


def file_content(path: str, failure: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Failed(f"{failure}: {file_error('open', error)}") from None


def exactly(count: int, arguments: tuple[str, ...], missing: str = "") -> None:
    """Demand `count` arguments; `missing` is the whole complaint about too few."""
    if len(arguments) > count:
        raise Failed(f"Too many arguments (expected {count}, got {len(arguments)})")
    if len(arguments) < count:
        raise Failed(missing)

"""`validate`: whether an agent would start with these configuration files."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from discovery.config.load import Sources, load
from discovery.config.tree import ConfigError

from .flags import Command, Flag, Kind, parse

_COMMAND: Final = Command(
    "validate [options] FILE_OR_DIRECTORY...",
    "Reads configuration files and directories just as the agent does, and tells what is wrong with\n"
    "them. They must be all that an agent is given: a part alone lacks what the other parts set.\n\n"
    "The exit code is 0 if an agent would take the configuration, otherwise 1.",
)
_FLAGS: Final = (
    Flag("config-format", Kind.TEXT, "Read all files as this, `hcl` or `json`, whatever their names."),
    Flag("quiet", Kind.BOOL, "Print nothing if the configuration is valid."),
)


def run(arguments: Sequence[str]) -> int:
    """The exit code. Warnings go to stderr."""
    parsed = parse(_COMMAND, _FLAGS, arguments)
    if not all(parsed.rest) or not parsed.rest:
        return _failed("Must specify at least one config file or directory")
    try:
        loaded = load(Sources(paths=tuple(map(Path, parsed.rest)), format=parsed.text("config-format")))
    except ConfigError as error:
        return _failed(f"Config validation failed: {error}")
    if not parsed.flag("quiet"):
        for warning in loaded.warnings:
            print(warning, file=sys.stderr)
        print("Configuration is valid!")
    return 0


def _failed(text: str) -> int:
    print(text, file=sys.stderr)
    return 1

"""What every command is: an action with its flags, or a group of actions under one word."""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, NamedTuple, TypeAlias, cast

from .failure import Failed, Misused
from .flags import Command, Flag, Parsed, help_page, parse, program
from .output import check_format

Handler: TypeAlias = Callable[[Sequence[str]], int]
"""Takes the arguments after a command's name, gives the exit code. Actions and groups are handlers too."""

_HELP: Final = frozenset({"-h", "-help", "--help"})


@dataclass(frozen=True, slots=True)
class Action:
    """`run` raises `Failed`, or gives the exit code, where None stands for 0."""

    usage: str
    """After the program's name, such as `kv get [options] [KEY_OR_PREFIX]`."""
    synopsis: str
    """One line, for the listing of the group."""
    run: Callable[[Parsed], int | None]
    flags: tuple[Flag, ...] = ()
    about: str = ""
    """What the help page says after the synopsis."""

    def __call__(self, arguments: Sequence[str]) -> int:
        command = Command(self.usage, textwrap.fill(f"{self.synopsis}. {self.about}".strip(), 78, break_on_hyphens=False))
        given = parse(command, self.flags, arguments)
        try:
            if "format" in given.values:
                check_format(given)
            return self.run(given) or 0
        except Misused as misuse:
            print(f"{misuse}\n\n{help_page(command, self.flags)}", file=sys.stderr)
            return misuse.code
        except Failed as failure:
            print(failure, file=sys.stderr)
            return failure.code


class Entry(NamedTuple):
    """A command that is imported only when it is called."""

    target: str
    """`module:name` of a handler in this package."""
    synopsis: str

    def load(self) -> Handler:
        module, _, name = self.target.partition(":")
        return cast(Handler, getattr(import_module(f"{__package__}.{module}"), name))


@dataclass(frozen=True, slots=True)
class Group:
    """`members` are shown with their synopses, sorted by name."""

    name: str
    """All words up to this one, such as `operator raft`."""
    synopsis: str
    members: Mapping[str, "Action | Group | Entry"]
    examples: Sequence[str] = field(default=())
    """Command lines without the program's name."""

    def __call__(self, arguments: Sequence[str]) -> int:
        first = arguments[0] if arguments else ""
        if first in _HELP:
            print(self._help())
            return 0
        member = self.members.get(first)
        if member is None:
            print(self._help(), file=sys.stderr)
            return 1
        handler = member.load() if isinstance(member, Entry) else member
        return handler(arguments[1:])

    def _help(self) -> str:
        lines = [f"Usage: {program()} {self.name} <subcommand> [options] [args]", "", f"  {self.synopsis}."]
        if self.examples:
            lines += ["", "  For example:", "", *(f"      $ {program()} {example}" for example in self.examples)]
        return "\n".join([*lines, "", "Subcommands:", listing({name: member.synopsis for name, member in self.members.items()})])


def listing(synopses: Mapping[str, str]) -> str:
    width = max(map(len, synopses))
    return "\n".join(f"    {name.ljust(width)}    {synopsis}" for name, synopsis in sorted(synopses.items()))

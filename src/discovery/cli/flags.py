"""The flags of commands, as Go programs read them: one dash or two, `-flag=value` or `-flag value`, flags before arguments.

A command states its flags as a list of `Flag` and calls `parse`. A mistake is told on stderr and ends the program with exit code
1; `-h`, `-help` and `--help` print the help page and end it with 0. Both by `SystemExit`, as argparse does.

Source: the documentation of Go's package flag; Consul's help pages and errors, as observed.
"""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final, NoReturn

from discovery.model.duration import Duration, InvalidDuration


class Kind(StrEnum):
    """What a flag takes. The text names it in help pages that have no better word."""

    BOOL = ""
    """`-x`, `-x=true`, `-x=false`; a value after a space would be an argument."""
    TEXT = "string"
    INT = "int"
    UINT = "uint"
    DURATION = "duration"
    LIST = "value"
    """May be repeated: a tuple of texts."""
    PAIRS = "key=value"
    """May be repeated: a dict of texts."""


HTTP_OPTIONS: Final = "HTTP API Options"
COMMAND_OPTIONS: Final = "Command Options"

_ZEROS: Final[Mapping[Kind, object]] = {
    Kind.BOOL: False,
    Kind.TEXT: "",
    Kind.INT: 0,
    Kind.UINT: 0,
    Kind.DURATION: Duration(0),
    Kind.LIST: (),
    Kind.PAIRS: {},
}
_LIMITS: Final = {Kind.INT: range(-(2**63), 2**63), Kind.UINT: range(2**64)}
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_HELP: Final = frozenset({"-h", "-help", "--help"})
_WIDTH: Final = 72
_INDENT: Final = " " * 5


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    """Without dashes."""
    kind: Kind = Kind.TEXT
    help: str = ""
    """One or more sentences; wrapped where it is shown."""
    default: object = None
    """None: the zero value of the kind."""
    metavar: str = ""
    """How help pages call the value; empty: the kind's word."""
    group: str = COMMAND_OPTIONS

    @property
    def initial(self) -> object:
        return _ZEROS[self.kind] if self.default is None else self.default

    @property
    def word(self) -> str:
        return "" if self.kind is Kind.BOOL else self.metavar or self.kind


@dataclass(frozen=True, slots=True)
class Command:
    """What a help page says besides the flags."""

    usage: str
    """After the program's name, such as `kv get [options] [KEY_OR_PREFIX]`."""
    about: str = ""
    """Paragraphs, broken into lines already and not indented."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """`values` has every flag by its name, with its default where it was not given; `rest` are the arguments."""

    values: Mapping[str, object]
    rest: tuple[str, ...]
    given: frozenset[str]
    """The names of the flags that were given."""
    typed: tuple[tuple[str, str], ...]
    """Names and texts as given, in order; `true` for a boolean flag without value."""

    def flag(self, name: str) -> bool:
        value = self.values[name]
        assert isinstance(value, bool)
        return value

    def text(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def duration(self, name: str) -> Duration:
        value = self.values[name]
        assert isinstance(value, Duration)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def pairs(self, name: str) -> dict[str, str]:
        value = self.values[name]
        assert isinstance(value, dict)
        return value


class _Mistake(Exception):
    """The text is Go's."""


def parse(command: Command, flags: Sequence[Flag], arguments: Sequence[str]) -> Parsed:
    """Raises `SystemExit`: 0 after printing the help page, 1 after telling a mistake."""
    if _asks_for_help(arguments):
        print(help_page(command, flags))
        raise SystemExit(0)
    try:
        return _parse({flag.name: flag for flag in flags}, list(arguments))
    except _Mistake as mistake:
        refuse(str(mistake), flags)


def refuse(mistake: str, flags: Sequence[Flag]) -> NoReturn:
    """Tell a mistake in the flags, with the list of those there are, and end with exit code 1."""
    print(f"{mistake}\n{flag_list(flags)}", file=sys.stderr)
    raise SystemExit(1)


def program() -> str:
    """The name to show: that of Consul where this program was called by it."""
    return "consul" if PurePath(sys.argv[0]).stem == "consul" else "discovery"


def help_page(command: Command, flags: Sequence[Flag]) -> str:
    parts = [f"Usage: {program()} {command.usage}"]
    if command.about:
        parts.append(textwrap.indent(command.about.strip("\n"), "  "))
    for group in sorted({flag.group for flag in flags}, key=lambda group: (group != HTTP_OPTIONS, group)):
        parts.append(group)
        parts += [_help_entry(flag) for flag in sorted(flags, key=lambda flag: flag.name) if flag.group == group]
    return "\n\n".join(parts)


def _help_entry(flag: Flag) -> str:
    head = f"  -{flag.name}" + (f"=<{flag.word}>" if flag.word else "")
    body = textwrap.fill(flag.help, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
    return f"{head}\n{body}" if body else head


def flag_list(flags: Sequence[Flag]) -> str:
    """The short list that follows a mistake."""
    lines = ["Usage:"]
    for flag in sorted(flags, key=lambda flag: flag.name):
        lines.append(f"  -{flag.name}" + (f" {flag.word}" if flag.word else ""))
        lines.append(f"    \t{flag.help.replace('`', '')}{_default_note(flag)}")
    return "\n".join(lines)


def _default_note(flag: Flag) -> str:
    if flag.initial == _ZEROS[flag.kind]:
        return ""
    return f' (default "{flag.initial}")' if flag.kind is Kind.TEXT else f" (default {flag.initial})"


def _asks_for_help(arguments: Sequence[str]) -> bool:
    for argument in arguments:
        if argument == "--":
            return False
        if argument in _HELP:
            return True
    return False


def _parse(flags: Mapping[str, Flag], arguments: list[str]) -> Parsed:
    values = {name: flag.initial for name, flag in flags.items()}
    given: set[str] = set()
    typed: list[tuple[str, str]] = []
    while arguments and arguments[0].startswith("-") and arguments[0] != "-":
        argument = arguments.pop(0)
        if argument == "--":
            break
        name, text = _split(argument)
        flag = flags.get(name)
        if flag is None:
            raise _Mistake(f"flag provided but not defined: -{name}")
        if text is None:
            text = _text_that_follows(flag, arguments)
        values[name] = _value(flag, text, values[name] if name in given else None)
        given.add(name)
        typed.append((name, text))
    return Parsed(values, tuple(arguments), frozenset(given), tuple(typed))


def _split(argument: str) -> tuple[str, str | None]:
    body = argument[2:] if argument.startswith("--") else argument[1:]
    if not body or body[0] in "-=":
        raise _Mistake(f"bad flag syntax: {argument}")
    name, equals, text = body.partition("=")
    return name, text if equals else None


def _text_that_follows(flag: Flag, arguments: list[str]) -> str:
    if flag.kind is Kind.BOOL:
        return "true"
    if not arguments:
        raise _Mistake(f"flag needs an argument: -{flag.name}")
    return arguments.pop(0)


def _value(flag: Flag, text: str, before: object) -> object:
    """`before` is what the same flag was given earlier."""
    match flag.kind:
        case Kind.BOOL:
            return _bool(flag, text)
        case Kind.INT | Kind.UINT:
            return _int(flag, text)
        case Kind.DURATION:
            return _duration(flag, text)
        case Kind.LIST:
            return (*(before if isinstance(before, tuple) else ()), text)
        case Kind.PAIRS:
            return {**(before if isinstance(before, dict) else {}), **_pair(flag, text)}
        case _:
            return text


def _invalid(flag: Flag, text: str, reason: str) -> _Mistake:
    return _Mistake(f'invalid value "{text}" for flag -{flag.name}: {reason}')


def _bool(flag: Flag, text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise _Mistake(f'invalid boolean value "{text}" for -{flag.name}: parse error')
    return text in _TRUE


def _int(flag: Flag, text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        raise _invalid(flag, text, "parse error") from None
    if flag.kind is Kind.UINT and number < 0:
        raise _invalid(flag, text, "parse error")
    if number not in _LIMITS[flag.kind]:
        raise _invalid(flag, text, "value out of range")
    return number


def _duration(flag: Flag, text: str) -> Duration:
    try:
        return Duration.parse(text)
    except InvalidDuration:
        raise _invalid(flag, text, "parse error") from None


def _pair(flag: Flag, text: str) -> dict[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise _invalid(flag, text, f'Missing "=" value in argument: {text}')
    return {key: value}

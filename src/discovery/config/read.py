"""From a command line's files, directories and fragments to their text, in Consul's order.

Source: Consul documentation (agent command line: configuration files).
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import hcl, json_text
from .tree import ConfigError, Document, place

HCL: Final = "hcl"
JSON: Final = "json"
FORMATS: Final = (HCL, JSON)


@dataclass(frozen=True, slots=True)
class Text:
    name: str
    """A path, or what stands for a fragment in messages."""
    format: str
    text: str


def files(paths: tuple[Path, ...], chosen_format: str, skipped: list[str]) -> Iterator[Text]:
    """The files named, and those of the directories named, in bytewise order of their names. Files of neither format are left
    out unless a format is chosen, and named in `skipped`. Raises `ConfigError`."""
    for path in _listed(paths):
        extension = path.suffix.removeprefix(".")
        if chosen_format or extension in FORMATS:
            yield Text(str(path), chosen_format or extension, _text(path))
        else:
            skipped.append(f"skipping file {path}, extension must be .hcl or .json, or config format must be set")


def fragments(texts: tuple[str, ...]) -> Iterator[Text]:
    """Configuration given on the command line. Raises `ConfigError`."""
    for number, text in enumerate(texts):
        if not text.isascii() and not _is_utf8(text):
            raise ConfigError(f"failed to parse flags-{number}.hcl: it is no UTF-8")
        yield Text(f"flags-{number}.hcl", HCL, text)


def _is_utf8(argument: str) -> bool:
    """Whether an argument of this process was; others bytes come as lone surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse(source: Text) -> Document:
    """Raises `ConfigError`. HCL includes JSON, so text of either syntax is taken as HCL."""
    if not source.text.strip():
        return Document.empty(source.name)
    if source.format == HCL and not source.text.lstrip().startswith("{"):
        return Document(source.name, source.text, hcl.parse(source.name, source.text))
    try:
        return Document(source.name, source.text, json_text.parse(source.name, source.text))
    except ConfigError as error:
        note = "" if source.format == JSON else "; HCL that begins with a brace is read as JSON"
        raise ConfigError(f"{error}{note}") from None


def _listed(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if not _is_directory(path):
            yield path
            continue
        try:
            names = sorted(path.iterdir(), key=lambda entry: entry.name.encode(errors="surrogateescape"))
        except OSError as error:
            raise _unreadable(path, error) from None
        yield from (entry for entry in names if not _is_directory(entry))


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise _unreadable(path, error) from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise ConfigError(
            f"failed to parse {path}: byte 0x{data[error.start]:02x} is no UTF-8 ({place(str(path), before, len(before))})"
        ) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"config: Open failed on {path}. open {path}: {(error.strerror or str(error)).lower()}")

"""JSON sources, with positions.

The library's decoder judges the syntax, then one pass over the text, now known to be valid, finds where each value stands.
"""

import json
import math
import re
from typing import Final

from .tree import ConfigError, Entry, Items, Node, Scalar, Table, place, whole

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


def parse(name: str, text: str) -> Table:
    """Raises `ConfigError`, and `RecursionError` where values are nested too deeply."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"failed to parse {name}: {error.msg} ({place(name, text, error.pos)})") from None
    except ValueError as error:
        raise ConfigError(f"failed to parse {name}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"failed to parse {name}: expected an object in braces ({name}:1:1)")
    root = _Reader(name, text).value()
    assert isinstance(root, Table)
    return root


class _Reader:
    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._position = 0

    def value(self) -> Node:
        start = self._next()
        opening = self._text[start]
        if opening == "{":
            return Table(self._entries(), start)
        if opening == "[":
            return Items(self._items(), start)
        return Scalar(self._scalar(), start)

    def _next(self) -> int:
        """Skip white space; where the next token begins."""
        match = _SPACE.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        return self._position

    def _closes(self, closing: str) -> bool:
        """Step over the comma or bracket at hand and tell whether it was `closing`."""
        start = self._next()
        if self._text[start] in f",{closing}":
            self._position += 1
        return self._text[start] == closing

    def _entries(self) -> list[Entry]:
        self._position += 1
        entries: dict[str, Entry] = {}
        while not self._closes("}"):
            start = self._next()
            key = str(self._scalar())
            if key in entries:
                first = place(self._name, self._text, entries[key].offset)
                here = place(self._name, self._text, start)
                raise ConfigError(f"failed to parse {self._name}: '{key}' is set twice ({here}; first at {first})")
            self._position = self._next() + len(":")
            entries[key] = Entry(key, start, self.value())
        return list(entries.values())

    def _items(self) -> list[Node]:
        self._position += 1
        nodes: list[Node] = []
        while not self._closes("]"):
            nodes.append(self.value())
        return nodes

    def _scalar(self) -> str | int | float | bool | None:
        value: str | int | float | bool | None
        start = self._position
        value, self._position = _DECODER.raw_decode(self._text, self._position)
        if isinstance(value, float) and not math.isfinite(value):
            here = place(self._name, self._text, start)
            raise ConfigError(f"failed to parse {self._name}: {self._text[start : self._position]} is no JSON number ({here})")
        return whole(value) if isinstance(value, str) else value

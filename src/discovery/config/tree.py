"""What both syntaxes are read into: values that know where they stand.

An object keeps every entry in order, repeated keys included; what a repetition means depends on the key and is settled by
`decode`. Positions are offsets into the text; only messages need lines and columns.
"""

from dataclasses import dataclass
from typing import TypeAlias


class ConfigError(Exception):
    """A configuration that can't be used. The text is for the operator and complete: file, line, key, what was expected."""


@dataclass(frozen=True, slots=True)
class Scalar:
    value: str | int | float | bool | None
    offset: int


@dataclass(frozen=True, slots=True)
class Items:
    nodes: list["Node"]
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    offset: int
    node: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    entries: list[Entry]
    offset: int


Node: TypeAlias = Scalar | Items | Table


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed source. `name` is its path, or the flag it came with."""

    name: str
    text: str
    root: Table

    @classmethod
    def empty(cls, name: str) -> "Document":
        return cls(name, "", Table([], 0))

    def place(self, offset: int) -> str:
        return place(self.name, self.text, offset)


def place(name: str, text: str, offset: int) -> str:
    """`file:line:column`, both counted from 1."""
    offset = min(offset, len(text))
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return f"{name}:{line}:{column}"


def whole(text: str) -> str:
    """`text` with U+FFFD for each half of a surrogate pair that stands alone, since that is no character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(node: Node) -> object:
    """The value without positions. A repeated key becomes a list of its values."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.nodes]
    result: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for entry in node.entries:
        value = plain(entry.node)
        if entry.key in result:
            result[entry.key] = repeated.setdefault(entry.key, [result[entry.key]])
            repeated[entry.key].append(value)
        else:
            result[entry.key] = value
    return result

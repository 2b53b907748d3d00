"""How results are shown: aligned columns for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from .failure import Failed
from .flags import Flag, Parsed

FORMAT: Final = Flag(
    "format",
    help='How the result is shown: "pretty" for people, "json" for programs.',
    default="pretty",
    metavar="pretty|json",
)

JSON_ANYWAY: Final = Flag(FORMAT.name, FORMAT.kind, "The result is JSON in either case.", FORMAT.default, FORMAT.metavar)
"""Instead of `FORMAT`, where Consul's only form is JSON."""

_GAP: Final = "  "


def check_format(given: Parsed) -> None:
    if given.text("format") not in ("pretty", "json"):
        raise Failed(f"Unknown format: {given.text('format')}")


def as_json(given: Parsed) -> bool:
    return given.text("format") == "json"


def show(given: Parsed, text: str, document: object) -> None:
    """Print `text`, or `document` where JSON was asked for."""
    if as_json(given):
        show_json(document)
    elif text:
        print(text)


def show_json(document: object) -> None:
    print(json_text(document))


def json_text(document: object, indent: int = 4) -> str:
    return json.dumps(document, indent=indent, ensure_ascii=False)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows as aligned columns, two spaces apart, the last one not padded."""
    lines = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_GAP.join([*map(str.ljust, line[:-1], widths), line[-1]]) for line in lines)


def labelled(rows: Iterable[tuple[str, str]], gap: int) -> str:
    """Rows of a name and a value; the values begin `gap` columns after the longest name."""
    pairs = list(rows)
    width = max(len(name) for name, _ in pairs) + gap
    return "\n".join(f"{name.ljust(width)}{value}".rstrip() for name, value in pairs)


def write_bytes(data: bytes) -> None:
    """Bytes as they are, in order with what was printed before."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def pairs_text(pairs: dict[str, Any] | None) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted((pairs or {}).items()))

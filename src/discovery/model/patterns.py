"""Regular expressions that come from outside, in the dialect of Go's.

RE2 never needs more than linear time, so that no expression can hold up a server. Errors are worded as Go words them.
"""

from typing import Any, Final

import re2

MAX_LENGTH: Final = 512

_QUIETLY: Final = re2.Options()
_QUIETLY.log_errors = False
_GO_WORDS: Final = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
}
"""The library's words for a mistake -> Go's, where they differ."""


class InvalidPattern(ValueError):
    """What is no regular expression; the message is Go's."""


def compile_pattern(pattern: str) -> Any:
    """An object with `search(text)` and `groups`; raises `InvalidPattern`."""
    if len(pattern) > MAX_LENGTH:
        raise InvalidPattern(f"error parsing regexp: longer than {MAX_LENGTH} characters")
    try:
        return re2.compile(pattern, _QUIETLY)
    except re2.error as error:
        raise InvalidPattern(f"error parsing regexp: {_told(error)}") from None


def _told(error: Exception) -> str:
    words = error.args[0]
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
    if text.startswith("trailing \\"):
        return "trailing backslash at end of expression: ``"
    mistake, _, where = text.partition(": ")
    return f"{_GO_WORDS.get(mistake, mistake)}: `{where}`"

"""Regular expressions that an operator types."""

import re
from typing import Final

from .failure import Failed

_GO_WORDS: Final = {
    "unterminated character set": "missing closing ]: `{rest}`",
    "missing ), unterminated subpattern": "missing closing ): `{whole}`",
    "unbalanced parenthesis": "unexpected ): `{whole}`",
    "nothing to repeat": "missing argument to repetition operator: `{rest}`",
}


def compile_pattern(what: str, text: str) -> re.Pattern[str]:
    """Raises `Failed`, worded as Consul does where its words for the mistake are known."""
    try:
        return re.compile(text)
    except re.error as error:
        words = _GO_WORDS.get(error.msg.partition(" at ")[0], f"{error.msg}: `{{whole}}`")
        reason = words.format(rest=text[error.pos or 0 :], whole=text)
        raise Failed(f"Failed to compile {what} regexp: error parsing regexp: {reason}") from None

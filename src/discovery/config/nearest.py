"""What an operator probably meant by a key that is not known."""

import difflib
from collections.abc import Iterable
from typing import Final

_TYPING_ERROR, _RESEMBLANCE = 0.8, 0.6
"""How alike two words are, as difflib measures it."""
_SHORTEST_BEGINNING: Final = 3


def nearest(name: str, known: Iterable[str], everywhere: Iterable[str] = ()) -> str:
    """The known key that was probably meant; `everywhere` are full paths, looked through for the same last name."""
    letters = _letters(name)
    by_letters = {_letters(candidate): candidate for candidate in known}
    if exact := by_letters.get(letters):
        return exact
    moved = [path for path in everywhere if path.rpartition(".")[2] == name]
    if len(moved) == 1:
        return moved[0]
    beginning = letters if len(letters) >= _SHORTEST_BEGINNING else None
    longer = sorted((candidate for candidate in by_letters if beginning and candidate.startswith(beginning)), key=len)
    close = difflib.get_close_matches(letters, by_letters, n=1, cutoff=_TYPING_ERROR) or longer
    close = close or difflib.get_close_matches(letters, by_letters, n=1, cutoff=_RESEMBLANCE)
    return by_letters[close[0]] if close else ""


def _letters(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()

"""Bytes written as base64 (RFC 4648) from outside, read as strictly as Go's standard decoder and refused in its words."""

import base64
import binascii
from typing import Final

_DIGITS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_LINE_ENDS: Final = "\r\n"
_NO_LINE_ENDS: Final = str.maketrans("", "", _LINE_ENDS)


class NotBase64(ValueError):
    """The message names the first byte that does not fit."""

    def __init__(self, place: int) -> None:
        super().__init__(f"illegal base64 data at input byte {place}")


def decode(text: str) -> bytes:
    """What the text encodes; line ends in it count for nothing. Raises `NotBase64`."""
    written = text.translate(_NO_LINE_ENDS)
    try:
        if len(written) % 4 == 0 and not written.endswith("==="):
            return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise NotBase64(_first_misfit(text))


def _first_misfit(text: str) -> int:
    """Where a foreign character or misplaced padding stands, or where a block begins that is left incomplete."""
    written = [(place, char) for place, char in enumerate(text) if char not in _LINE_ENDS]
    digits = next((count for count, (_, char) in enumerate(written) if char not in _DIGITS), len(written))
    if digits == len(written):
        return len(text) - digits % 4
    place, char = written[digits]
    if char != "=" or digits % 4 < 2:
        return place
    after = [*written[digits + 1 :], (len(text), "")]
    if digits % 4 == 3 or not after[0][1]:
        return after[0][0]
    return after[1][0] if after[0][1] == "=" else place

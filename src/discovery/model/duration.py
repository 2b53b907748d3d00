"""Go's durations: whole nanoseconds, written as text such as `1h30m`, `1.5s`, `300ms`.

Source: the grammar in Consul's configuration and API documentation (units ns us µs ms s m h, optional sign, concatenated).
"""

import re
from typing import Final

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
_WHOLE: Final = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)[^\d.]*)+")


class InvalidDuration(ValueError):
    """Text that is no duration; the message is worded as Go's parser does, because clients and operators match on it."""


class Duration(int):
    """Nanoseconds. JSON shows it as text, RPC as an integer."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read `text`; raises `InvalidDuration`."""
        body = text[1:] if text[:1] in ("+", "-") else text
        sign = -1 if text.startswith("-") else 1
        if body == "0":
            return cls(0)
        if not _WHOLE.fullmatch(body):
            raise InvalidDuration(f'time: invalid duration "{text}"')
        total = 0
        for number, unit in _PART.findall(body):
            if not unit:
                raise InvalidDuration(f'time: missing unit in duration "{text}"')
            if unit not in _UNITS:
                raise InvalidDuration(f'time: unknown unit "{unit}" in duration "{text}"')
            total += _scaled(number, _UNITS[unit])
        if not _LOWEST <= sign * total <= _HIGHEST:
            raise InvalidDuration(f'time: invalid duration "{text}"')
        return cls(sign * total)

    @classmethod
    def from_seconds(cls, seconds: float) -> "Duration":
        return cls(round(seconds * 10**9))

    @property
    def seconds(self) -> float:
        return int(self) / 10**9

    def __str__(self) -> str:
        value = abs(int(self))
        sign = "-" if self < 0 else ""
        if value == 0:
            return "0s"
        if value < 10**9:
            unit, size = ("ns", 1) if value < 10**3 else ("µs", 10**3) if value < 10**6 else ("ms", 10**6)
            return sign + _decimal(value, size) + unit
        hours, rest = divmod(value, 3600 * 10**9)
        minutes, rest = divmod(rest, 60 * 10**9)
        text = _decimal(rest, 10**9) + "s"
        if hours:
            return f"{sign}{hours}h{minutes}m{text}"
        return f"{sign}{minutes}m{text}" if minutes else sign + text

    __repr__ = __str__


def _scaled(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    digits = len(str(size)) - 1
    return f"{whole}.{str(rest).zfill(digits).rstrip('0')}"

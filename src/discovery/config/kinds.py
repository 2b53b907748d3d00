"""The kinds of values that configuration keys take, and how values of several sources become one."""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The text is what an operator is told was expected."""

    BOOL = "true or false"
    INT = "a whole number"
    FLOAT = "a number"
    TEXT = "text in quotes"
    DURATION = 'a duration in quotes such as "10s"'
    DURATION_TEXT = 'a duration in quotes, for example "10s"'
    """Checked and kept as text."""
    ADDRESS = "an IP address in quotes"
    ADDRESSES = "IP addresses in quotes, separated by spaces"
    HOSTS = "a list of hosts in quotes"
    TEXTS = "a list of texts in quotes"
    MAP = "a block of texts"
    DURATIONS = 'a block of durations such as "10s"'
    HEADERS = "a block of lists of texts"
    SERVICES = "service definitions"
    CHECKS = "check definitions"
    OBJECT = "a block"
    """Its keys are not looked at."""
    OBJECTS = "a list of blocks"
    """Their keys are not looked at."""


LISTS: Final = frozenset({Kind.TEXTS, Kind.HOSTS, Kind.SERVICES, Kind.CHECKS, Kind.OBJECTS})
"""Kinds whose values from several sources are joined."""
MAPS: Final = frozenset({Kind.MAP, Kind.DURATIONS, Kind.OBJECT})
"""Kinds whose values from several sources are merged key by key."""

"""Query strings, and what they say about how a read is to be answered. Texts are Consul's."""

import re
from typing import Any, Final
from urllib.parse import quote_plus, unquote_to_bytes

from discovery.model.duration import Duration, InvalidDuration
from discovery.model.errors import InvalidRequest, RequestFailed

from .encoding import go_quote

BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_UINT64_MAX: Final = 2**64 - 1
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class UndecodableQuery(InvalidRequest):
    """Percent signs that start no escape; Consul answers 500 without a body."""

    def __init__(self) -> None:
        super().__init__("", status=500)


class Params:
    """The parameters of a request, in the order given. Names may repeat."""

    __slots__ = ("_values",)

    def __init__(self, query: str = "") -> None:
        """Raises `UndecodableQuery`."""
        self._values: dict[str, list[str]] = {}
        if not query:
            return
        for part in query.split("&"):
            if part:
                name, _, value = part.partition("=")
                self._values.setdefault(_unescape(name), []).append(_unescape(value))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, name: str) -> str:
        """The first value; `""` if there is none."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def encoded(self) -> str:
        """Written again, sorted by name."""
        return "&".join(f"{quote_plus(name)}={quote_plus(v)}" for name in sorted(self._values) for v in self._values[name])


NO_PARAMS: Final = Params()


def _unescape(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    if BAD_ESCAPE.search(text):
        raise UndecodableQuery
    return unquote_to_bytes(text).decode("utf-8", "replace")


def parse_uint(text: str) -> int:
    """An unsigned 64-bit number; a bad one fails as a server's validation does (500)."""
    if not (text.isascii() and text.isdigit()):
        raise RequestFailed(f"strconv.ParseUint: parsing {go_quote(text)}: invalid syntax")
    value = int(text) if len(text) < 100 else _UINT64_MAX + 1
    if value > _UINT64_MAX:
        raise RequestFailed(f"strconv.ParseUint: parsing {go_quote(text)}: value out of range")
    return value


def parse_bool(text: str) -> bool:
    """Go's idea of a bool; raises `ValueError` with Go's text."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {go_quote(text)}: invalid syntax")


def consistency_options(params: Params, cache_control: str, *, use_cache: bool, max_stale: int) -> dict[str, Any]:
    """The fields of `QueryOptions` that say how fresh an answer must be and whether the agent's cache may give it.

    `max_stale` (ns) applies where the request names no consistency mode.
    """
    fields: dict[str, Any] = {}
    if "stale" in params:
        fields["allow_stale"] = True
    if "consistent" in params:
        fields["require_consistent"] = True
    if "cached" in params and use_cache:
        fields["use_cache"] = True
    if text := params.get("max_stale"):
        max_stale = _parse_max_stale(text)
    elif fields or "leader" in params:
        max_stale = 0
    if max_stale > 0:
        fields["max_stale_duration"] = max_stale
        fields["allow_stale"] = True
    if "require_consistent" in fields:
        if "allow_stale" in fields:
            raise InvalidRequest("Cannot specify ?stale with ?consistent, conflicting semantics.")
        if "use_cache" in fields:
            raise InvalidRequest("Cannot specify ?cached with ?consistent, conflicting semantics.")
    if cache_control:
        fields |= _cache_control(cache_control)
    return fields


def _parse_max_stale(text: str) -> int:
    try:
        return int(Duration.parse(text))
    except InvalidDuration:
        raise InvalidRequest(f"Invalid max_stale value {go_quote(text)}") from None


def _cache_control(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for directive in text.split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name == "must-revalidate":
            fields["must_revalidate"] = True
        elif name == "max-age":
            fields["max_age"] = seconds = _cache_seconds(value)
            if seconds == 0:
                fields["must_revalidate"] = True
        elif name == "stale-if-error":
            fields["stale_if_error"] = _cache_seconds(value)
    return fields


def _cache_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest("Invalid Cache-Control header.")
    return int(text) * 10**9


def blocking_options(params: Params) -> dict[str, Any]:
    """The fields of `QueryOptions` that say how long to wait for what."""
    fields: dict[str, Any] = {}
    if text := params.get("wait"):
        fields["max_query_time"] = parse_wait(text)
    if text := params.get("index"):
        try:
            fields["min_query_index"] = parse_uint(text)
        except RequestFailed:
            raise InvalidRequest("Invalid index") from None
    return fields


def parse_wait(text: str) -> int:
    """Nanoseconds."""
    try:
        return int(Duration.parse(text))
    except InvalidDuration:
        raise InvalidRequest("Invalid wait time") from None


def key_value_pairs(texts: list[str]) -> dict[str, str] | None:
    """`node-meta=k:v` parameters: split at the first colon."""
    return {name: value for name, _, value in (text.partition(":") for text in texts)} or None

"""What a handler takes and gives, said beside the handler: `/v1/openapi.json` is made of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiohttp.web import StreamResponse

from .call import Call
from .encoding import Reply

Handler = Callable[[Call], Awaitable[Reply | StreamResponse]]
H = TypeVar("H", bound=Handler)

COMMON: Final = ("dc", "token", "pretty")
CONSISTENCY: Final = ("stale", "consistent", "leader", "max_stale")
BLOCKING: Final = ("index", "wait")
READ: Final = (*COMMON, *CONSISTENCY, *BLOCKING)
"""What every read that servers answer understands."""
CHECKS: Final = (*READ, "filter", "near", "node-meta")
INSTANCES: Final = (*CHECKS, "cached", "tag")


class Operation(msgspec.Struct, frozen=True):
    """`rest` is what follows the route's path, as an OpenAPI path template. `body` and `reply` are types; `bytes` is anything
    at all, text is a media type other than JSON's. `elsewhere` are operations of the same handler below other templates."""

    summary: str
    rest: str = ""
    params: tuple[str, ...] = ()
    body: Any = None
    reply: Any = None
    elsewhere: Mapping[str, "Operation"] = {}


_operations: Final[dict[Handler, Operation]] = {}


def describes(
    summary: str,
    *,
    rest: str = "",
    params: tuple[str, ...] = (),
    body: Any = None,
    reply: Any = None,
    elsewhere: Mapping[str, Operation] | None = None,
) -> Callable[[H], H]:
    """Notes what the handler below it does."""

    def note(handler: H) -> H:
        _operations[handler] = Operation(summary, rest, params, body, reply, elsewhere or {})
        return handler

    return note


def operation_of(handler: Handler) -> Operation:
    """Raises `KeyError` for a handler that says nothing of itself."""
    return _operations[handler]

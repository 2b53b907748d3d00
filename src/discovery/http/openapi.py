"""`/v1/openapi.json`: the API described in OpenAPI 3.1, made of the table of routes that serves it."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from discovery import __version__
from discovery.model.duration import Duration

from .encoding import JSON, Reply
from .operation import Handler, Operation, describes, operation_of
from .parameters import PARAMETERS

Table = Iterable[tuple[str, dict[str, Handler]]]
"""Paths and their handlers by method."""

_NAME: Final = re.compile(r"\{(\w+)\}")
_REFERENCE: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"


def endpoint(table: Callable[[], Table]) -> Handler:
    """The handler that answers with the description of `table`."""

    @functools.cache
    def described() -> bytes:
        return msgspec.json.encode(document(table()), order="deterministic")

    @describes("This document.", reply=dict[str, Any])
    async def answer(_call: Any) -> Reply:
        return Reply(200, described(), JSON)

    return answer


def document(table: Table) -> dict[str, Any]:
    operations = [*_operations(table)]
    types = [kind for _, _, operation in operations for kind in (*_each(operation.body), operation.reply) if _is_json(kind)]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_own_types, ref_template=_REFERENCE)
    for component in components.values():
        if "properties" in component:
            component["additionalProperties"] = False
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations:
        paths.setdefault(path, {})[method.lower()] = _described(path, method, operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "discovery",
            "version": __version__,
            "description": "Consul's HTTP API, and what discovery has beside it. Errors are plain text.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": components},
    }


def _operations(table: Table) -> Iterator[tuple[str, str, Operation]]:
    for path, handlers in table:
        for method, handler in handlers.items():
            if method == "OPTIONS":
                continue
            operation = operation_of(handler)
            below = path.endswith("/")
            yield path + (operation.rest or "{id}") if below else path, method, operation
            for rest, other in operation.elsewhere.items():
                yield path + rest, method, other


def _each(body: Any) -> tuple[Any, ...]:
    """The types that a body may have."""
    return body if isinstance(body, tuple) else (body,)


def _own_types(kind: type) -> dict[str, Any]:
    """JSON forms of types that the library does not know."""
    if kind is Duration:
        return {"type": ["string", "integer"], "examples": ["10s", "1m30s"]}
    if kind is object:
        return {"description": "Anything."}
    # How msgspec wants to be told that a type is not for this hook.
    raise NotImplementedError


def _is_json(kind: Any) -> bool:
    return kind is not None and kind is not bytes and not isinstance(kind, str)


def _described(path: str, method: str, operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    noun = path.split("/")[2]
    found: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}",
        "summary": operation.summary,
        "tags": [noun],
        "parameters": [
            *_path_parameters(path),
            *({"name": name, "in": "query", **PARAMETERS[name]} for name in operation.params),
        ],
        "responses": {
            "200": _content("Done.", operation.reply, schema_of),
            "default": _content("Refused, with the reason.", "text/plain", schema_of),
        },
    }
    if operation.body is not None:
        found["requestBody"] = _content("", operation.body, schema_of)
    return found


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in _NAME.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _content(description: str, kind: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    described = {"description": description} if description else {}
    if kind is None:
        return described
    if kind is bytes or isinstance(kind, str):
        media_type = "application/octet-stream" if kind is bytes else kind
        return described | {"content": {media_type: {}}}
    schemas = [schema_of[repr(one)] for one in _each(kind)]
    return described | {"content": {_JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}}}

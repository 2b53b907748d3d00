"""What makes a service fit for the catalog. Texts are Consul's."""

import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.records import NodeService
from discovery.model.service_rules import CONNECT_PROXY, mesh_problems, several_errors

from .lookup import fold

_RESERVED_PREFIX: Final = "consul-"
_META_KEY: Final = re.compile(r"[a-zA-Z0-9_-]+")
_MAX_PAIRS: Final = 64
_MAX_KEY: Final = 128
_MAX_VALUE: Final = 512


def connect_name(service: NodeService) -> str | None:
    """Folded name of the service that this instance lets one reach through the mesh."""
    if service.kind == CONNECT_PROXY:
        return fold(service.proxy.destination_service_name)
    return fold(service.service) if service.connect.native else None


def checked_service(service: NodeService) -> NodeService:
    """The service as the catalog takes it, its name for an id if it has none; what is no service is refused."""
    problems = list(mesh_problems(service.kind, service.port, service.proxy, service.connect))
    if problems:
        raise RequestFailed(several_errors(problems))
    require_name(service)
    require_address(service)
    return service if service.id else replace(service, id=service.service)


def require_name(service: NodeService) -> None:
    if service.id and not service.service:
        raise RequestFailed("Must provide service name with ID")


def require_address(service: NodeService) -> None:
    """Refuse an address that one can listen on but not connect to."""
    if service.address in ("0.0.0.0", "::", "[::]"):
        raise RequestFailed("Invalid service address")


def check_meta(meta: Mapping[str, str] | None) -> None:
    """Refuse metadata that Consul refuses; raises `RequestFailed` with the text about the first bad pair."""
    if not meta:
        return
    if len(meta) > _MAX_PAIRS:
        raise RequestFailed(f"Node metadata cannot contain more than {_MAX_PAIRS} key/value pairs")
    for key, value in sorted(meta.items()):
        problem = _pair_problem(key, value)
        if problem:
            raise RequestFailed(f"Couldn't load metadata pair ('{key}', '{value}'): {problem}")


def _pair_problem(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > _MAX_KEY:
        return f"Key is too long (limit: {_MAX_KEY} characters)"
    if key.startswith(_RESERVED_PREFIX):
        return f"Key prefix '{_RESERVED_PREFIX}' is reserved for internal use"
    if len(value) > _MAX_VALUE:
        return f"Value is too long (limit: {_MAX_VALUE} characters)"
    return ""

"""The shorthand `connect { sidecar_service {} }`: the proxy that it stands for, registered beside its service.

Source: Consul documentation, "sidecar service registration".
"""

from collections.abc import Collection, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import InvalidRequest, RequestFailed
from discovery.model.records import Proxy
from discovery.model.service_rules import CONNECT_PROXY, several_errors

from .settings import Settings


def sidecar_id(service_id: str) -> str:
    return f"{service_id}-sidecar-proxy"


def sidecar_of(
    parent: ServiceSpec, shorthand: Mapping[str, object], settings: Settings, taken: Collection[int], present: int
) -> ServiceSpec:
    """The sidecar that `shorthand` asks for. `taken` are ports in use, `present` is the port that it has already, or 0.

    Raises `InvalidRequest`, and `RequestFailed` if no port is left.
    """
    spec = _convert(shorthand, ServiceSpec, "SidecarService")
    assert isinstance(spec, ServiceSpec)
    if spec.id:
        raise InvalidRequest(several_errors(["A SidecarService cannot specify an ID as this is managed by the agent"]))
    if spec.connect is not None and spec.connect.sidecar_service is not None:
        raise InvalidRequest(several_errors(["A SidecarService cannot have a nested SidecarService"]))
    service_id = parent.id or parent.name
    port = spec.port or present or _free_port(settings, taken)
    return msgspec.structs.replace(
        spec,
        id=sidecar_id(service_id),
        kind=spec.kind or CONNECT_PROXY,
        name=spec.name or f"{parent.name}-sidecar-proxy",
        port=port,
        tags=spec.tags or parent.tags,
        meta=spec.meta or parent.meta,
        token=spec.token or parent.token,
        proxy=_proxy_of(parent, spec.proxy or Proxy()),
        checks=spec.checks if spec.check is not None or spec.checks else _default_checks(service_id, spec.address, port),
    )


def _proxy_of(parent: ServiceSpec, proxy: Proxy) -> Proxy:
    return msgspec.structs.replace(
        proxy,
        destination_service_name=proxy.destination_service_name or parent.name,
        destination_service_id=proxy.destination_service_id or parent.id or parent.name,
        local_service_address=proxy.local_service_address or "127.0.0.1",
        local_service_port=proxy.local_service_port or parent.port,
    )


def _default_checks(service_id: str, address: str, port: int) -> list[CheckSpec]:
    return [
        CheckSpec(name="Connect Sidecar Listening", tcp=f"{address or '127.0.0.1'}:{port}", interval=Duration.from_seconds(10)),
        CheckSpec(name=f"Connect Sidecar Aliasing {service_id}", alias_service=service_id),
    ]


def _free_port(settings: Settings, taken: Collection[int]) -> int:
    first, last = settings.sidecar_min_port, settings.sidecar_max_port
    for port in range(first, last + 1):
        if port not in taken:
            return port
    raise RequestFailed(f"no port provided for sidecar_service and none left in the configured range [{first}, {last}]")


# --- reading -------------------------------------------------------------------------------------------------------
# The shorthand arrives as it was written: Go's names in any case from the API, names with underscores from files.


def _convert(value: Any, kind: Any, name: str) -> Any:
    if get_origin(kind) in (UnionType, Union):
        if value is None:
            return None
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _convert_struct(value, kind, name)
    if kind is Duration:
        return _convert_duration(value)
    origin = get_origin(kind)
    if origin is list and isinstance(value, list):
        return [_convert(item, get_args(kind)[0], name) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, get_args(kind)[1], name) for key, item in value.items()}
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Request decode failed: {name}: {error}") from None


def _convert_struct(value: Any, kind: type[msgspec.Struct], name: str) -> msgspec.Struct:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"Request decode failed: {name}: expected an object")
    hints = get_type_hints(kind)
    known = {field.encode_name.lower(): field.name for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for key, item in value.items():
        field = known.get(key.lower().replace("_", ""))
        if field is None:
            raise InvalidRequest(f'Request decode failed: json: unknown field "{key}"')
        if item is not None:
            found[field] = _convert(item, hints[field], key)
    return kind(**found)


def _convert_duration(value: Any) -> Duration:
    if isinstance(value, str):
        try:
            return Duration.parse(value)
        except ValueError as error:
            raise InvalidRequest(f"Request decode failed: {error}") from None
    if isinstance(value, int) and not isinstance(value, bool):
        return Duration(value)
    raise InvalidRequest(f"Request decode failed: {value!r} is no duration")

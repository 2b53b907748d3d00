"""`/v1/config`: central configuration entries."""

from typing import Any, Final

import msgspec

from discovery.model.errors import InvalidRequest, NotFound, RequestFailed
from discovery.model.requests import ConfigEntryQuery, ConfigEntryRequest, IndexedConfigEntries

from .call import Call
from .config_schema import KINDS, PARTS, Entry
from .decoding import DecodeError, Decoder, Rules, UnknownField, parse_json
from .encoding import ERROR_TEXT, Reply, go_quote, meta_headers
from .params import parse_uint

_SNAKE_CASE: Final = {part: Rules(snake_case=part.__struct_fields__) for part in PARTS}
_decoders: Final[dict[str, Decoder[Entry]]] = {kind: Decoder(entry, _SNAKE_CASE) for kind, entry in KINDS.items()}
_PREFIX: Final = "Bad request: Request decoding failed: "


async def apply(call: Call) -> Reply:
    entry = _decode(await call.body())
    cas = call.params.get("cas")
    request = ConfigEntryRequest(
        op="upsert-cas" if cas else "upsert",
        kind=entry.kind,
        name=entry.name,
        cas=parse_uint(cas) if cas else 0,
        entry=_document(entry),
        **call.scope(),
    )
    return call.boolean(await call.ask("ConfigEntry.Apply", request))


def _decode(body: bytes) -> Entry:
    try:
        value = parse_json(body)
        if not isinstance(value, dict | None):
            raise DecodeError(f"'' expected a map, got '{type(value).__name__}'")
        kind = _kind_of(value or {})
        if not isinstance(kind, str):
            raise DecodeError("Payload does not contain a kind/Kind key at the top level")
        if kind not in _decoders:
            raise DecodeError(f"invalid config entry kind: {kind}")
        entry = _decoders[kind].convert(value)
    except UnknownField as error:
        key = go_quote(error.field)
        raise InvalidRequest(f"{_PREFIX}1 error occurred:\n\t* invalid config key {key}\n\n") from None
    except DecodeError as error:
        raise InvalidRequest(f"{_PREFIX}{error}") from None
    return msgspec.structs.replace(entry, name="global") if kind == "proxy-defaults" else entry


def _kind_of(value: dict[str, Any]) -> Any:
    return value.get("Kind", value.get("kind"))


def _document(entry: Entry) -> dict[str, object]:
    """The entry as it is stored and shown; whole numbers are written without a fraction, as Go does."""
    document: dict[str, object] = _whole_numbers(msgspec.to_builtins(entry, enc_hook=str))
    return document


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


async def get(call: Call) -> Reply:
    kind, _, name = call.rest.partition("/")
    if kind and kind not in KINDS:
        raise RequestFailed(f"invalid config entry kind: {kind}")
    question = ConfigEntryQuery(kind=kind, name=name, **call.read())
    reply: IndexedConfigEntries = await call.ask("ConfigEntry.Get" if name else "ConfigEntry.List", question)
    if not name:
        return call.read_reply(reply.entries or [], reply)
    if not reply.entries:
        text = f'Config entry not found for "{kind}" / "{name}"'
        return Reply(404, text.encode(), ERROR_TEXT, meta_headers(reply))
    return call.read_reply(reply.entries[0], reply)


async def delete(call: Call) -> Reply:
    kind, _, name = call.rest.partition("/")
    if not kind or not name:
        raise NotFound("Must provide both a kind and name to delete")
    if kind not in KINDS:
        raise RequestFailed(f"invalid config entry kind: {kind}")
    await call.ask("ConfigEntry.Apply", ConfigEntryRequest(op="delete", kind=kind, name=name, **call.scope()))
    return call.json({})

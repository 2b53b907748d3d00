"""`/v1/config`: central configuration entries."""

from typing import Any, Final

import msgspec

from discovery.model.config_entries import KINDS, PARTS, Entry
from discovery.model.duration import Duration
from discovery.model.errors import InvalidRequest, NotFound, RequestFailed
from discovery.model.requests import ConfigEntryQuery, ConfigEntryRequest, IndexedConfigEntries
from discovery.model.service_rules import several_errors

from .call import Call, read_answer
from .decoding import DecodeError, Decoder, Rules, parse_json, unknown_fields
from .encoding import ERROR_TEXT, Reply, go_quote
from .operation import READ, Operation, describes
from .params import parse_uint
from .weak import fitted

_SNAKE_CASE: Final = {part: Rules(snake_case=part.__struct_fields__) for part in PARTS}
_decoders: Final[dict[str, Decoder[Entry]]] = {kind: Decoder(entry, _SNAKE_CASE) for kind, entry in KINDS.items()}
_PREFIX: Final = "Bad request: Request decoding failed: "
_GO_KINDS: Final = {list: "slice", str: "string", bool: "bool"}


@describes(
    "Writes a configuration entry, if the condition holds.",
    params=("token", "pretty", "cas"),
    body=tuple(KINDS.values()),
    reply=bool,
)
async def apply(call: Call) -> Reply:
    entry = _decode(await call.body())
    cas = call.params.get("cas")
    request = ConfigEntryRequest(
        op="upsert-cas" if cas else "upsert",
        kind=entry.kind,
        name=entry.name,
        cas=parse_uint(cas) if cas else 0,
        entry=msgspec.to_builtins(entry, enc_hook=str),
        datacenter=call.api.agent.datacenter,
        token=call.token,
    )
    return call.boolean(await call.ask("ConfigEntry.Apply", request))


def _decode(body: bytes) -> Entry:
    try:
        value = parse_json(body)
        if not isinstance(value, dict | None):
            raise DecodeError(f"'' expected a map, got '{_GO_KINDS.get(type(value), 'float64')}'")
        kind = _kind_of(value or {})
        decoder = _decoders.get(kind)
        if decoder is None:
            raise DecodeError(f"invalid config entry kind: {kind}")
        value = fitted(value, KINDS[kind], _SNAKE_CASE)
        problems = [_problem(path) for path in unknown_fields(value, KINDS[kind], _SNAKE_CASE)]
        if problems:
            raise InvalidRequest(f"{_PREFIX}{several_errors(problems)}")
        return decoder.convert(value)
    except DecodeError as error:
        raise InvalidRequest(f"{_PREFIX}{error}") from None


def _kind_of(value: dict[str, Any]) -> str:
    kind = value.get("Kind", value.get("kind"))
    if kind is None:
        raise DecodeError("Payload does not contain a kind/Kind key at the top level")
    if not isinstance(kind, str):
        raise DecodeError("Kind value in payload is not a string")
    return kind


def _problem(path: str) -> str:
    hint = ", namespaces are a consul enterprise feature" if path.rpartition(".")[2].lower() == "namespace" else ""
    return f"invalid config key {go_quote(path)}{hint}"


def _shown(document: dict[str, Any]) -> Any:
    """The document in Consul's order; one of a kind that we do not know as it is."""
    kind = KINDS.get(document.get("Kind", ""))
    return document if kind is None else msgspec.convert(document, kind, dec_hook=_read_duration)


def _read_duration(kind: Any, value: Any) -> Any:
    return Duration.parse(value) if kind is Duration and isinstance(value, str) else kind(value)


@describes(
    "Reads a configuration entry.",
    rest="{kind}/{name}",
    params=READ,
    reply=dict[str, Any],
    elsewhere={"{kind}": Operation("Lists the configuration entries of a kind.", params=READ, reply=list[dict[str, Any]])},
)
async def get(call: Call) -> Reply:
    kind, slash, name = call.rest.partition("/")
    if kind and kind not in KINDS:
        raise RequestFailed(f"invalid config entry kind: {kind}")
    question = ConfigEntryQuery(kind=kind, name=name, **call.read())
    reply: IndexedConfigEntries
    reply, terms = await call.ask_read("ConfigEntry.Get" if slash else "ConfigEntry.List", question)
    if not slash:
        return call.read_reply([_shown(entry) for entry in reply.entries or ()], reply, terms=terms)
    if not reply.entries:
        text = f'Config entry not found for "{kind}" / "{name}"'
        return read_answer(text.encode(), ERROR_TEXT, reply, status=404, terms=terms)
    return call.read_reply(_shown(reply.entries[0]), reply, terms=terms)


@describes("Removes a configuration entry.", rest="{kind}/{name}", params=("token", "pretty", "cas"), reply=bool | dict[str, Any])
async def delete(call: Call) -> Reply:
    kind, slash, name = call.rest.partition("/")
    if not kind or not slash:
        raise NotFound("Must provide both a kind and name to delete")
    if kind not in KINDS:
        raise InvalidRequest(f"invalid config entry kind: {kind}")
    request = ConfigEntryRequest(op="delete", kind=kind, name=name, datacenter=call.api.agent.datacenter, token=call.token)
    if "cas" not in call.params:
        await call.ask("ConfigEntry.Apply", request)
        return call.json({})
    request = msgspec.structs.replace(request, op="delete-cas", cas=parse_uint(call.params.get("cas")))
    return call.boolean(await call.ask("ConfigEntry.Apply", request))

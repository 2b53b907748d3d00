"""`/v1/connect/intentions`: which service may talk to which."""

from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from discovery.model.errors import NotFound, RequestFailed
from discovery.model.naming import always
from discovery.model.records import Intention, Record
from discovery.model.requests import (
    DCSpecificRequest,
    IndexedIntentionMatches,
    IndexedIntentions,
    IntentionCheckResponse,
    IntentionMatchEntry,
    IntentionQueryCheck,
    IntentionQueryMatch,
    IntentionQueryRequest,
    IntentionRequest,
)

from .call import Call
from .decoding import DecodeError, Decoder
from .encoding import Reply, go_quote
from .errors import bad_request
from .filter import apply_filter
from .operation import COMMON, READ, describes

_NAMESPACE: Final = "default"
_WILDCARD: Final = "*"
_body: Final = Decoder(Intention)


class Authorization(Record, frozen=True, kw_only=True):
    """Body of `agent/connect/authorize`."""

    target: str = always(str)
    client_cert_uri: str = msgspec.field(name="ClientCertURI", default="")
    client_cert_serial: str = always(str)
    namespace: str = always(str)


class Verdict(Record, frozen=True, kw_only=True):
    authorized: bool
    reason: str


_authorization: Final = Decoder(Authorization)


@describes("Lists intentions, the deciding ones first.", params=(*READ, "filter"), reply=list[Intention])
async def list_all(call: Call) -> Reply:
    reply: IndexedIntentions
    reply, terms = await call.ask_read("Intention.List", DCSpecificRequest(**call.read()))
    return call.read_reply(apply_filter(call.params.get("filter"), Intention, reply.intentions), reply, terms=terms)


@describes("Makes an intention.", params=COMMON, body=Intention, reply=dict[str, str])
async def create(call: Call) -> Reply:
    try:
        intention = _body.decode(await call.body())
    except DecodeError as error:
        raise RequestFailed(f"Failed to decode request body: {error}") from None
    return call.json({"ID": await _apply(call, "create", intention)})


@describes("Reads an intention.", rest="{intention}", params=READ, reply=Intention)
async def get(call: Call) -> Reply:
    try:
        reply: IndexedIntentions = await call.ask("Intention.Get", IntentionQueryRequest(intention_id=call.rest, **call.read()))
    except RequestFailed as error:
        if "UUID must be" in error.text:
            raise bad_request(error.text) from None
        raise
    if not reply.intentions:
        raise NotFound("Intention not found")
    return call.json(reply.intentions[0])


@describes("Changes an intention.", rest="{intention}", params=COMMON, body=Intention, reply=dict[str, str])
async def update(call: Call) -> Reply:
    body = await call.decode(_body, "Bad request: Request decode failed: ")
    intention = msgspec.structs.replace(body, id=call.rest)
    await _apply(call, "update", intention)
    return call.json({"ID": call.rest})


@describes("Removes an intention.", rest="{intention}", params=COMMON, reply=bool)
async def delete(call: Call) -> Reply:
    await _apply(call, "delete", Intention(id=call.rest))
    return call.boolean(True)


async def _apply(call: Call, operation: str, intention: Intention) -> str:
    request = IntentionRequest(op=operation, intention=intention, **call.scope())
    return str(await call.ask("Intention.Apply", request))


def _entry(parameter: str, text: str) -> IntentionMatchEntry:
    """A service as a parameter names it: `name`, or `namespace/name`."""
    namespace, separator, name = text.partition("/")
    if "/" in name:
        raise RequestFailed(f"{parameter} {go_quote(text)} is invalid: input can contain at most one '/'")
    return IntentionMatchEntry(namespace, name) if separator else IntentionMatchEntry(_NAMESPACE, text)


@describes("Lists the intentions that apply to a service.", params=(*READ, "by", "name"), reply=dict[str, list[Intention] | None])
async def match(call: Call) -> Reply:
    by = _required(call, "by")
    if by not in ("source", "destination"):
        raise RequestFailed("'by' parameter must be one of 'source' or 'destination'")
    names = call.params.all("name")
    if not names:
        raise _not_set("name")
    question = IntentionQueryMatch(type=by, entries=[_entry("name", name) for name in names])
    reply: IndexedIntentionMatches = await call.ask("Intention.Match", IntentionQueryRequest(match=question, **call.read()))
    return call.json({name: matches or None for name, matches in zip(names, reply.matches, strict=True)})


@describes("Tells whether a service may connect to another.", params=(*READ, "source", "destination"), reply=dict[str, bool])
async def check(call: Call) -> Reply:
    source, destination = _side(call, "source"), _side(call, "destination")
    question = IntentionQueryCheck(
        source_ns=source.namespace,
        source_name=source.name,
        destination_ns=destination.namespace,
        destination_name=destination.name,
        source_type=call.params.get("source-type") or "consul",
    )
    reply: IntentionCheckResponse = await call.ask("Intention.Check", IntentionQueryRequest(check=question, **call.read()))
    return call.json({"Allowed": reply.allowed})


def _side(call: Call, name: str) -> IntentionMatchEntry:
    return _entry(name, _required(call, name))


def _required(call: Call, name: str) -> str:
    """The value of a parameter that must be given just once."""
    values = call.params.all(name)
    if len(values) != 1:
        raise _not_set(name)
    return values[0]


def _not_set(name: str) -> RequestFailed:
    return RequestFailed(f"required query parameter '{name}' not set")


@describes("Reads the intention between two services.", params=(*COMMON, "source", "destination"), reply=Intention)
async def exact_get(call: Call) -> Reply:
    found = await _exact(call)
    if found is None:
        raise NotFound("Intention not found")
    return call.json(found)


@describes(
    "Makes or changes the intention between two services.", params=(*COMMON, "source", "destination"), body=Intention, reply=bool
)
async def exact_put(call: Call) -> Reply:
    body = await call.decode(_body, "Bad request: Request decode failed: ")
    source, destination = _side(call, "source"), _side(call, "destination")
    found = await _exact(call)
    intention = msgspec.structs.replace(
        body,
        id=found.id if found is not None else "",
        source_ns=source.namespace,
        source_name=source.name,
        destination_ns=destination.namespace,
        destination_name=destination.name,
    )
    await _apply(call, "create" if found is None else "update", intention)
    return call.boolean(True)


@describes("Removes the intention between two services.", params=(*COMMON, "source", "destination"), reply=bool)
async def exact_delete(call: Call) -> Reply:
    found = await _exact(call)
    if found is not None:
        await _apply(call, "delete", Intention(id=found.id))
    return call.boolean(True)


async def _exact(call: Call) -> Intention | None:
    """The intention between just the source and the destination that the parameters name."""
    source, destination = _side(call, "source"), _side(call, "destination")
    reply: IndexedIntentions = await call.ask("Intention.List", DCSpecificRequest(**call.scope()))
    for intention in reply.intentions:
        sides = (intention.source_ns, intention.source_name), (intention.destination_ns, intention.destination_name)
        if sides == ((source.namespace, source.name), (destination.namespace, destination.name)):
            return intention
    return None


@describes("Tells whether the bearer of a certificate may connect.", params=COMMON, body=Authorization, reply=Verdict)
async def authorize(call: Call) -> Reply:
    """May the bearer of a certificate connect to a local service? Asked at every connection, so the cache answers."""
    body = await call.decode(_authorization, "Bad request: Request decode failed: ")
    if not body.target:
        raise bad_request("Target service must be specified")
    source = service_of_uri(body.client_cert_uri)
    if source is None:
        raise bad_request("ClientCertURI not a valid Connect identifier")
    question = IntentionQueryMatch(type="destination", entries=[IntentionMatchEntry(_NAMESPACE, body.target)])
    cached = await call.api.cache.refreshed("Intention.Match", IntentionQueryRequest(match=question, **call.scope()))
    reply: IndexedIntentionMatches = cached.reply
    answer = _verdict(source, reply.matches[0] if reply.matches else [])
    return call.json(answer, extra=cached.headers())


def _verdict(source: IntentionMatchEntry, matches: list[Intention]) -> Verdict:
    for intention in matches:
        if intention.source_ns in (source.namespace, _WILDCARD) and intention.source_name in (source.name, _WILDCARD):
            return Verdict(authorized=intention.action == "allow", reason=f"Matched intention: {describe(intention)}")
    return Verdict(authorized=True, reason="ACLs disabled, access is allowed by default")


def describe(intention: Intention) -> str:
    source = f"{intention.source_ns or _NAMESPACE}/{intention.source_name}"
    destination = f"{intention.destination_ns or _NAMESPACE}/{intention.destination_name}"
    return f"{intention.action.upper()} {source} => {destination} (ID: {intention.id}, Precedence: {intention.precedence})"


def service_of_uri(uri: str) -> IntentionMatchEntry | None:
    """The service that a SPIFFE id names: `spiffe://<trust-domain>/ns/<ns>/dc/<dc>/svc/<service>`."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    path = parts.path.split("/")
    if parts.scheme != "spiffe" or len(path) != 7 or (path[1], path[3], path[5]) != ("ns", "dc", "svc"):
        return None
    return IntentionMatchEntry(unquote(path[2]), unquote(path[6]))

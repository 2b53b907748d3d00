"""`/v1/session/`: leases on locks."""

from typing import Final

import msgspec

from discovery.model.duration import Duration
from discovery.model.errors import InvalidRequest, NotFound
from discovery.model.naming import always, nothing
from discovery.model.records import SERF_CHECK_ID, Record, ServiceCheckRef, Session
from discovery.model.requests import (
    DCSpecificRequest,
    IndexedSessions,
    NodeSpecificRequest,
    QueryOptions,
    SessionRequest,
    SessionSpecificRequest,
)

from .call import Call
from .decoding import DecodeError, Decoder, Rules, duration
from .encoding import Reply
from .operation import COMMON, READ, describes

_DEFAULT_LOCK_DELAY: Final = Duration.from_seconds(15)
_SECONDS_BELOW: Final = 1000
"""A `LockDelay` of fewer nanoseconds than this is taken for seconds."""


class SessionBody(Record, frozen=True, kw_only=True):
    """`session/create` as clients send it. Given but empty `checks` mean no checks at all, unlike absent ones."""

    name: str = always(str)
    node: str | None = None
    lock_delay: object = None
    behavior: str = always(str)
    ttl: str = always(str)
    node_checks: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    service_checks: list[ServiceCheckRef] | None = always(nothing)
    checks: list[str] | msgspec.UnsetType | None = msgspec.UNSET


_body: Final = Decoder(SessionBody, {SessionBody: Rules(ignore_unknown=True), ServiceCheckRef: Rules(ignore_unknown=True)})


@describes("Makes a session.", params=COMMON, body=SessionBody, reply=dict[str, str])
async def create(call: Call) -> Reply:
    body = await _decoded(call)
    session = Session(
        name=body.name,
        node=call.api.agent.node_name if body.node is None else body.node,
        lock_delay=_lock_delay(body.lock_delay),
        behavior=body.behavior or "release",
        ttl=body.ttl,
        node_checks=_node_checks(body),
        service_checks=body.service_checks,
        checks=_old_checks(body),
    )
    session_id = await call.ask("Session.Apply", SessionRequest(op="create", session=session, **call.scope()))
    return call.json({"ID": session_id})


async def _decoded(call: Call) -> SessionBody:
    data = await call.body()
    try:
        return _body.decode(data) if data.strip() else _body.convert(None)
    except DecodeError as error:
        raise InvalidRequest(f"Request decode failed: {error}") from None


def _lock_delay(value: object) -> int:
    """Nanoseconds. What is neither text nor a number counts as zero, as in Consul."""
    if value is None:
        return int(_DEFAULT_LOCK_DELAY)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return 0
    try:
        delay = int(duration(value, "LockDelay"))
    except DecodeError as error:
        raise InvalidRequest(f"Request decode failed: {error}") from None
    return delay * 10**9 if delay < _SECONDS_BELOW else delay


def _old_checks(body: SessionBody) -> list[str] | None:
    checks = body.checks
    if body.node_checks is not msgspec.UNSET or not isinstance(checks, list) or checks == [SERF_CHECK_ID]:
        return None
    return checks or None


def _node_checks(body: SessionBody) -> list[str] | None:
    """The node's own health counts unless the caller names other checks, or none."""
    if not isinstance(body.node_checks, msgspec.UnsetType):
        return body.node_checks
    if body.checks is msgspec.UNSET or body.checks:
        return [SERF_CHECK_ID]
    return []


@describes("Ends a session.", rest="{session}", params=COMMON, reply=bool)
async def destroy(call: Call) -> Reply:
    session = Session(id=call.need("Missing session"))
    await call.ask("Session.Apply", SessionRequest(op="destroy", session=session, **call.scope()))
    return call.boolean(True)


@describes("Keeps a session alive.", rest="{session}", params=COMMON, reply=list[Session])
async def renew(call: Call) -> Reply:
    session_id = call.need("Missing session")
    request = SessionSpecificRequest(session_id=session_id, session=session_id, **call.scope())
    reply: IndexedSessions = await call.ask("Session.Renew", request)
    if not reply.sessions:
        raise NotFound(f"Session id '{session_id}' not found")
    return call.json(reply.sessions)


@describes("Reads a session.", rest="{session}", params=READ, reply=list[Session])
async def info(call: Call) -> Reply:
    session_id = call.need("Missing session")
    return await _sessions(call, "Session.Get", SessionSpecificRequest(session_id=session_id, session=session_id, **call.read()))


@describes("Lists the sessions of a node.", rest="{node}", params=READ, reply=list[Session])
async def node(call: Call) -> Reply:
    return await _sessions(call, "Session.NodeSessions", NodeSpecificRequest(node=call.need("Missing node name"), **call.read()))


@describes("Lists all sessions.", params=READ, reply=list[Session])
async def list_all(call: Call) -> Reply:
    return await _sessions(call, "Session.List", DCSpecificRequest(source=call.source(), **call.read()))


async def _sessions(call: Call, method: str, request: QueryOptions) -> Reply:
    reply: IndexedSessions
    reply, terms = await call.ask_read(method, request)
    return call.read_reply(reply.sessions or [], reply, terms=terms)

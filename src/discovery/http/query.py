"""`/v1/query`: prepared queries."""

from typing import Any, Final

import msgspec

from discovery.model.errors import InvalidRequest
from discovery.model.naming import always
from discovery.model.records import PreparedQuery, QueryDNS, Record
from discovery.model.requests import (
    DCSpecificRequest,
    IndexedPreparedQueries,
    PreparedQueryExecuteRequest,
    PreparedQueryExecuteResponse,
    PreparedQueryExplainResponse,
    PreparedQueryRequest,
    PreparedQuerySpecificRequest,
    QuerySource,
)

from .call import DONE, Call
from .decoding import DecodeError, Decoder
from .encoding import JSON, Reply
from .freshness import meta_headers
from .nulls import BareInstance, bare_instance
from .operation import COMMON, CONSISTENCY, READ, describes
from .params import parse_bool


class Executed(Record, frozen=True, kw_only=True):
    """The answer of `execute`, in Consul's order. The index is that of the query, which has none."""

    service: str
    nodes: list[BareInstance]
    dns: QueryDNS
    datacenter: str
    failovers: int
    index: int = always(int)
    last_contact: int
    known_leader: bool
    consistency_level: str


class Explained(Record, frozen=True, kw_only=True):
    query: PreparedQuery
    index: int = always(int)
    last_contact: int
    known_leader: bool
    consistency_level: str


_body: Final = Decoder(PreparedQuery)


@describes("Lists prepared queries.", params=READ, reply=list[PreparedQuery])
async def list_all(call: Call) -> Reply:
    reply: IndexedPreparedQueries
    reply, terms = await call.ask_read("PreparedQuery.List", DCSpecificRequest(**call.read()))
    return call.read_reply(reply.queries or [], reply, consistency=True, terms=terms)


@describes("Makes a prepared query.", params=COMMON, body=PreparedQuery, reply=dict[str, str])
async def create(call: Call) -> Reply:
    query_id = await _change(call, "create", await call.decode(_body))
    return call.json({"ID": query_id})


@describes("Reads a prepared query.", rest="{query}", params=READ, reply=list[PreparedQuery])
async def get(call: Call) -> Reply:
    request = PreparedQuerySpecificRequest(query_id=call.rest, **call.read())
    reply: IndexedPreparedQueries = await call.ask("PreparedQuery.Get", request)
    return call.read_reply(reply.queries, reply, consistency=True)


@describes("Changes a prepared query.", rest="{query}", params=COMMON, body=PreparedQuery)
async def update(call: Call) -> Reply:
    query = msgspec.structs.replace(await _optional_body(call), id=call.rest)
    await _change(call, "update", query)
    return DONE


@describes("Removes a prepared query.", rest="{query}", params=COMMON)
async def delete(call: Call) -> Reply:
    await _change(call, "delete", PreparedQuery(id=call.rest))
    return DONE


async def options(_call: Call) -> Reply:
    return Reply(200, b"{}", JSON, b"Allow: OPTIONS,GET,PUT,DELETE\r\n")


async def options_of_reads(_call: Call) -> Reply:
    return Reply(200, b"{}", JSON, b"Allow: OPTIONS,GET\r\n")


async def _optional_body(call: Call) -> PreparedQuery:
    """The body's query; no body stands for an empty one, unlike where a query is made."""
    try:
        data = await call.body()
        return _body.decode(data) if data else PreparedQuery()
    except DecodeError as error:
        raise InvalidRequest(f"Request decode failed: {error}") from None


async def _change(call: Call, operation: str, query: PreparedQuery) -> Any:
    return await call.ask("PreparedQuery.Apply", PreparedQueryRequest(op=operation, query=query, **call.scope()))


def _question(call: Call, name: str) -> PreparedQueryExecuteRequest:
    agent = call.api.agent
    return PreparedQueryExecuteRequest(
        query_id_or_name=name,
        limit=_limit(call),
        connect=_connect(call),
        source=QuerySource(datacenter=agent.datacenter, node=call.near, ip=call.client_address),
        agent=QuerySource(datacenter=agent.datacenter, node=agent.node_name),
        **call.read(),
    )


def _connect(call: Call) -> bool:
    text = call.params.get("connect")
    try:
        return bool(text) and parse_bool(text)
    except ValueError as error:
        raise InvalidRequest(f"Error parsing 'connect' value: {error}", status=500) from None


def _limit(call: Call) -> int:
    text = call.params.get("limit")
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InvalidRequest(f'Bad limit: strconv.Atoi: parsing "{text}": invalid syntax', status=500)
    return int(text)


@describes(
    "Runs a prepared query, by id or name.",
    rest="{query}/execute",
    params=(*COMMON, *CONSISTENCY, "limit", "near", "connect", "cached"),
    reply=Executed,
)
async def execute(call: Call) -> Reply:
    request = _question(call, call.need("Missing query ID or name"))
    if request.use_cache:
        cached = await call.api.cache.simple("PreparedQuery.Execute", request)
        reply, extra = cached.reply, cached.headers()
    else:
        reply, extra = await call.ask("PreparedQuery.Execute", request), b""
    return _executed(call, reply, extra)


def _executed(call: Call, reply: PreparedQueryExecuteResponse, extra: bytes) -> Reply:
    nodes = [bare_instance(item) for item in reply.nodes or ()]
    answer = Executed(
        service=reply.service,
        nodes=nodes,
        dns=reply.dns,
        datacenter=reply.datacenter,
        failovers=reply.failovers,
        last_contact=reply.last_contact,
        known_leader=reply.known_leader,
        consistency_level=reply.consistency_level,
    )
    return call.json(answer, extra=meta_headers(reply, consistency=True) + extra)


@describes(
    "Reads what a prepared query means for a name.",
    rest="{query}/explain",
    params=(*COMMON, *CONSISTENCY),
    reply=Explained,
)
async def explain(call: Call) -> Reply:
    reply: PreparedQueryExplainResponse = await call.ask("PreparedQuery.Explain", _question(call, call.rest))
    answer = Explained(
        query=reply.query,
        last_contact=reply.last_contact,
        known_leader=reply.known_leader,
        consistency_level=reply.consistency_level,
    )
    return call.json(answer, extra=meta_headers(reply, consistency=True))

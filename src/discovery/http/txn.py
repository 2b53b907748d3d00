"""`/v1/txn`: several operations, all or nothing."""

from typing import Final

from discovery.model.errors import InvalidRequest, TooLarge
from discovery.model.naming import always, nothing
from discovery.model.records import CheckDefinition, DirEntry, HealthCheck, Node, NodeService, Record
from discovery.model.requests import (
    TxnCheckOp,
    TxnError,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnReadRequest,
    TxnReadResponse,
    TxnRequest,
    TxnResponse,
    TxnResult,
    TxnServiceOp,
)

from .call import Call
from .decoding import DecodeError, Decoder, Rules, parse_json
from .encoding import Reply
from .nulls import bare_check, bare_service
from .operation import COMMON, CONSISTENCY, describes

MAX_OPERATIONS: Final = 64
_KV_WRITES: Final = frozenset({"set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"})
_PREFIX: Final = "Failed to parse body: "
_TOO_LARGE: Final = (
    "Request body({size} bytes) too large, max size: {limit} bytes. "
    "See https://www.consul.io/docs/agent/options.html#txn_max_req_len."
)


class KVOperation(Record, frozen=True, kw_only=True):
    verb: str = always(str)
    key: str = always(str)
    value: bytes | None = always(nothing)
    flags: int = always(int)
    index: int = always(int)
    session: str = always(str)
    namespace: str = always(str)


class NodeOperation(Record, frozen=True, kw_only=True):
    verb: str = always(str)
    node: Node = always(Node)


class ServiceOperation(Record, frozen=True, kw_only=True):
    verb: str = always(str)
    node: str = always(str)
    service: NodeService = always(NodeService)


class CheckOperation(Record, frozen=True, kw_only=True):
    verb: str = always(str)
    check: HealthCheck = always(HealthCheck)


class Operation(Record, frozen=True, kw_only=True):
    """The first that is given counts."""

    kv: KVOperation | None = always(nothing)
    node: NodeOperation | None = always(nothing)
    service: ServiceOperation | None = always(nothing)
    check: CheckOperation | None = always(nothing)


class ReadAnswer(Record, frozen=True, kw_only=True):
    """The answer to a transaction that only reads, in Consul's order."""

    results: list[TxnResult] | None
    errors: list[TxnError] | None
    index: int = always(int)
    last_contact: int
    known_leader: bool
    consistency_level: str = always(str)


_operation: Final = Decoder(Operation, {CheckDefinition: Rules(ignore_unknown=True)})


@describes("Does several operations together, or none.", params=(*COMMON, *CONSISTENCY), body=list[Operation], reply=ReadAnswer)
async def apply(call: Call) -> Reply:
    options = call.api.options
    limit = max(options.txn_max_request_size, options.kv_max_value_size)
    given = _decode(await call.body(limit, _TOO_LARGE))
    if len(given) > MAX_OPERATIONS:
        raise TooLarge(f"Transaction contains too many operations ({len(given)} > {MAX_OPERATIONS})")
    operations = [converted for one in given if (converted := _convert(one, options.kv_max_value_size)) is not None]
    if any(_writes(operation) for operation in operations):
        reply: TxnResponse = await call.ask("Txn.Apply", TxnRequest(ops=operations, **call.scope()))
        answer = TxnResponse(results=_results(reply), errors=reply.errors or None)
        return call.json(answer, status=409 if reply.errors else 200)
    return await _read(call, operations)


async def _read(call: Call, operations: list[TxnOp]) -> Reply:
    reply: TxnReadResponse = await call.ask("Txn.Read", TxnReadRequest(ops=operations, **call.read()))
    answer = ReadAnswer(
        results=_results(reply),
        errors=reply.errors or None,
        last_contact=reply.last_contact,
        known_leader=reply.known_leader,
    )
    known = b"true" if reply.known_leader else b"false"
    extra = b"X-Consul-Knownleader: %s\r\nX-Consul-Lastcontact: %d\r\n" % (known, reply.last_contact // 10**6)
    return call.json(answer, status=409 if reply.errors else 200, extra=extra)


def _results(reply: TxnResponse | TxnReadResponse) -> list[TxnResult] | None:
    return None if reply.errors else [_bare(result) for result in reply.results or ()]


def _bare(result: TxnResult) -> TxnResult:
    if result.service is not None:
        return TxnResult(service=bare_service(result.service))
    if result.check is not None:
        return TxnResult(check=bare_check(result.check))
    return result


def _decode(body: bytes) -> list[Operation]:
    try:
        value = parse_json(body)
        if value is None:
            return []
        if type(value) is not list:
            kind = {dict: "object", str: "string", bool: "bool"}.get(type(value), "number")
            raise DecodeError(f"json: cannot unmarshal {kind} into Go value of type api.TxnOps")
        return [_operation.convert(one) for one in value]
    except DecodeError as error:
        raise InvalidRequest(f"{_PREFIX}{error}") from None


def _convert(one: Operation, max_value: int) -> TxnOp | None:
    if one.kv is not None:
        return _kv(one.kv, max_value)
    if one.node is not None:
        return TxnOp(node=TxnNodeOp(verb=one.node.verb, node=one.node.node))
    if one.service is not None:
        return TxnOp(service=TxnServiceOp(verb=one.service.verb, node=one.service.node, service=one.service.service))
    if one.check is not None:
        return TxnOp(check=TxnCheckOp(verb=one.check.verb, check=one.check.check))
    return None


def _kv(given: KVOperation, max_value: int) -> TxnOp:
    if given.value is not None and len(given.value) > max_value:
        raise TooLarge(f'Value for key "{given.key}" is too large ({len(given.value)} > {max_value} bytes)')
    entry = DirEntry(key=given.key, value=given.value or None, flags=given.flags, session=given.session, modify_index=given.index)
    return TxnOp(kv=TxnKVOp(verb=given.verb, dir_ent=entry))


def _writes(operation: TxnOp) -> bool:
    """An unknown KV verb counts as a read, any other unknown verb as a write; a server refuses both."""
    if operation.kv is not None:
        return operation.kv.verb in _KV_WRITES
    other = operation.node or operation.service or operation.check
    return other is not None and other.verb != "get"

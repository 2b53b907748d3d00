"""`/v1/kv/`: the key-value store."""

from typing import Any, Final

from discovery.model.errors import InvalidRequest, RequestFailed, TooLarge
from discovery.model.records import DirEntry
from discovery.model.requests import IndexedDirEntries, IndexedKeyList, KeyListRequest, KeyRequest, KVSRequest

from .call import Api, Call, read_answer
from .encoding import NO_TYPE, Reply
from .operation import COMMON, READ, describes
from .params import parse_uint

_RAW_TYPE: Final = b"Content-Type: text/plain\r\n"
_RAW_HEADERS: Final = b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"
_TOO_LARGE: Final = (
    "Request body({size} bytes) too large, max size: {limit} bytes. "
    "See https://www.consul.io/docs/agent/options.html#kv_max_value_size."
)
_MISSING_KEY: Final = "Missing key name"
_UNCONDITIONAL: Final = frozenset({"set", "delete", "delete-tree"})
_CONDITIONS: Final = {"cas": "cas", "acquire": "lock", "release": "unlock"}


@describes(
    "Reads a key, or all below it.", rest="{key}", params=(*READ, "recurse", "keys", "separator", "raw"), reply=list[DirEntry]
)
async def get(call: Call) -> Reply:
    if "keys" in call.params:
        return await _keys(call)
    request = KeyRequest(key=call.rest, **call.read())
    tree = "recurse" in call.params
    if not tree and not call.rest:
        raise InvalidRequest(_MISSING_KEY)
    reply: IndexedDirEntries
    reply, terms = await call.ask_read("KVS.List" if tree else "KVS.Get", request)
    if not reply.entries:
        return read_answer(b"", NO_TYPE, reply, status=404, terms=terms)
    if "raw" in call.params and not tree:
        return read_answer(reply.entries[0].value or b"", _RAW_TYPE, reply, extra=_RAW_HEADERS, terms=terms)
    return await call.list_reply(reply.entries, reply, terms=terms)


async def _keys(call: Call) -> Reply:
    separator = call.params.get("separator") or call.params.get("seperator")
    request = KeyListRequest(prefix=call.rest, seperator=separator, **call.read())
    reply: IndexedKeyList
    reply, terms = await call.ask_read("KVS.ListKeys", request)
    if not reply.keys and call.rest:
        return read_answer(b"", NO_TYPE, reply, status=404, terms=terms)
    return await call.list_reply(reply.keys or [], reply, terms=terms)


@describes(
    "Writes a key, if the condition holds.",
    rest="{key}",
    params=(*COMMON, "flags", "cas", "acquire", "release"),
    body=bytes,
    reply=bool,
)
async def put(call: Call) -> Reply:
    key = call.need(_MISSING_KEY)
    operation, fields = _condition(call) if call.params else ("set", {})
    body = await call.body(call.api.options.kv_max_value_size, _TOO_LARGE)
    entry = DirEntry(key=key, value=body or None, **fields)
    request = KVSRequest(datacenter=call.datacenter, token=call.token, op=operation, dir_ent=entry)
    return await _apply(call, request)


async def set_plainly(api: Api, key: str, body: bytes) -> Reply:
    """A PUT without parameters; raises `DiscoveryError`."""
    limit = api.options.kv_max_value_size
    if len(body) > limit:
        raise TooLarge(_TOO_LARGE.format(size=len(body), limit=limit))
    entry = DirEntry(key=key, value=body or None)
    request = KVSRequest(datacenter=api.agent.datacenter, token=api.options.default_token, op="set", dir_ent=entry)
    await api.delegate.call("KVS.Apply", request)
    return api.true


async def _apply(call: Call, request: KVSRequest) -> Reply:
    """Servers say whether a condition was met; of what has none, a Consul server answers false."""
    met = await call.ask("KVS.Apply", request)
    return call.boolean(met or request.op in _UNCONDITIONAL)


def _condition(call: Call) -> tuple[str, dict[str, Any]]:
    """The operation and the entry's fields that the parameters of a PUT stand for."""
    params = call.params
    given = [name for name in _CONDITIONS if name in params]
    if len(given) > 1:
        raise InvalidRequest(f"Conflicting flags: {params.encoded()}")
    fields: dict[str, Any] = {}
    if "flags" in params:
        fields["flags"] = parse_uint(params.get("flags"))
    if not given:
        return "set", fields
    value = params.get(given[0])
    if given[0] == "cas":
        fields["modify_index"] = parse_uint(value)
    elif not value:
        raise RequestFailed("missing session")
    else:
        fields["session"] = value
    return _CONDITIONS[given[0]], fields


@describes("Removes a key, or all below it.", rest="{key}", params=(*COMMON, "recurse", "cas"), reply=bool)
async def delete(call: Call) -> Reply:
    params = call.params
    tree = "recurse" in params
    if tree and "cas" in params:
        raise InvalidRequest(f"Conflicting flags: {params.encoded()}")
    if not tree and not call.rest:
        raise InvalidRequest(_MISSING_KEY)
    entry = DirEntry(key=call.rest)
    operation = "delete-tree" if tree else "delete"
    if "cas" in params:
        operation = "delete-cas"
        entry = DirEntry(key=call.rest, modify_index=parse_uint(params.get("cas")))
    return await _apply(call, KVSRequest(op=operation, dir_ent=entry, **call.scope()))

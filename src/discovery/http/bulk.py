"""`PUT /v1/catalog/register/bulk`: thousands of registrations at once, all or none. Ours, not Consul's."""

import asyncio
from typing import Final

from msgspec.structs import replace

from discovery.model.errors import InvalidRequest
from discovery.model.naming import always
from discovery.model.records import CheckDefinition, Record
from discovery.model.requests import RegisterManyRequest, RegisterManyResponse, RegisterRequest, TxnError

from .call import Call
from .decoding import PROXY_RULES, DecodeError, Decoder, Rules, parse_json
from .encoding import Reply
from .operation import COMMON, describes

MAX_BODY: Final = 64 * 1024 * 1024
_AT_A_TIME: Final = 256
_registration: Final = Decoder(RegisterRequest, {CheckDefinition: Rules(ignore_unknown=True), **PROXY_RULES})


class BulkAnswer(Record, frozen=True, kw_only=True):
    """`Registered` counts all that stand in the catalog now, `Changed` those that were new or different."""

    registered: int = always(int)
    changed: int = always(int)
    errors: list[TxnError] | None = always(lambda: None)


@describes("Registers many things at once, all or none.", params=COMMON, body=list[RegisterRequest], reply=BulkAnswer)
async def register(call: Call) -> Reply:
    registrations = await _decode(await call.body(MAX_BODY))
    given = [replace(one, datacenter=one.datacenter or call.datacenter, token="") for one in registrations]
    request = RegisterManyRequest(registrations=given, **call.scope())
    reply: RegisterManyResponse = await call.ask("Catalog.RegisterMany", request)
    if reply.errors:
        return call.json(BulkAnswer(errors=reply.errors), status=409)
    return call.json(BulkAnswer(registered=len(registrations), changed=reply.changed))


async def _decode(body: bytes) -> list[RegisterRequest]:
    """Raises `InvalidRequest` with the place of the first bad registration. Others are served meanwhile."""
    try:
        value = parse_json(body)
    except DecodeError as error:
        raise InvalidRequest(f"Request decode failed: {error}") from None
    if type(value) is not list:
        raise InvalidRequest("Request decode failed: an array of registrations is wanted")
    found = []
    for place, one in enumerate(value):
        if place % _AT_A_TIME == 0:
            await asyncio.sleep(0)
        try:
            found.append(_registration.convert(one))
        except DecodeError as error:
            raise InvalidRequest(f"Request decode failed: [{place}]: {error}") from None
    return found

"""`/v1/operator/keyring`: the keys that gossip is encrypted with, in all pools."""

from typing import Final

from discovery.model.errors import RequestFailed
from discovery.model.naming import always
from discovery.model.records import Record
from discovery.model.requests import KeyringRequest, KeyringResponse, KeyringResponses
from discovery.model.service_rules import several_errors

from .call import DONE, Call
from .decoding import Decoder
from .encoding import Reply
from .errors import bad_request
from .operation import COMMON, describes
from .params import parse_bool

_MAX_RELAYS: Final = 5
"""How many other nodes may repeat an answer, for networks that lose much."""


class KeyBody(Record, frozen=True, kw_only=True):
    key: str = always(str)


_body: Final = Decoder(KeyBody)


@describes("Lists the keys of gossip.", params=(*COMMON, "relay-factor", "local-only"), reply=list[KeyringResponse])
async def list_keys(call: Call) -> Reply:
    local_only = False
    if text := call.params.get("local-only"):
        try:
            local_only = parse_bool(text)
        except ValueError as error:
            raise bad_request(f"Error parsing local-only: {error}") from None
    return call.json(await _operate(call, "list", local_only=local_only))


@describes("Gives a key to all members.", params=(*COMMON, "relay-factor"), body=KeyBody)
async def install(call: Call) -> Reply:
    return await _change(call, "install")


@describes("Makes a key the one that is used.", params=(*COMMON, "relay-factor"), body=KeyBody)
async def use(call: Call) -> Reply:
    return await _change(call, "use")


@describes("Takes a key from all members.", params=(*COMMON, "relay-factor"), body=KeyBody)
async def remove(call: Call) -> Reply:
    return await _change(call, "remove")


async def _change(call: Call, operation: str) -> Reply:
    body = await call.decode(_body, "Bad request: Request decode failed: ")
    if call.params.get("local-only"):
        raise bad_request("Invalid use of local-only: local-only can only be set for list requests")
    await _operate(call, operation, key=body.key)
    return DONE


async def _operate(call: Call, operation: str, *, key: str = "", local_only: bool = False) -> list[KeyringResponse]:
    request = KeyringRequest(
        operation=operation, key=key, relay_factor=_relay_factor(call), local_only=local_only, **call.scope()
    )
    reply: KeyringResponses = await call.ask("Internal.KeyringOperation", request)
    responses = reply.responses or []
    if problems := [problem for response in responses for problem in _problems(response)]:
        raise RequestFailed(several_errors(problems))
    return responses


def _relay_factor(call: Call) -> int:
    text = call.params.get("relay-factor")
    if not text:
        return 0
    if not (text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 10):
        raise bad_request(f'Error parsing relay factor: strconv.Atoi: parsing "{text}": invalid syntax')
    factor = int(text)
    if not 0 <= factor <= _MAX_RELAYS:
        raise bad_request(f"Invalid relay-factor: Relay factor must be in range: [0, {_MAX_RELAYS}]")
    return factor


def _problems(response: KeyringResponse) -> list[str]:
    if not response.error:
        return []
    pool = "WAN" if response.wan else f"{response.datacenter} (LAN)"
    return [f"{pool} error: {response.error}", *(f"{node}: {text}" for node, text in (response.messages or {}).items())]

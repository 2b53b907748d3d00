"""`/v1/discovery-chain/`: what the documents on routing, splitting and resolving make of a service."""

from typing import Final

from discovery.model.discovery_chain import Chain, ChainOverrides
from discovery.model.errors import InvalidRequest
from discovery.model.records import MeshGateway, Record
from discovery.model.requests import DiscoveryChainRequest, DiscoveryChainResponse

from .call import Call
from .decoding import DecodeError, Decoder, Rules
from .encoding import Reply
from .errors import bad_request
from .operation import READ, describes
from .reads import read_cached

_body: Final = Decoder(
    ChainOverrides,
    {
        ChainOverrides: Rules(ignore_unknown=True, snake_case=ChainOverrides.__struct_fields__),
        MeshGateway: Rules(ignore_unknown=True, snake_case=MeshGateway.__struct_fields__),
    },
)
_GATEWAY_MODES: Final = ("", "default", "none", "local", "remote")


class Answer(Record, frozen=True):
    chain: Chain | None


@describes("Reads the discovery chain of a service.", rest="{service}", params=(*READ, "cached", "compile-dc"), reply=Answer)
async def get(call: Call) -> Reply:
    _require_name(call)
    return await _compiled(call, ChainOverrides())


@describes(
    "Reads the discovery chain of a service with other wishes.",
    rest="{service}",
    params=(*READ, "cached", "compile-dc"),
    body=ChainOverrides,
    reply=Answer,
)
async def post(call: Call) -> Reply:
    _require_name(call)
    return await _compiled(call, await _overrides(call))


def _require_name(call: Call) -> None:
    if not call.rest:
        raise bad_request("Missing chain name")


async def _overrides(call: Call) -> ChainOverrides:
    try:
        overrides = _body.decode(await call.body())
    except DecodeError as error:
        raise InvalidRequest(f"Bad request: Request decoding failed: {error}") from None
    mode = overrides.override_mesh_gateway.mode
    if mode not in _GATEWAY_MODES:
        raise InvalidRequest("Invalid OverrideMeshGateway.Mode parameter")
    return overrides


async def _compiled(call: Call, overrides: ChainOverrides) -> Reply:
    request = DiscoveryChainRequest(
        name=call.rest,
        evaluate_in_datacenter=call.params.get("compile-dc"),
        override_mesh_gateway=overrides.override_mesh_gateway,
        override_protocol=overrides.override_protocol,
        override_connect_timeout=int(overrides.override_connect_timeout or 0),
        **call.read(),
    )
    answer = await read_cached(call, "DiscoveryChain.Get", request)
    reply: DiscoveryChainResponse = answer.reply
    return await answer.render(Answer(reply.chain))

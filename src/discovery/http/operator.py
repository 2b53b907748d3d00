"""`/v1/operator/`: the Raft configuration and autopilot."""

from typing import Final

import msgspec

from discovery.model.errors import RequestFailed
from discovery.model.records import AutopilotConfig
from discovery.model.requests import AutopilotSetRequest, DCSpecificRequest, OperatorHealthReply, RaftRemovePeerRequest

from .call import DONE, Call
from .decoding import Decoder
from .encoding import Reply
from .errors import bad_request
from .params import parse_uint

_autopilot_body: Final = Decoder(AutopilotConfig)


def _question(call: Call) -> DCSpecificRequest:
    return DCSpecificRequest(allow_stale="stale" in call.params, **call.scope())


async def raft_configuration(call: Call) -> Reply:
    return call.json(await call.ask("Operator.RaftGetConfiguration", _question(call)))


async def raft_remove_peer(call: Call) -> Reply:
    server_id, address = call.params.get("id"), call.params.get("address")
    if not server_id and not address:
        raise bad_request("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
    if server_id and address:
        raise bad_request("Must specify only one of ?id or ?address")
    method = "Operator.RaftRemovePeerByID" if server_id else "Operator.RaftRemovePeerByAddress"
    await call.ask(method, RaftRemovePeerRequest(id=server_id, address=address, **call.scope()))
    return DONE


async def autopilot_configuration(call: Call) -> Reply:
    return call.json(await call.ask("Operator.AutopilotGetConfiguration", _question(call)))


async def set_autopilot_configuration(call: Call) -> Reply:
    config = await call.decode(_autopilot_body, "Bad request: Error parsing autopilot config: ")
    cas = "cas" in call.params and call.params.get("cas") != ""
    if cas:
        try:
            index = parse_uint(call.params.get("cas"))
        except RequestFailed as error:
            raise bad_request(f"Error parsing cas value: {error.text}") from None
        config = msgspec.structs.replace(config, modify_index=index)
    request = AutopilotSetRequest(config=config, cas=cas, **call.scope())
    return call.boolean(await call.ask("Operator.AutopilotSetConfiguration", request))


async def autopilot_health(call: Call) -> Reply:
    reply: OperatorHealthReply = await call.ask("Operator.ServerHealth", _question(call))
    return call.json(reply, status=200 if reply.healthy else 429)

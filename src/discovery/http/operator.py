"""`/v1/operator/`: the Raft configuration, autopilot, and what the catalog holds."""

from collections import Counter
from typing import Final

import msgspec

from discovery.model.errors import RequestFailed
from discovery.model.naming import always
from discovery.model.records import CONSUL_SERVICE, AutopilotConfig, NodeService, Record
from discovery.model.requests import (
    AutopilotSetRequest,
    AutopilotState,
    DCSpecificRequest,
    IndexedCheckServiceNodes,
    IndexedNodes,
    OperatorHealthReply,
    RaftConfigurationResponse,
    RaftRemovePeerRequest,
    ServiceDumpRequest,
    TransferLeaderRequest,
    TransferLeaderResponse,
)
from discovery.model.service_rules import CONNECT_PROXY, GATEWAYS

from .call import DONE, Call
from .decoding import Decoder
from .encoding import Reply
from .errors import bad_request
from .operation import COMMON, CONSISTENCY, READ, describes
from .params import parse_uint

_autopilot_body: Final = Decoder(AutopilotConfig)


def _question(call: Call) -> DCSpecificRequest:
    return DCSpecificRequest(**call.read())


@describes("Reads the Raft configuration.", params=(*COMMON, *CONSISTENCY), reply=RaftConfigurationResponse)
async def raft_configuration(call: Call) -> Reply:
    return call.json(await call.ask("Operator.RaftGetConfiguration", _question(call)))


@describes("Removes a server from the Raft configuration.", params=(*COMMON, "id", "address"))
async def raft_remove_peer(call: Call) -> Reply:
    by_id, by_address = "id" in call.params, "address" in call.params
    if not by_id and not by_address:
        raise bad_request("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
    if by_id and by_address:
        raise bad_request("Must specify only one of ?id or ?address")
    method = "Operator.RaftRemovePeerByID" if by_id else "Operator.RaftRemovePeerByAddress"
    request = RaftRemovePeerRequest(id=call.params.get("id"), address=call.params.get("address"), **call.scope())
    await call.ask(method, request)
    return DONE


@describes("Hands leadership over.", params=(*COMMON, "id"), reply=TransferLeaderResponse)
async def transfer_leader(call: Call) -> Reply:
    request = TransferLeaderRequest(id=call.params.get("id"), **call.scope())
    return call.json(await call.ask("Operator.TransferLeader", request))


@describes("Reads autopilot's settings.", params=(*COMMON, *CONSISTENCY), reply=AutopilotConfig)
async def autopilot_configuration(call: Call) -> Reply:
    return call.json(await call.ask("Operator.AutopilotGetConfiguration", _question(call)))


@describes("Changes autopilot's settings.", params=(*COMMON, "cas"), body=AutopilotConfig, reply=bool)
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


@describes("Reads what autopilot thinks of the servers.", params=(*COMMON, *CONSISTENCY), reply=AutopilotState)
async def autopilot_state(call: Call) -> Reply:
    return call.json(await call.ask("Operator.AutopilotState", _question(call)))


class ServiceUsage(Record, frozen=True, kw_only=True):
    """How much a datacenter's catalog holds; connect instances by kind."""

    nodes: int
    services: int
    service_instances: int
    connect_service_instances: dict[str, int]
    billable_service_instances: int


class Usage(Record, frozen=True, kw_only=True):
    usage: dict[str, ServiceUsage]
    index: int
    last_contact: int
    known_leader: bool
    consistency_level: str
    not_modified: bool = always(bool)
    backend: int = always(int)
    results_filtered_by_acls: bool = msgspec.field(name="ResultsFilteredByACLs", default_factory=bool)


@describes("Counts what the catalog holds.", params=READ, reply=Usage)
async def usage(call: Call) -> Reply:
    instances: IndexedCheckServiceNodes = await call.ask("Internal.ServiceDump", ServiceDumpRequest(**call.read()))
    nodes: IndexedNodes = await call.ask("Catalog.ListNodes", DCSpecificRequest(**call.scope()))
    answer = Usage(
        usage={call.datacenter: _usage([instance.service for instance in instances.nodes], len(nodes.nodes))},
        index=instances.index,
        last_contact=instances.last_contact // 10**6,
        known_leader=instances.known_leader,
        consistency_level=instances.consistency_level,
    )
    return call.read_reply(answer, instances)


def _usage(services: list[NodeService], nodes: int) -> ServiceUsage:
    kinds = Counter(service.kind for service in services)
    connect = {kind: kinds[kind] for kind in (CONNECT_PROXY, *GATEWAYS)}
    connect["connect-native"] = sum(service.connect.native for service in services)
    return ServiceUsage(
        nodes=nodes,
        services=len({service.service.lower() for service in services}),
        service_instances=len(services),
        connect_service_instances=connect,
        billable_service_instances=sum(not service.kind and service.service != CONSUL_SERVICE for service in services),
    )


@describes("Reads the health of the servers.", params=(*COMMON, *CONSISTENCY), reply=OperatorHealthReply)
async def autopilot_health(call: Call) -> Reply:
    reply: OperatorHealthReply = await call.ask("Operator.ServerHealth", _question(call))
    return call.json(reply, status=200 if reply.healthy else 429)

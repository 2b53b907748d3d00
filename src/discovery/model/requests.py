"""What agents ask servers, with the method and field names of Consul's RPC.

Every read carries `QueryOptions`, every read's answer `QueryMeta`; every request names its datacenter. Durations are
integer nanoseconds here. Source: Consul's RPC structs as observed from 1.8.7.
"""

from typing import Any

from .discovery_chain import Chain
from .naming import always, new_dict, new_list, nothing
from .records import (
    AutopilotConfig,
    CheckServiceNode,
    Coordinate,
    DirEntry,
    HealthCheck,
    Intention,
    MeshGateway,
    Node,
    NodeCoordinate,
    NodeService,
    PreparedQuery,
    QueryDNS,
    RaftServer,
    Record,
    ServiceNode,
    Session,
)


class QuerySource(Record, frozen=True, kw_only=True):
    """Where a question comes from, for sorting by distance."""

    datacenter: str = always(str)
    segment: str = always(str)
    node: str = always(str)
    ip: str = always(str)


class Request(Record, frozen=True, kw_only=True):
    """Base of what servers are asked; `token` is the ACL token of the caller."""

    datacenter: str = always(str)
    token: str = always(str)


class QueryOptions(Request, frozen=True, kw_only=True):
    """How a read is to be answered: consistency, blocking, filter."""

    min_query_index: int = always(int)
    max_query_time: int = always(int)
    allow_stale: bool = always(bool)
    require_consistent: bool = always(bool)
    use_cache: bool = always(bool)
    max_stale_duration: int = always(int)
    max_age: int = always(int)
    must_revalidate: bool = always(bool)
    stale_if_error: int = always(int)
    filter: str = always(str)


class QueryMeta(Record, frozen=True, kw_only=True):
    """How a read was answered; `last_contact` is nanoseconds since the answering server heard from the leader."""

    index: int = always(int)
    last_contact: int = always(int)
    known_leader: bool = always(bool)
    consistency_level: str = always(str)


class Empty(Record, frozen=True, kw_only=True):
    """A request or reply without fields."""


class TxnError(Record, frozen=True):
    op_index: int = always(int)
    what: str = always(str)


# --- catalog -------------------------------------------------------------------------------------------------------


class RegisterRequest(Request, frozen=True, kw_only=True):
    id: str = always(str)
    node: str = always(str)
    address: str = always(str)
    tagged_addresses: dict[str, str] | None = always(nothing)
    node_meta: dict[str, str] | None = always(nothing)
    service: NodeService | None = always(nothing)
    check: HealthCheck | None = always(nothing)
    checks: list[HealthCheck] | None = always(nothing)
    skip_node_update: bool = always(bool)


class DeregisterRequest(Request, frozen=True, kw_only=True):
    node: str = always(str)
    service_id: str = always(str)
    check_id: str = always(str)


class SourcedQuery(QueryOptions, frozen=True, kw_only=True):
    source: QuerySource = always(QuerySource)
    node_meta_filters: dict[str, str] | None = always(nothing)


class DCSpecificRequest(SourcedQuery, frozen=True, kw_only=True):
    """A question about a whole datacenter."""


class ServiceSpecificRequest(SourcedQuery, frozen=True, kw_only=True):
    service_name: str = always(str)
    service_tag: str = always(str)
    service_tags: list[str] | None = always(nothing)
    service_address: str = always(str)
    tag_filter: bool = always(bool)
    connect: bool = always(bool)
    ingress: bool = always(bool)


class NodeSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    node: str = always(str)


class ChecksInStateRequest(SourcedQuery, frozen=True, kw_only=True):
    state: str = always(str)


class ServiceDumpRequest(QueryOptions, frozen=True, kw_only=True):
    service_kind: str = always(str)
    use_service_kind: bool = always(bool)


class NodeServices(Record, frozen=True):
    node: Node | None = always(nothing)
    services: dict[str, NodeService] | None = always(nothing)


class NodeServiceList(Record, frozen=True):
    node: Node | None = always(nothing)
    services: list[NodeService] | None = always(nothing)


class NodeInfo(Record, frozen=True):
    """A node with everything on it, as the UI asks for it."""

    id: str = always(str)
    node: str = always(str)
    address: str = always(str)
    tagged_addresses: dict[str, str] | None = always(nothing)
    meta: dict[str, str] | None = always(nothing)
    services: list[NodeService] | None = always(nothing)
    checks: list[HealthCheck] | None = always(nothing)


class RegisterManyRequest(Request, frozen=True, kw_only=True):
    """Registrations that happen together or not at all. Not a method of Consul's."""

    registrations: list[RegisterRequest] = always(new_list)


class RegisterManyResponse(Record, frozen=True, kw_only=True):
    """`changed` counts the registrations that were new or different; with errors nothing was registered."""

    changed: int = always(int)
    errors: list[TxnError] | None = always(nothing)


class ChangesRequest(QueryOptions, frozen=True, kw_only=True):
    """What changed after `min_query_index`; of these `kinds` (all for none). Not a method of Consul's.

    Without an index the answer is where to begin. Keys are wanted below `key_prefix`, services and checks of the node and
    the service that are named.
    """

    kinds: list[str] = always(new_list)
    key_prefix: str = always(str)
    node: str = always(str)
    service: str = always(str)


class Change(Record, frozen=True, kw_only=True):
    """Something changed at `index`: a key, a node, a service or a check, with what it is now, or `deleted`."""

    index: int
    kind: str
    key: str = ""
    node_name: str = ""
    id: str = ""
    deleted: bool = False
    kv: DirEntry | None = None
    node: Node | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None


class ChangesReply(QueryMeta, frozen=True, kw_only=True):
    """`index` is where to go on. Not `complete`: the changes after the asked index are no longer all known."""

    changes: list[Change] = always(new_list)
    complete: bool = always(bool)


class IndexedNodes(QueryMeta, frozen=True, kw_only=True):
    nodes: list[Node] = always(new_list)


class IndexedServices(QueryMeta, frozen=True, kw_only=True):
    services: dict[str, list[str]] = always(dict[str, list[str]])


class IndexedServiceNodes(QueryMeta, frozen=True, kw_only=True):
    service_nodes: list[ServiceNode] = always(new_list)


class IndexedNodeServices(QueryMeta, frozen=True, kw_only=True):
    node_services: NodeServices | None = always(nothing)


class IndexedNodeServiceList(QueryMeta, frozen=True, kw_only=True):
    node_services: NodeServiceList = always(NodeServiceList)


class IndexedHealthChecks(QueryMeta, frozen=True, kw_only=True):
    health_checks: list[HealthCheck] = always(new_list)


class IndexedCheckServiceNodes(QueryMeta, frozen=True, kw_only=True):
    nodes: list[CheckServiceNode] = always(new_list)


class IndexedNodeDump(QueryMeta, frozen=True, kw_only=True):
    dump: list[NodeInfo] = always(new_list)


# --- KV ------------------------------------------------------------------------------------------------------------


class KVSRequest(Request, frozen=True, kw_only=True):
    """`op`: set, delete, delete-cas, delete-tree, cas, lock, unlock; the cas index is `dir_ent.modify_index`."""

    op: str = always(str)
    dir_ent: DirEntry = always(DirEntry)


class KeyRequest(QueryOptions, frozen=True, kw_only=True):
    key: str = always(str)


class KeyListRequest(QueryOptions, frozen=True, kw_only=True):
    prefix: str = always(str)
    seperator: str = always(str)
    """Spelt as on the wire."""


class IndexedDirEntries(QueryMeta, frozen=True, kw_only=True):
    entries: list[DirEntry] | None = always(nothing)


class IndexedKeyList(QueryMeta, frozen=True, kw_only=True):
    keys: list[str] | None = always(nothing)


# --- sessions ------------------------------------------------------------------------------------------------------


class SessionRequest(Request, frozen=True, kw_only=True):
    """`op`: create or destroy. Answers the session's id."""

    op: str = always(str)
    session: Session = always(Session)


class SessionSpecificRequest(QueryOptions, frozen=True, kw_only=True):
    session_id: str = always(str)
    session: str = always(str)


class IndexedSessions(QueryMeta, frozen=True, kw_only=True):
    sessions: list[Session] = always(new_list)


# --- transactions --------------------------------------------------------------------------------------------------


class TxnKVOp(Record, frozen=True):
    verb: str = always(str)
    dir_ent: DirEntry = always(DirEntry)


class TxnNodeOp(Record, frozen=True):
    verb: str = always(str)
    node: Node = always(Node)


class TxnServiceOp(Record, frozen=True):
    verb: str = always(str)
    node: str = always(str)
    service: NodeService = always(NodeService)


class TxnCheckOp(Record, frozen=True):
    verb: str = always(str)
    check: HealthCheck = always(HealthCheck)


class TxnOp(Record, frozen=True):
    """Exactly one of these is set."""

    kv: TxnKVOp | None = always(nothing)
    node: TxnNodeOp | None = always(nothing)
    service: TxnServiceOp | None = always(nothing)
    check: TxnCheckOp | None = always(nothing)


class TxnRequest(Request, frozen=True, kw_only=True):
    ops: list[TxnOp] = always(new_list)


class TxnReadRequest(QueryOptions, frozen=True, kw_only=True):
    ops: list[TxnOp] = always(new_list)


class TxnResult(Record, frozen=True):
    kv: DirEntry | None = None
    node: Node | None = None
    service: NodeService | None = None
    check: HealthCheck | None = None


class TxnResponse(Record, frozen=True, kw_only=True):
    results: list[TxnResult] | None = always(nothing)
    errors: list[TxnError] | None = always(nothing)


class TxnReadResponse(QueryMeta, frozen=True, kw_only=True):
    results: list[TxnResult] | None = always(nothing)
    errors: list[TxnError] | None = always(nothing)


# --- coordinates, events -------------------------------------------------------------------------------------------


class CoordinateUpdateRequest(Request, frozen=True, kw_only=True):
    node: str = always(str)
    segment: str = always(str)
    coord: Coordinate | None = always(nothing)


class DatacenterMap(Record, frozen=True):
    datacenter: str = always(str)
    area_id: str = always(str)
    coordinates: list[NodeCoordinate] = always(new_list)


class IndexedCoordinates(QueryMeta, frozen=True, kw_only=True):
    coordinates: list[NodeCoordinate] = always(new_list)


class EventFireRequest(QueryOptions, frozen=True, kw_only=True):
    name: str = always(str)
    payload: bytes | None = always(nothing)


class KeyringRequest(QueryOptions, frozen=True, kw_only=True):
    """`operation`: list, install, use, remove; `key` in base64. `forwarded`: from a server of another datacenter."""

    operation: str = always(str)
    key: str = always(str)
    forwarded: bool = always(bool)
    relay_factor: int = always(int)
    local_only: bool = always(bool)


class KeyringResponse(Record, frozen=True, kw_only=True):
    """What one pool answered: how many of its nodes hold each key, and use it as primary; complaints by node."""

    wan: bool = always(bool, name="WAN")
    datacenter: str = always(str)
    segment: str = always(str)
    messages: dict[str, str] | None = None
    keys: dict[str, int] = always(new_dict)
    primary_keys: dict[str, int] = always(new_dict)
    num_nodes: int = always(int)
    error: str = ""


class KeyringResponses(QueryMeta, frozen=True, kw_only=True):
    responses: list[KeyringResponse] | None = always(nothing)


# --- prepared queries ----------------------------------------------------------------------------------------------


class PreparedQueryRequest(Request, frozen=True, kw_only=True):
    """`op`: create, update, delete. Answers the query's id."""

    op: str = always(str)
    query: PreparedQuery | None = always(nothing)


class PreparedQuerySpecificRequest(QueryOptions, frozen=True, kw_only=True):
    query_id: str = always(str)


class PreparedQueryExecuteRequest(QueryOptions, frozen=True, kw_only=True):
    query_id_or_name: str = always(str)
    limit: int = always(int)
    connect: bool = always(bool)
    source: QuerySource = always(QuerySource)
    agent: QuerySource = always(QuerySource)


class PreparedQueryExecuteRemoteRequest(QueryOptions, frozen=True, kw_only=True):
    """Asked by a server of another datacenter, in which the query found nobody."""

    query: PreparedQuery = always(PreparedQuery)
    limit: int = always(int)
    connect: bool = always(bool)


class IndexedPreparedQueries(QueryMeta, frozen=True, kw_only=True):
    queries: list[PreparedQuery] = always(new_list)


class PreparedQueryExecuteResponse(QueryMeta, frozen=True, kw_only=True):
    service: str = always(str)
    nodes: list[CheckServiceNode] | None = always(nothing)
    dns: QueryDNS = always(QueryDNS)
    datacenter: str = always(str)
    failovers: int = always(int)


class PreparedQueryExplainResponse(QueryMeta, frozen=True, kw_only=True):
    query: PreparedQuery = always(PreparedQuery)


# --- documents kept for the mesh -----------------------------------------------------------------------------------


class ConfigEntryRequest(Request, frozen=True, kw_only=True):
    """`op`: upsert, upsert-cas, delete, delete-cas. `entry` is the document with Go's field names, `kind` and `name` within."""

    op: str = always(str)
    kind: str = always(str)
    name: str = always(str)
    cas: int = always(int)
    entry: dict[str, Any] | None = always(nothing)


class ConfigEntryQuery(QueryOptions, frozen=True, kw_only=True):
    kind: str = always(str)
    name: str = always(str)


class IndexedConfigEntries(QueryMeta, frozen=True, kw_only=True):
    entries: list[dict[str, Any]] = always(new_list)


class DiscoveryChainRequest(QueryOptions, frozen=True, kw_only=True):
    """The overrides are those of `ChainOverrides`; the timeout is nanoseconds."""

    name: str = always(str)
    evaluate_in_datacenter: str = always(str)
    evaluate_in_namespace: str = always(str)
    override_mesh_gateway: MeshGateway = always(MeshGateway)
    override_protocol: str = always(str)
    override_connect_timeout: int = always(int)


class DiscoveryChainResponse(QueryMeta, frozen=True, kw_only=True):
    chain: Chain | None = always(nothing)


class IntentionRequest(Request, frozen=True, kw_only=True):
    """`op`: create, update, delete. Answers the intention's id."""

    op: str = always(str)
    intention: Intention | None = always(nothing)


class IntentionMatchEntry(Record, frozen=True):
    namespace: str = always(str)
    name: str = always(str)


class IntentionQueryMatch(Record, frozen=True):
    type: str = always(str)
    entries: list[IntentionMatchEntry] = always(new_list)


class IntentionQueryCheck(Record, frozen=True):
    source_ns: str = always(str)
    source_name: str = always(str)
    destination_ns: str = always(str)
    destination_name: str = always(str)
    source_type: str = always(str)


class IntentionQueryRequest(QueryOptions, frozen=True, kw_only=True):
    intention_id: str = always(str)
    match: IntentionQueryMatch | None = always(nothing)
    check: IntentionQueryCheck | None = always(nothing)


class IndexedIntentions(QueryMeta, frozen=True, kw_only=True):
    intentions: list[Intention] = always(new_list)


class IndexedIntentionMatches(QueryMeta, frozen=True, kw_only=True):
    matches: list[list[Intention]] = always(new_list)


class IntentionCheckResponse(QueryMeta, frozen=True, kw_only=True):
    allowed: bool = always(bool)


# --- operator ------------------------------------------------------------------------------------------------------


class RaftConfigurationResponse(Record, frozen=True, kw_only=True):
    servers: list[RaftServer] = always(new_list)
    index: int = always(int)


class BootstrapRequest(Request, frozen=True, kw_only=True):
    """A new server asks whether the cluster may begin with these servers: their ids, sorted."""

    servers: list[str] = always(new_list)


class BootstrapReply(Record, frozen=True, kw_only=True):
    """Whether the one asked agrees, else why not; `peers` is the size of the cluster it has already."""

    agreed: bool = always(bool)
    peers: int = always(int)
    reason: str = always(str)


class RaftRemovePeerRequest(Request, frozen=True, kw_only=True):
    address: str = always(str)
    id: str = always(str)


class AutopilotSetRequest(Request, frozen=True, kw_only=True):
    config: AutopilotConfig = always(AutopilotConfig)
    cas: bool = always(bool)


class ServerHealth(Record, frozen=True):
    id: str = always(str)
    name: str = always(str)
    address: str = always(str)
    serf_status: str = always(str)
    version: str = always(str)
    leader: bool = always(bool)
    last_contact: str = always(str)
    last_term: int = always(int)
    last_index: int = always(int)
    healthy: bool = always(bool)
    voter: bool = always(bool)
    stable_since: str = always(str)


class OperatorHealthReply(Record, frozen=True, kw_only=True):
    healthy: bool = always(bool)
    failure_tolerance: int = always(int)
    servers: list[ServerHealth] = always(new_list)


class AutopilotServer(Record, frozen=True, kw_only=True):
    """A server as `operator/autopilot/state` shows it; `status`: leader, voter or non-voter."""

    id: str = always(str)
    name: str = always(str)
    address: str = always(str)
    node_status: str = always(str)
    version: str = always(str)
    last_contact: str = always(str)
    last_term: int = always(int)
    last_index: int = always(int)
    healthy: bool = always(bool)
    stable_since: str = always(str)
    redundancy_zone: str = ""
    read_replica: bool = always(bool)
    status: str = always(str)
    meta: dict[str, str] = always(new_dict)
    node_type: str = always(str)


class AutopilotZone(Record, frozen=True, kw_only=True):
    """A redundancy zone; `failure_tolerance` is how many of its healthy servers may fail before it has none."""

    servers: list[str] = always(new_list)
    voters: list[str] = always(new_list)
    failure_tolerance: int = always(int)


class AutopilotState(Record, frozen=True, kw_only=True):
    """What Consul 1.9 and later answer at `operator/autopilot/state`; servers by id."""

    healthy: bool = always(bool)
    failure_tolerance: int = always(int)
    optimistic_failure_tolerance: int = always(int)
    servers: dict[str, AutopilotServer] = always(new_dict)
    leader: str = always(str)
    voters: list[str] = always(new_list)
    redundancy_zones: dict[str, AutopilotZone] | None = None
    read_replicas: list[str] | None = None


class TransferLeaderRequest(Request, frozen=True, kw_only=True):
    """`id` is the server to lead next; empty: the most advanced voter."""

    id: str = always(str)


class TransferLeaderResponse(Record, frozen=True, kw_only=True):
    success: bool = always(bool)


class RaftStatsReply(Record, frozen=True, kw_only=True):
    last_contact: str = always(str)
    last_term: int = always(int)
    last_index: int = always(int)

"""The nouns of the catalog and the KV store, with Consul's field names, order and rules of omission.

One definition serves JSON, RPC and the replicated state. Records are immutable: a change makes a new one, so that a
shallow copy of a table is a consistent view. Fields written with `always` appear even when zero.
Source: Consul HTTP API documentation; field order as Consul 1.8.7 writes it.
"""

from typing import Any

import msgspec

from .duration import Duration
from .naming import always, go_name, new_dict, new_list, nothing

PASSING = "passing"
WARNING = "warning"
CRITICAL = "critical"
ANY = "any"

SERF_CHECK_ID = "serfHealth"
SERF_CHECK_NAME = "Serf Health Status"
NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE_PREFIX = "_service_maintenance:"
CONSUL_SERVICE = "consul"


class Record(msgspec.Struct, frozen=True, omit_defaults=True, rename=go_name, gc=False):
    """Base of everything that has Go's field names. Records never hold themselves, so the cycle collector may pass them by."""


class Node(Record, frozen=True):
    id: str = always(str)
    node: str = always(str)
    address: str = always(str)
    datacenter: str = always(str)
    tagged_addresses: dict[str, str] | None = always(nothing)
    meta: dict[str, str] | None = always(nothing)
    create_index: int = always(int)
    modify_index: int = always(int)


class Weights(Record, frozen=True):
    passing: int = always(int)
    warning: int = always(int)


DEFAULT_WEIGHTS = Weights(1, 1)


class ServiceAddress(Record, frozen=True):
    address: str = always(str)
    port: int = always(int)


class MeshGateway(Record, frozen=True):
    mode: str = ""


class ExposePath(Record, frozen=True):
    listener_port: int = 0
    path: str = ""
    local_path_port: int = 0
    protocol: str = ""
    parsed_from_check: bool = always(bool)


class Expose(Record, frozen=True):
    checks: bool = False
    paths: list[ExposePath] | None = None


class Upstream(Record, frozen=True):
    destination_type: str = always(str)
    destination_namespace: str = ""
    destination_name: str = ""
    datacenter: str = always(str)
    local_bind_address: str = ""
    local_bind_port: int = 0
    config: dict[str, Any] | None = always(nothing)
    mesh_gateway: MeshGateway = always(MeshGateway)


NO_MESH_GATEWAY = MeshGateway()
NO_EXPOSE = Expose()


class Proxy(Record, frozen=True):
    destination_service_name: str = ""
    destination_service_id: str = ""
    local_service_address: str = ""
    local_service_port: int = 0
    config: dict[str, Any] | None = None
    upstreams: list[Upstream] | None = None
    mesh_gateway: MeshGateway = always(lambda: NO_MESH_GATEWAY)
    expose: Expose = always(lambda: NO_EXPOSE)


class Connect(Record, frozen=True):
    """`sidecar_service` is a `ServiceSpec` as it was written; an empty one means something, too."""

    native: bool = False
    sidecar_service: Any = None


NO_PROXY = Proxy()
NO_CONNECT = Connect()


class NodeService(Record, frozen=True):
    """A service instance as the catalog keeps it; its node is known from where it is kept."""

    kind: str = ""
    id: str = always(str)
    service: str = always(str)
    tags: list[str] = always(new_list)
    address: str = always(str)
    tagged_addresses: dict[str, ServiceAddress] | None = None
    meta: dict[str, str] | None = always(nothing)
    port: int = always(int)
    weights: Weights | None = always(nothing)
    enable_tag_override: bool = always(bool)
    proxy: Proxy = always(lambda: NO_PROXY)
    connect: Connect = always(lambda: NO_CONNECT)
    locally_registered_as_sidecar: bool = False
    create_index: int = always(int)
    modify_index: int = always(int)


class CheckDefinition(Record, frozen=True):
    """What a check does; the catalog stores and shows it, agents run it."""

    interval: Duration | None = None
    output_max_size: int = 0
    timeout: Duration | None = None
    deregister_critical_service_after: Duration | None = None
    http: str = ""
    tls_skip_verify: bool = False
    header: dict[str, list[str]] | None = None
    method: str = ""
    body: str = ""
    tcp: str = ""
    udp: str = ""
    script_args: list[str] | None = None
    docker_container_id: str = ""
    shell: str = ""
    grpc: str = ""
    grpc_use_tls: bool = False
    alias_node: str = ""
    alias_service: str = ""
    ttl: Duration | None = None


NO_DEFINITION = CheckDefinition()


class HealthCheck(Record, frozen=True):
    node: str = always(str)
    check_id: str = always(str)
    name: str = always(str)
    status: str = always(str)
    notes: str = always(str)
    output: str = always(str)
    service_id: str = always(str)
    service_name: str = always(str)
    service_tags: list[str] | None = always(new_list)
    type: str = always(str)
    definition: CheckDefinition = always(lambda: NO_DEFINITION)
    create_index: int = always(int)
    modify_index: int = always(int)


class ServiceNode(Record, frozen=True):
    """A service instance with its node, flat: what `catalog/service` answers."""

    id: str = always(str)
    node: str = always(str)
    address: str = always(str)
    datacenter: str = always(str)
    tagged_addresses: dict[str, str] | None = always(nothing)
    node_meta: dict[str, str] | None = always(nothing)
    service_kind: str = always(str)
    service_id: str = always(str)
    service_name: str = always(str)
    service_tags: list[str] = always(new_list)
    service_address: str = always(str)
    service_tagged_addresses: dict[str, ServiceAddress] | None = None
    service_weights: Weights = always(Weights)
    service_meta: dict[str, str] = always(new_dict)
    service_port: int = always(int)
    service_enable_tag_override: bool = always(bool)
    service_proxy: Proxy = always(lambda: NO_PROXY)
    service_connect: Connect = always(lambda: NO_CONNECT)
    create_index: int = always(int)
    modify_index: int = always(int)


def service_node(node: Node, service: NodeService) -> ServiceNode:
    """Instance and node as one flat record."""
    return ServiceNode(
        id=node.id,
        node=node.node,
        address=node.address,
        datacenter=node.datacenter,
        tagged_addresses=node.tagged_addresses,
        node_meta=node.meta,
        service_kind=service.kind,
        service_id=service.id,
        service_name=service.service,
        service_tags=service.tags,
        service_address=service.address,
        service_tagged_addresses=service.tagged_addresses,
        service_weights=service.weights or DEFAULT_WEIGHTS,
        service_meta=service.meta or {},
        service_port=service.port,
        service_enable_tag_override=service.enable_tag_override,
        service_proxy=service.proxy,
        service_connect=service.connect,
        create_index=service.create_index,
        modify_index=service.modify_index,
    )


class CheckServiceNode(Record, frozen=True):
    """An instance with its node and every check that speaks about it: node-level ones first."""

    node: Node
    service: NodeService
    checks: list[HealthCheck]


class DirEntry(Record, frozen=True):
    """A key of the KV store."""

    lock_index: int = always(int)
    key: str = always(str)
    flags: int = always(int)
    value: bytes | None = always(nothing)
    session: str = ""
    create_index: int = always(int)
    modify_index: int = always(int)


class ServiceCheckRef(Record, frozen=True):
    id: str = always(str)
    namespace: str = always(str)


class Session(Record, frozen=True):
    id: str = always(str)
    name: str = always(str)
    node: str = always(str)
    lock_delay: int = always(int)
    """Nanoseconds."""
    behavior: str = always(str)
    ttl: str = always(str)
    node_checks: list[str] | None = always(nothing)
    service_checks: list[ServiceCheckRef] | None = always(nothing)
    checks: list[str] | None = None
    create_index: int = always(int)
    modify_index: int = always(int)


class Coordinate(Record, frozen=True):
    """A network coordinate (Vivaldi); distances are seconds."""

    vec: list[float] = always(new_list)
    error: float = always(float)
    adjustment: float = always(float)
    height: float = always(float)


class NodeCoordinate(Record, frozen=True):
    node: str = always(str)
    segment: str = always(str)
    coord: Coordinate = always(Coordinate)


class QueryTemplate(Record, frozen=True):
    type: str = always(str)
    regexp: str = always(str)
    remove_empty_tags: bool = always(bool)


class QueryFailover(Record, frozen=True):
    nearest_n: int = always(int)
    datacenters: list[str] | None = always(nothing)


class QueryService(Record, frozen=True):
    service: str = always(str)
    failover: QueryFailover = always(QueryFailover)
    only_passing: bool = always(bool)
    ignore_check_ids: list[str] | None = always(nothing)
    near: str = always(str)
    tags: list[str] | None = always(nothing)
    node_meta: dict[str, str] | None = always(nothing)
    service_meta: dict[str, str] | None = always(nothing)
    connect: bool = always(bool)


class QueryDNS(Record, frozen=True):
    ttl: str = always(str)


class PreparedQuery(Record, frozen=True):
    id: str = always(str)
    name: str = always(str)
    session: str = always(str)
    token: str = always(str)
    template: QueryTemplate = always(QueryTemplate)
    service: QueryService = always(QueryService)
    dns: QueryDNS = always(QueryDNS)
    create_index: int = always(int)
    modify_index: int = always(int)


class Intention(Record, frozen=True):
    """Who may talk to whom. Times are RFC 3339 text."""

    id: str = always(str)
    description: str = always(str)
    source_ns: str = always(str)
    source_name: str = always(str)
    destination_ns: str = always(str)
    destination_name: str = always(str)
    source_type: str = always(str)
    action: str = always(str)
    default_addr: str = always(str)
    default_port: int = always(int)
    meta: dict[str, str] = always(new_dict)
    precedence: int = always(int)
    created_at: str = always(str)
    updated_at: str = always(str)
    hash: bytes = always(bytes)
    create_index: int = always(int)
    modify_index: int = always(int)


class AutopilotConfig(Record, frozen=True):
    cleanup_dead_servers: bool = always(bool)
    last_contact_threshold: Duration = always(Duration)
    max_trailing_logs: int = always(int)
    min_quorum: int = always(int)
    server_stabilization_time: Duration = always(Duration)
    redundancy_zone_tag: str = always(str)
    disable_upgrade_migration: bool = always(bool)
    upgrade_version_tag: str = always(str)
    create_index: int = always(int)
    modify_index: int = always(int)


class RaftServer(Record, frozen=True):
    """A member of the Raft configuration as the operator endpoint shows it."""

    id: str = always(str)
    node: str = always(str)
    address: str = always(str)
    leader: bool = always(bool)
    protocol_version: str = always(str)
    voter: bool = always(bool)


def check_type(definition: CheckDefinition) -> str:
    """The `Type` that Consul shows for a check that the catalog was given with a definition; the first that applies."""
    runs = bool(definition.interval)
    types = {
        "grpc": runs and definition.grpc,
        "http": runs and definition.http,
        "ttl": definition.ttl,
        "tcp": runs and definition.tcp,
        "alias": definition.alias_node or definition.alias_service,
        "docker": runs and definition.script_args and definition.docker_container_id,
        "script": runs and definition.script_args,
    }
    return next((name for name, applies in types.items() if applies), "")

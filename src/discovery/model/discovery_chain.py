"""A compiled discovery chain: what the documents on routing, splitting and resolving make of one service.

Source: Consul's documentation of the discovery chain API; order and omissions as Consul 1.8.7 writes them.
"""

import msgspec

from .config_entries import ResolverSubset, ServiceRoute
from .duration import Duration
from .naming import always, nothing
from .records import MeshGateway, Record


class ChainTarget(Record, frozen=True, kw_only=True):
    """A set of instances that a chain may end at."""

    id: str
    service: str
    service_subset: str = ""
    namespace: str
    datacenter: str
    mesh_gateway: MeshGateway
    subset: ResolverSubset
    external: bool = False
    sni: str = msgspec.field(name="SNI")
    name: str


class ChainFailover(Record, frozen=True, kw_only=True):
    targets: list[str]


class ChainResolver(Record, frozen=True, kw_only=True):
    connect_timeout: Duration
    default: bool = False
    target: str
    failover: ChainFailover | None = None


class ChainRoute(Record, frozen=True, kw_only=True):
    definition: ServiceRoute
    next_node: str


class ChainSplit(Record, frozen=True, kw_only=True):
    weight: int | float
    next_node: str


class ChainNode(Record, frozen=True, kw_only=True):
    """A router, a splitter or a resolver; each has just its own part."""

    type: str
    name: str
    routes: list[ChainRoute] | None = None
    splits: list[ChainSplit] | None = None
    resolver: ChainResolver | None = None


class Chain(Record, frozen=True, kw_only=True):
    service_name: str
    namespace: str
    datacenter: str
    customization_hash: str = ""
    protocol: str
    start_node: str
    nodes: dict[str, ChainNode]
    targets: dict[str, ChainTarget]


class ChainOverrides(Record, frozen=True, kw_only=True):
    """What one caller wants other than the documents say."""

    override_mesh_gateway: MeshGateway = always(MeshGateway)
    override_protocol: str = always(str)
    override_connect_timeout: Duration | None = always(nothing)

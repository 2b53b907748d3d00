"""The kinds of central configuration entries and their fields, as Consul names them; order as Consul writes them.

Fields that are not marked `always` are left out of an answer when they hold nothing. The kinds that Consul 1.8 does not know
yet are those of 1.9 to 1.11.
"""

from typing import Any, Final

import msgspec

from .duration import Duration
from .naming import always, nothing
from .records import Expose, ExposePath, MeshGateway, Record


class Entry(Record, frozen=True, kw_only=True):
    """What all kinds begin with."""

    kind: str = always(str)
    name: str = always(str)


class ServiceDefaults(Entry, frozen=True, kw_only=True):
    protocol: str = always(str)
    mesh_gateway: MeshGateway = always(MeshGateway)
    expose: Expose = always(Expose)
    external_sni: str = msgspec.field(name="ExternalSNI", default="")
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class ProxyDefaults(Entry, frozen=True, kw_only=True):
    config: dict[str, Any] | None = always(nothing)
    mesh_gateway: MeshGateway = always(MeshGateway)
    expose: Expose = always(Expose)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class RouteHeader(Record, frozen=True, kw_only=True):
    name: str = always(str)
    present: bool = False
    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    regex: str = ""
    invert: bool = False


class RouteQueryParam(Record, frozen=True, kw_only=True):
    name: str = always(str)
    present: bool = False
    exact: str = ""
    regex: str = ""


class RouteHTTP(Record, frozen=True, kw_only=True):
    path_exact: str = ""
    path_prefix: str = ""
    path_regex: str = ""
    header: list[RouteHeader] | None = None
    query_param: list[RouteQueryParam] | None = None
    methods: list[str] | None = None


class RouteMatch(Record, frozen=True, kw_only=True):
    http: RouteHTTP | None = None


class RouteDestination(Record, frozen=True, kw_only=True):
    request_timeout: Duration | None = None
    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    prefix_rewrite: str = ""
    num_retries: int = 0
    retry_on_connect_failure: bool = False
    retry_on_status_codes: list[int] | None = None


class ServiceRoute(Record, frozen=True, kw_only=True):
    match: RouteMatch | None = None
    destination: RouteDestination | None = None


class ServiceRouter(Entry, frozen=True, kw_only=True):
    routes: list[ServiceRoute] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class ServiceSplit(Record, frozen=True, kw_only=True):
    weight: int | float = always(int)
    service: str = ""
    service_subset: str = ""
    namespace: str = ""


class ServiceSplitter(Entry, frozen=True, kw_only=True):
    splits: list[ServiceSplit] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class ResolverSubset(Record, frozen=True, kw_only=True):
    filter: str = ""
    only_passing: bool = False


class ResolverRedirect(Record, frozen=True, kw_only=True):
    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    datacenter: str = ""


class ResolverFailover(Record, frozen=True, kw_only=True):
    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    datacenters: list[str] | None = None


class ServiceResolver(Entry, frozen=True, kw_only=True):
    connect_timeout: Duration | None = None
    default_subset: str = ""
    subsets: dict[str, ResolverSubset] | None = None
    redirect: ResolverRedirect | None = None
    failover: dict[str, ResolverFailover] | None = None
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class GatewayTLS(Record, frozen=True, kw_only=True):
    enabled: bool = always(bool)


class IngressService(Record, frozen=True, kw_only=True):
    name: str = always(str)
    hosts: list[str] | None = always(nothing)
    namespace: str = ""


class IngressListener(Record, frozen=True, kw_only=True):
    port: int = always(int)
    protocol: str = always(str)
    services: list[IngressService] | None = always(nothing)


class IngressGateway(Entry, frozen=True, kw_only=True):
    tls: GatewayTLS = always(GatewayTLS)
    listeners: list[IngressListener] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class LinkedService(Record, frozen=True, kw_only=True):
    name: str = always(str)
    namespace: str = ""
    ca_file: str = msgspec.field(name="CAFile", default="")
    cert_file: str = ""
    key_file: str = ""
    sni: str = msgspec.field(name="SNI", default="")


class TerminatingGateway(Entry, frozen=True, kw_only=True):
    services: list[LinkedService] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class IntentionPermissionHTTP(Record, frozen=True, kw_only=True):
    path_exact: str = ""
    path_prefix: str = ""
    path_regex: str = ""
    header: list[RouteHeader] | None = None
    methods: list[str] | None = None


class IntentionPermission(Record, frozen=True, kw_only=True):
    action: str = always(str)
    http: IntentionPermissionHTTP | None = None


class SourceIntention(Record, frozen=True, kw_only=True):
    name: str = always(str)
    action: str = ""
    permissions: list[IntentionPermission] | None = None
    precedence: int = always(int)
    type: str = always(str)
    description: str = ""
    namespace: str = ""


class ServiceIntentions(Entry, frozen=True, kw_only=True):
    sources: list[SourceIntention] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class MeshTransparentProxy(Record, frozen=True, kw_only=True):
    mesh_destinations_only: bool = always(bool)


class Mesh(Entry, frozen=True, kw_only=True):
    transparent_proxy: MeshTransparentProxy = always(MeshTransparentProxy)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class ServiceConsumer(Record, frozen=True, kw_only=True):
    partition: str = ""
    peer: str = ""


class ExportedService(Record, frozen=True, kw_only=True):
    name: str = always(str)
    namespace: str = ""
    consumers: list[ServiceConsumer] | None = always(nothing)


class ExportedServices(Entry, frozen=True, kw_only=True):
    services: list[ExportedService] | None = always(nothing)
    meta: dict[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


KINDS: Final[dict[str, type[Entry]]] = {
    "service-defaults": ServiceDefaults,
    "proxy-defaults": ProxyDefaults,
    "service-router": ServiceRouter,
    "service-splitter": ServiceSplitter,
    "service-resolver": ServiceResolver,
    "ingress-gateway": IngressGateway,
    "terminating-gateway": TerminatingGateway,
    "service-intentions": ServiceIntentions,
    "mesh": Mesh,
    "exported-services": ExportedServices,
}
PARTS: Final[tuple[type[Record], ...]] = (
    *KINDS.values(), RouteHeader, RouteQueryParam, RouteHTTP, RouteMatch, RouteDestination, ServiceRoute, ServiceSplit,
    ResolverSubset, ResolverRedirect, ResolverFailover, GatewayTLS, IngressService, IngressListener, LinkedService, MeshGateway,
    Expose, ExposePath, IntentionPermissionHTTP, IntentionPermission, SourceIntention, MeshTransparentProxy, ServiceConsumer,
    ExportedService,
)  # fmt: skip
"""All records that an entry may hold, itself included."""

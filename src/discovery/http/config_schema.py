"""The kinds of central configuration entries and their fields, as Consul 1.8 names them.

Fields that are not marked `always` are left out of an answer when they hold nothing.
"""

from typing import Final

from discovery.model.duration import Duration
from discovery.model.naming import always, new_list, nothing
from discovery.model.records import Expose, ExposePath, MeshGateway, Record


class Entry(Record, frozen=True, kw_only=True):
    kind: str = always(str)
    name: str = always(str)
    create_index: int = 0
    modify_index: int = 0


class ServiceDefaults(Entry, frozen=True, kw_only=True):
    protocol: str = ""
    mesh_gateway: MeshGateway = always(MeshGateway)
    expose: Expose = always(Expose)
    external_sni: str = ""


class ProxyDefaults(Entry, frozen=True, kw_only=True):
    config: dict[str, object] | None = always(nothing)
    mesh_gateway: MeshGateway = always(MeshGateway)
    expose: Expose = always(Expose)


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
    service: str = ""
    service_subset: str = ""
    namespace: str = ""
    prefix_rewrite: str = ""
    request_timeout: Duration | None = None
    num_retries: int = 0
    retry_on_connect_failure: bool = False
    retry_on_status_codes: list[int] | None = None


class ServiceRoute(Record, frozen=True, kw_only=True):
    match: RouteMatch | None = None
    destination: RouteDestination | None = None


class ServiceRouter(Entry, frozen=True, kw_only=True):
    routes: list[ServiceRoute] | None = always(nothing)


class ServiceSplit(Record, frozen=True, kw_only=True):
    weight: float = always(float)
    service: str = ""
    service_subset: str = ""
    namespace: str = ""


class ServiceSplitter(Entry, frozen=True, kw_only=True):
    splits: list[ServiceSplit] | None = always(nothing)


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


class GatewayTLS(Record, frozen=True, kw_only=True):
    enabled: bool = always(bool)


class IngressService(Record, frozen=True, kw_only=True):
    name: str = always(str)
    hosts: list[str] | None = always(nothing)
    namespace: str = ""


class IngressListener(Record, frozen=True, kw_only=True):
    port: int = always(int)
    protocol: str = always(str)
    services: list[IngressService] = always(new_list)


class IngressGateway(Entry, frozen=True, kw_only=True):
    tls: GatewayTLS = always(GatewayTLS)
    listeners: list[IngressListener] = always(new_list)


class LinkedService(Record, frozen=True, kw_only=True):
    name: str = always(str)
    namespace: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    sni: str = ""


class TerminatingGateway(Entry, frozen=True, kw_only=True):
    services: list[LinkedService] = always(new_list)


KINDS: Final[dict[str, type[Entry]]] = {
    "service-defaults": ServiceDefaults,
    "proxy-defaults": ProxyDefaults,
    "service-router": ServiceRouter,
    "service-splitter": ServiceSplitter,
    "service-resolver": ServiceResolver,
    "ingress-gateway": IngressGateway,
    "terminating-gateway": TerminatingGateway,
}
PARTS: Final[tuple[type[Record], ...]] = (
    ServiceDefaults, ProxyDefaults, ServiceRouter, ServiceSplitter, ServiceResolver, IngressGateway, TerminatingGateway,
    RouteHeader, RouteQueryParam, RouteHTTP, RouteMatch, RouteDestination, ServiceRoute, ServiceSplit, ResolverSubset,
    ResolverRedirect, ResolverFailover, GatewayTLS, IngressService, IngressListener, LinkedService, MeshGateway, Expose,
    ExposePath,
)  # fmt: skip

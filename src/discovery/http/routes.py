"""Which handler answers which path and method: one table, from which 405 and `Allow`, OPTIONS, 404 and 301 follow.

A path that ends in `/` stands for everything below it. Paths are matched cleaned and percent-decoded, as Go's server
matches them, so that `kv/a%2Fb` is the key `a/b`.
"""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from . import (
    acl,
    agent,
    agent_actions,
    agent_health,
    bulk,
    catalog,
    changes,
    config_entries,
    connect_ca,
    coordinate,
    discovery_chain,
    dismissal,
    event,
    health,
    intentions,
    internal_ui,
    keyring,
    kv,
    openapi,
    operator,
    query,
    session,
    snapshot,
    status,
    txn,
)
from .operation import Handler

_NAMESPACED: Final = (
    "/v1/kv/", "/v1/session/", "/v1/config", "/v1/discovery-chain/", "/v1/health/", "/v1/internal/ui/",
    "/v1/catalog/register", "/v1/catalog/deregister", "/v1/catalog/service", "/v1/catalog/connect/", "/v1/catalog/node/",
    "/v1/catalog/node-services/", "/v1/catalog/gateway-services/", "/v1/agent/service", "/v1/agent/health/",
    "/v1/agent/check", "/v1/agent/connect/authorize",
)  # fmt: skip
"""Where Consul looks for a namespace, and refuses one in its open edition."""


class Route(msgspec.Struct, frozen=True):
    """`end`: of all below the path, only what ends so. `meta_on_error`: a server's refusal of a read carries the headers of an
    unanswered read."""

    path: str
    methods: dict[str, Handler]
    end: str = ""
    meta_on_error: bool = False
    namespaced: bool = False

    @property
    def allow(self) -> str:
        names = [name for name in self.methods if name != "OPTIONS"]
        return ",".join(names if "OPTIONS" in self.methods else ["OPTIONS", *names])


def _read(path: str, handler: Handler) -> Route:
    return Route(path, {"GET": handler}, meta_on_error=True)


def _get(path: str, handler: Handler) -> Route:
    return Route(path, {"GET": handler})


def _put(path: str, handler: Handler) -> Route:
    return Route(path, {"PUT": handler})


_TABLE: Final = (
    Route("/v1/kv/", {"GET": kv.get, "PUT": kv.put, "DELETE": kv.delete}),
    _put("/v1/txn", txn.apply),
    _put("/v1/session/create", session.create),
    _put("/v1/session/destroy/", session.destroy),
    _put("/v1/session/renew/", session.renew),
    _read("/v1/session/info/", session.info),
    _read("/v1/session/node/", session.node),
    _read("/v1/session/list", session.list_all),
    _put("/v1/catalog/register", catalog.register),
    _put("/v1/catalog/register/bulk", bulk.register),
    _put("/v1/catalog/deregister", catalog.deregister),
    _put("/v1/catalog/deregister-everywhere", dismissal.deregister_everywhere),
    _get("/v1/catalog/datacenters", catalog.datacenters),
    _read("/v1/catalog/nodes", catalog.nodes),
    _read("/v1/catalog/services", catalog.services),
    _read("/v1/catalog/service/", catalog.service),
    _read("/v1/catalog/connect/", catalog.connect),
    _read("/v1/catalog/node/", catalog.node),
    _read("/v1/catalog/node-services/", catalog.node_services),
    _read("/v1/catalog/gateway-services/", catalog.gateway_services),
    _read("/v1/health/node/", health.node),
    _read("/v1/health/checks/", health.checks),
    _read("/v1/health/state/", health.state),
    _read("/v1/health/service/", health.service),
    _read("/v1/health/services", health.services),
    _read("/v1/health/connect/", health.connect),
    _read("/v1/health/ingress/", health.ingress),
    _get("/v1/agent/self", agent.self_),
    _get("/v1/agent/host", agent.host),
    _get("/v1/agent/version", agent.version),
    _get("/v1/agent/metrics", agent.metrics),
    _get("/v1/agent/monitor", agent.monitor),
    _get("/v1/agent/members", agent.members),
    _put("/v1/agent/join/", agent.join),
    _put("/v1/agent/leave", agent.leave),
    _put("/v1/agent/force-leave/", agent.force_leave),
    _put("/v1/agent/reload", agent.reload),
    _put("/v1/agent/maintenance", agent.node_maintenance),
    _put("/v1/agent/token/", acl.disabled),
    _get("/v1/agent/services", agent.services),
    _get("/v1/agent/service/", agent.service),
    _put("/v1/agent/service/register", agent.register_service),
    _put("/v1/agent/service/deregister/", agent.deregister_service),
    _put("/v1/agent/service/maintenance/", agent.service_maintenance),
    _put("/v1/agent/service/drain/", agent_actions.drain_service),
    _get("/v1/agent/health/service/id/", agent_health.by_id),
    _get("/v1/agent/health/service/name/", agent_health.by_name),
    _get("/v1/agent/checks", agent.checks),
    _put("/v1/agent/check/register", agent.register_check),
    _put("/v1/agent/check/deregister/", agent.deregister_check),
    _put("/v1/agent/check/pass/", agent.check_pass),
    _put("/v1/agent/check/warn/", agent.check_warn),
    _put("/v1/agent/check/fail/", agent.check_fail),
    _put("/v1/agent/check/update/", agent.check_update),
    _put("/v1/agent/check/run/", agent_actions.run_check),
    Route("/v1/agent/connect/authorize", {"POST": intentions.authorize}),
    _put("/v1/event/fire/", event.fire),
    _get("/v1/event/list", event.list_all),
    _get("/v1/events/stream", changes.stream),
    _get("/v1/coordinate/datacenters", coordinate.datacenters),
    _read("/v1/coordinate/nodes", coordinate.nodes),
    _read("/v1/coordinate/node/", coordinate.node),
    _put("/v1/coordinate/update", coordinate.update),
    _get("/v1/status/leader", status.leader),
    _get("/v1/status/peers", status.peers),
    _get("/v1/operator/raft/configuration", operator.raft_configuration),
    Route("/v1/operator/raft/peer", {"DELETE": operator.raft_remove_peer}),
    Route("/v1/operator/raft/transfer-leader", {"POST": operator.transfer_leader}),
    Route(
        "/v1/operator/autopilot/configuration",
        {"GET": operator.autopilot_configuration, "PUT": operator.set_autopilot_configuration},
    ),
    _get("/v1/operator/autopilot/health", operator.autopilot_health),
    _get("/v1/operator/autopilot/state", operator.autopilot_state),
    Route(
        "/v1/operator/keyring",
        {"GET": keyring.list_keys, "POST": keyring.install, "PUT": keyring.use, "DELETE": keyring.remove},
    ),
    _read("/v1/operator/usage", operator.usage),
    Route("/v1/snapshot", {"GET": snapshot.save, "PUT": snapshot.restore}),
    Route("/v1/query", {"GET": query.list_all, "POST": query.create}, meta_on_error=True),
    Route(
        "/v1/query/",
        {"GET": query.get, "PUT": query.update, "DELETE": query.delete, "OPTIONS": query.options},
        meta_on_error=True,
    ),
    Route("/v1/query/", {"GET": query.execute, "OPTIONS": query.options_of_reads}, "/execute", meta_on_error=True),
    Route("/v1/query/", {"GET": query.explain, "OPTIONS": query.options_of_reads}, "/explain", meta_on_error=True),
    _put("/v1/config", config_entries.apply),
    Route("/v1/config/", {"GET": config_entries.get, "DELETE": config_entries.delete}),
    Route("/v1/connect/intentions", {"GET": intentions.list_all, "POST": intentions.create}, meta_on_error=True),
    _get("/v1/connect/intentions/match", intentions.match),
    _get("/v1/connect/intentions/check", intentions.check),
    Route(
        "/v1/connect/intentions/exact",
        {"GET": intentions.exact_get, "PUT": intentions.exact_put, "DELETE": intentions.exact_delete},
    ),
    Route(
        "/v1/connect/intentions/", {"GET": intentions.get, "PUT": intentions.update, "DELETE": intentions.delete}
    ),
    _read("/v1/connect/ca/roots", connect_ca.disabled),
    Route("/v1/connect/ca/configuration", {"GET": connect_ca.disabled, "PUT": connect_ca.disabled}),
    _get("/v1/agent/connect/ca/roots", connect_ca.disabled),
    _get("/v1/agent/connect/ca/leaf/", connect_ca.disabled),
    Route("/v1/discovery-chain/", {"GET": discovery_chain.get, "POST": discovery_chain.post}, meta_on_error=True),
    _read("/v1/internal/ui/nodes", internal_ui.nodes),
    _read("/v1/internal/ui/node/", internal_ui.node),
    _read("/v1/internal/ui/services", internal_ui.services),
    _read("/v1/internal/ui/gateway-services-nodes/", internal_ui.gateway_services_nodes),
    *(Route(path, dict.fromkeys(methods, acl.disabled)) for path, methods in acl.PATHS),
    _get("/v1/openapi.json", openapi.endpoint(lambda: described_routes())),
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = tuple(
    msgspec.structs.replace(route, namespaced=route.path.startswith(_NAMESPACED)) for route in _TABLE
)


def described_routes() -> Iterator[tuple[str, dict[str, Handler]]]:
    """Paths and their handlers by method, for the description of the API."""
    return ((route.path, route.methods) for route in ROUTES)


class Router:
    """Finds the route of a path."""

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        self._exact: dict[str, Route] = {}
        self._below: dict[str, list[Route]] = {}
        for route in routes:
            if route.path.endswith("/"):
                self._below.setdefault(_group(route.path), []).append(route)
            else:
                self._exact[route.path] = route
        for group in self._below.values():
            group.sort(key=lambda route: (-len(route.path), -len(route.end)))

    def find(self, path: str) -> tuple[Route, str] | None:
        """The route and the rest of the path."""
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        for route in self._below.get(_group(path), ()):
            if path.startswith(route.path) and path.endswith(route.end):
                return route, path[len(route.path) : len(path) - len(route.end)]
        return None

    def has_below(self, path: str) -> bool:
        """Whether `path` only lacks the final slash of a route."""
        return any(route.path == path + "/" for route in self._below.get(_group(path + "/"), ()))


def _group(path: str) -> str:
    """`/v1/kv/a/b` -> `/v1/kv/`: the part that all routes of a noun share."""
    return path[: path.find("/", 4) + 1]


def needs_cleaning(raw_path: str) -> bool:
    """Whether a raw path may differ from its decoded, clean form."""
    return "%" in raw_path or "//" in raw_path or "/." in raw_path or not raw_path.isascii() or not raw_path.isprintable()


def decode_path(raw_path: str) -> str | None:
    """The path with its escapes decoded; None if it is no UTF-8."""
    try:
        return unquote_to_bytes(raw_path.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        return None


def clean_path(path: str) -> str:
    """Without doubled slashes and dot segments; a final slash stays."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def request_parts(target: str) -> tuple[str, str]:
    """Path and query string of a request target, which may also be a whole URL."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    path, _, query_string = target.partition("?")
    return path, query_string

"""The questions that the state store answers by itself: method name -> how to ask the store and which reply to fill.

Everything that needs more than the store (leadership, time, other members) is an endpoint of its own in `endpoints`.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from discovery.model import requests as r
from discovery.model.discovery_chain import ChainOverrides
from discovery.model.duration import Duration
from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.state.store import StateStore


class StoreRead(msgspec.Struct, frozen=True):
    """`ask` runs the question, `reply_type(field=value, ...)` is the answer."""

    reply_type: type[r.QueryMeta]
    field: str
    ask: Callable[[StateStore, Any], Read[Any]]


def _service_tags(request: r.ServiceSpecificRequest) -> list[str]:
    """Old agents send one tag, newer ones a list; both count only with `tag_filter`."""
    if not request.tag_filter:
        return []
    return list(request.service_tags) if request.service_tags else [request.service_tag]


def _service_nodes(store: StateStore, q: r.ServiceSpecificRequest) -> Read[Any]:
    _require(q.service_name or q.service_address, "Must provide service name")
    return store.service_nodes(
        q.service_name,
        tags=_service_tags(q),
        tag_filter=q.tag_filter,
        address=q.service_address,
        connect=q.connect,
        ingress=q.ingress,
        meta_filters=q.node_meta_filters,
    )


def _check_service_nodes(store: StateStore, q: r.ServiceSpecificRequest) -> Read[Any]:
    _require(q.service_name, "Must provide service name")
    return store.check_service_nodes(
        q.service_name, tags=_service_tags(q), connect=q.connect, ingress=q.ingress, meta=q.node_meta_filters
    )


def _one_or_none(read: Read[Any]) -> Read[Any]:
    return Read(read.index, None if read.value is None else [read.value], read.topics)


def _some_or_none(read: Read[Any]) -> Read[Any]:
    return Read(read.index, read.value or None, read.topics)


def _one_or_empty(read: Read[Any]) -> Read[Any]:
    return Read(read.index, [] if read.value is None else [read.value], read.topics)


def _require(value: object, text: str) -> None:
    if not value:
        raise RequestFailed(text)


def _node_services(store: StateStore, q: r.NodeSpecificRequest) -> Read[Any]:
    _require(q.node, "Must provide node")
    return store.node_services(q.node)


def _node_service_list(store: StateStore, q: r.NodeSpecificRequest) -> Read[Any]:
    _require(q.node, "Must provide node")
    return store.node_service_list(q.node)


def _overrides(q: r.DiscoveryChainRequest) -> ChainOverrides:
    return ChainOverrides(
        override_mesh_gateway=q.override_mesh_gateway,
        override_protocol=q.override_protocol,
        override_connect_timeout=Duration(q.override_connect_timeout),
    )


STORE_READS: Final[dict[str, StoreRead]] = {
    "Catalog.ListNodes": StoreRead(r.IndexedNodes, "nodes", lambda s, q: s.nodes(q.node_meta_filters)),
    "Catalog.ListServices": StoreRead(r.IndexedServices, "services", lambda s, q: s.services(q.node_meta_filters)),
    "Catalog.ServiceNodes": StoreRead(r.IndexedServiceNodes, "service_nodes", _service_nodes),
    "Catalog.NodeServices": StoreRead(r.IndexedNodeServices, "node_services", _node_services),
    "Catalog.NodeServiceList": StoreRead(r.IndexedNodeServiceList, "node_services", _node_service_list),
    "Health.ChecksInState": StoreRead(
        r.IndexedHealthChecks, "health_checks", lambda s, q: s.checks_in_state(q.state, q.node_meta_filters)
    ),
    "Health.NodeChecks": StoreRead(r.IndexedHealthChecks, "health_checks", lambda s, q: s.node_checks(q.node)),
    "Health.ServiceChecks": StoreRead(
        r.IndexedHealthChecks, "health_checks", lambda s, q: s.service_checks(q.service_name, q.node_meta_filters)
    ),
    "Health.ServiceNodes": StoreRead(r.IndexedCheckServiceNodes, "nodes", _check_service_nodes),
    "Internal.NodeInfo": StoreRead(r.IndexedNodeDump, "dump", lambda s, q: s.node_info(q.node)),
    "Internal.NodeDump": StoreRead(r.IndexedNodeDump, "dump", lambda s, q: s.node_dump()),
    "Internal.ServiceDump": StoreRead(
        r.IndexedCheckServiceNodes, "nodes", lambda s, q: s.service_dump(q.service_kind if q.use_service_kind else None)
    ),
    "KVS.Get": StoreRead(r.IndexedDirEntries, "entries", lambda s, q: _one_or_none(s.kv_get(q.key))),
    "KVS.List": StoreRead(r.IndexedDirEntries, "entries", lambda s, q: _some_or_none(s.kv_list(q.key))),
    "KVS.ListKeys": StoreRead(r.IndexedKeyList, "keys", lambda s, q: _some_or_none(s.kv_keys(q.prefix, q.seperator))),
    "Session.Get": StoreRead(r.IndexedSessions, "sessions", lambda s, q: _one_or_empty(s.session_get(q.session_id or q.session))),
    "Session.List": StoreRead(r.IndexedSessions, "sessions", lambda s, q: s.session_list()),
    "Session.NodeSessions": StoreRead(r.IndexedSessions, "sessions", lambda s, q: s.node_sessions(q.node)),
    "Coordinate.ListNodes": StoreRead(r.IndexedCoordinates, "coordinates", lambda s, q: s.coordinates()),
    "Coordinate.Node": StoreRead(r.IndexedCoordinates, "coordinates", lambda s, q: s.coordinate(q.node)),
    "PreparedQuery.List": StoreRead(r.IndexedPreparedQueries, "queries", lambda s, q: s.query_list()),
    "ConfigEntry.Get": StoreRead(
        r.IndexedConfigEntries, "entries", lambda s, q: _one_or_empty(s.config_entry_get(q.kind, q.name))
    ),
    "ConfigEntry.List": StoreRead(r.IndexedConfigEntries, "entries", lambda s, q: s.config_entry_list(q.kind)),
    "DiscoveryChain.Get": StoreRead(
        r.DiscoveryChainResponse,
        "chain",
        lambda s, q: s.discovery_chain(q.name, q.evaluate_in_datacenter or q.datacenter, _overrides(q)),
    ),
    "Intention.List": StoreRead(r.IndexedIntentions, "intentions", lambda s, q: s.intention_list()),
}

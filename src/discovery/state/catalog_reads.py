"""The catalog's answers, each with its index and the topics that would change it.

An answer about one service is kept until something of that service changes: it is what DNS and load balancers ask for all day.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from discovery.model.query import Read, Topic
from discovery.model.records import ANY, PASSING, CheckServiceNode, HealthCheck, Node, NodeService, ServiceNode, service_node
from discovery.model.requests import NodeInfo, NodeServiceList, NodeServices
from discovery.model.service_rules import INGRESS_GATEWAY, TERMINATING_GATEWAY

from .catalog import (
    CHECKS,
    ID_START,
    NODES,
    SERVICE_NAMES,
    SERVICES,
    Catalog,
    connect_topic,
    node_checks_topic,
    node_ids_topic,
    node_topic,
    service_checks_topic,
    service_topic,
    state_topic,
)
from .catalog_tables import Key
from .config_entries import WILDCARD, ConfigEntries, kind_topic
from .lookup import fold, has_meta, has_tags
from .tables import Topics

MetaFilters = Mapping[str, str] | None

_ID_LENGTH: Final = 36
_BEGINS_ID: Final = re.compile(rf"[0-9a-f-]{{{ID_START},}}")


class CatalogReads:
    def __init__(self, catalog: Catalog, topics: Topics, config_entries: ConfigEntries) -> None:
        self._catalog = catalog
        self._nodes = catalog.nodes
        self._services = catalog.services
        self._checks = catalog.checks
        self._topics = topics
        self._config_entries = config_entries

    # --- nodes -------------------------------------------------------------------------------------------------------

    def nodes(self, meta_filters: MetaFilters) -> Read[list[Node]]:
        rows = self._nodes.rows
        found = [node for name in sorted(rows) if has_meta((node := rows[name]).meta, meta_filters)]
        return self._topics.read(found, NODES)

    def node_services(self, name_or_id: str) -> Read[NodeServices | None]:
        node, topics = self._find(name_or_id)
        if node is None:
            return self._topics.read(None, *topics)
        services = {service.id: service for service in self._services_on(node)}
        return self._topics.read(NodeServices(node=node, services=services), *topics)

    def node_service_list(self, name_or_id: str) -> Read[NodeServiceList]:
        node, topics = self._find(name_or_id)
        if node is None:
            return self._topics.read(NodeServiceList(), *topics)
        return self._topics.read(NodeServiceList(node=node, services=self._services_on(node) or None), *topics)

    def _find(self, name_or_id: str) -> tuple[Node | None, tuple[Topic, ...]]:
        """A node by name, else by id or the beginning of one if that is unambiguous."""
        name = fold(name_or_id)
        node = self._nodes.rows.get(name)
        if node is not None or not _BEGINS_ID.fullmatch(name):
            return node, (node_topic(name),)
        topics = (node_topic(name),) if len(name) == _ID_LENGTH else (node_topic(name), node_ids_topic(name[:ID_START]))
        node = self._nodes.with_id_from(name)
        return node, topics if node is None else (*topics, node_topic(fold(node.node)))

    def _services_on(self, node: Node) -> list[NodeService]:
        return [self._services.rows[key] for key in sorted(self._services.on_node[fold(node.node)])]

    def _checks_on(self, node: Node) -> list[HealthCheck]:
        return self._check_rows(self._checks.on_node[fold(node.node)])

    def node_info(self, name: str) -> Read[list[NodeInfo]]:
        node = self._nodes.rows.get(fold(name))
        found = [self._info(node)] if node is not None else []
        return self._topics.read(found, node_topic(fold(name)), node_checks_topic(fold(name)))

    def node_dump(self) -> Read[list[NodeInfo]]:
        rows = self._nodes.rows
        return self._topics.read([self._info(rows[name]) for name in sorted(rows)], NODES, SERVICES, CHECKS)

    def _info(self, node: Node) -> NodeInfo:
        return NodeInfo(
            id=node.id,
            node=node.node,
            address=node.address,
            tagged_addresses=node.tagged_addresses,
            meta=node.meta,
            services=self._services_on(node),
            checks=self._checks_on(node),
        )

    # --- services ----------------------------------------------------------------------------------------------------

    def services(self, meta_filters: MetaFilters) -> Read[dict[str, list[str]]]:
        """Every service name with the tags of all its instances."""
        if not meta_filters:
            counts = sorted(self._services.tags.items(), key=itemgetter(0))
            found = {name: sorted(tag for tag in tags if tag is not None) for name, tags in counts}
            return self._topics.read(found, SERVICE_NAMES)
        tags_of: dict[str, set[str]] = {}
        for key in self._on_matching_nodes(self._services.rows, meta_filters):
            service = self._services.rows[key]
            tags_of.setdefault(service.service, set()).update(service.tags)
        return self._topics.read({name: sorted(tags_of[name]) for name in sorted(tags_of)}, SERVICES, NODES)

    def _on_matching_nodes(self, keys: Iterable[Key], meta_filters: MetaFilters) -> list[Key]:
        return [key for key in sorted(keys) if has_meta(self._nodes.rows[key[0]].meta, meta_filters)]

    def service_nodes(
        self,
        name: str,
        *,
        tags: Sequence[str],
        address: str,
        connect: bool,
        ingress: bool,
        meta_filters: MetaFilters,
    ) -> Read[list[ServiceNode]]:
        """Tags do not matter to `connect`: a proxy need not have those of what it stands for."""
        keys, topics = self._instances(name, connect=connect, ingress=ingress)
        wanted = () if connect else tags
        rows = (
            service_node(self._nodes.rows[key[0]], service)
            for key in self._on_matching_nodes(keys, meta_filters)
            if has_tags((service := self._services.rows[key]).tags, wanted)
        )
        found = [row for row in rows if not address or address == (row.service_address or row.address)]
        return self._topics.read(found, *topics)

    def check_service_nodes(
        self, name: str, *, tags: Sequence[str], connect: bool, ingress: bool, meta: MetaFilters
    ) -> Read[list[CheckServiceNode]]:
        keys, topics = self._instances(name, connect=connect, ingress=ingress)
        found = self._with_checks(keys) if connect or ingress else self._health_of(fold(name), keys)
        wanted = () if connect else tags
        if wanted or meta:
            found = [row for row in found if has_tags(row.service.tags, wanted) and has_meta(row.node.meta, meta)]
        return self._topics.read(found, *topics)

    def _health_of(self, name: str, keys: Iterable[Key]) -> list[CheckServiceNode]:
        kept = self._catalog.health.get(name)
        if kept is None:
            kept = self._with_checks(keys)
            if kept:
                self._catalog.health[name] = kept
        return kept.copy()

    def _instances(self, name: str, *, connect: bool, ingress: bool) -> tuple[Iterable[Key], tuple[Topic, ...]]:
        """Which instances a service query means, and the topics that they depend on."""
        folded = fold(name)
        if connect:
            gateways, topics = self._gateways(TERMINATING_GATEWAY, folded)
            return [*self._services.connect[folded], *gateways], (connect_topic(folded), *topics)
        if ingress:
            return self._gateways(INGRESS_GATEWAY, folded)
        if not name:
            return self._services.rows, (NODES, SERVICES)
        return self._services.named[folded], (service_topic(folded),)

    def _gateways(self, kind: str, name: str) -> tuple[list[Key], tuple[Topic, ...]]:
        """Instances of the gateways of a kind that stand for a service."""
        rows, named = self._services.rows, self._services.named
        gateways = set(self._config_entries.gateways_of(kind, name))
        topics = [kind_topic(kind)]
        if of_all := self._config_entries.gateways_of(kind, WILDCARD):
            topics.append(service_topic(name))
            gateways.update(of_all if any(not rows[key].kind for key in named[name]) else ())
        keys = [key for gateway in sorted(gateways) for key in named[gateway] if rows[key].kind == kind]
        return keys, (*topics, *map(service_topic, sorted(gateways)))

    def _with_checks(self, keys: Iterable[Key]) -> list[CheckServiceNode]:
        rows = self._services.rows
        return [CheckServiceNode(self._nodes.rows[key[0]], rows[key], self._checks_of(key)) for key in sorted(keys)]

    def _checks_of(self, key: Key) -> list[HealthCheck]:
        """The node's own checks, then those of the instance."""
        groups = self._checks.of_instance
        return self._check_rows(groups[(key[0], "")]) + self._check_rows(groups[key])

    def service_dump(self, kind: str | None) -> Read[list[CheckServiceNode]]:
        """Every instance, or every one of a kind, with its health."""
        keys = [key for key, service in self._services.rows.items() if kind is None or service.kind == kind]
        return self._topics.read(self._with_checks(keys), NODES, SERVICES, CHECKS)

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_rows(self, keys: Iterable[Key]) -> list[HealthCheck]:
        return [self._checks.rows[key] for key in sorted(keys)]

    def node_checks(self, node: str) -> Read[list[HealthCheck]]:
        return self._topics.read(self._check_rows(self._checks.on_node[fold(node)]), node_checks_topic(fold(node)))

    def service_checks(self, name: str, meta: MetaFilters) -> Read[list[HealthCheck]]:
        """The checks of the instances themselves, without those of their nodes."""
        keys = self._checks.of_service[fold(name)]
        found = self._check_rows(self._on_matching_nodes(keys, meta) if meta else keys)
        return self._topics.read(found, service_checks_topic(fold(name)), *((NODES,) if meta else ()))

    def checks_in_state(self, state: str, meta: MetaFilters) -> Read[list[HealthCheck]]:
        keys = self._in_state(state)
        found = self._check_rows(self._on_matching_nodes(keys, meta) if meta else keys)
        topic = CHECKS if state == ANY else state_topic(state)
        return self._topics.read(found, topic, *((NODES,) if meta else ()))

    def _in_state(self, state: str) -> Iterable[Key]:
        rows = self._checks.rows
        if state == ANY:
            return rows
        if state == PASSING:
            return [key for key, check in rows.items() if check.status == PASSING]
        return self._checks.not_passing[state]

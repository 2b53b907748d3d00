"""The catalog's answers, each with its index and the topics that would change it.

An answer about one service is kept until something of that service changes: it is what DNS and load balancers ask for all day.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from discovery.model.query import Read, Topic
from discovery.model.records import ANY, CheckServiceNode, HealthCheck, Node, NodeService, ServiceNode
from discovery.model.requests import NodeInfo, NodeServiceList, NodeServices

from .catalog import CHECKS, EXTINCTION, NODES, SERVICES, Catalog, Key, service_index
from .config_entries import CONFIG_ENTRIES, ConfigEntries
from .lookup import fold, has_meta, has_tags
from .services import INGRESS_GATEWAY, service_node
from .tables import Indexes

MetaFilters = Mapping[str, str] | None

_SHORTEST_ID: Final = 2
"""An id may be cut down to this many characters when a node is looked up by it."""

_EVERYTHING: Final[tuple[Topic, ...]] = ((NODES,), (SERVICES,), (CHECKS,))


class CatalogReads:
    def __init__(self, catalog: Catalog, indexes: Indexes, config_entries: ConfigEntries) -> None:
        self._catalog = catalog
        self._nodes = catalog.nodes
        self._services = catalog.services
        self._checks = catalog.checks
        self._indexes = indexes
        self._config_entries = config_entries

    # --- nodes -------------------------------------------------------------------------------------------------------

    def nodes(self, meta_filters: MetaFilters) -> Read[list[Node]]:
        rows = self._nodes.rows
        found = [node for name in sorted(rows) if has_meta((node := rows[name]).meta, meta_filters)]
        return Read(self._indexes.newest(NODES), found, ((NODES,),))

    def node_services(self, name_or_id: str) -> Read[NodeServices | None]:
        node, topics = self._find(name_or_id)
        if node is None:
            return Read(0, None, topics)
        services = {service.id: service for service in self._services_on(node)}
        return Read(self._indexes.newest(NODES, SERVICES), NodeServices(node=node, services=services), topics)

    def node_service_list(self, name_or_id: str) -> Read[NodeServiceList]:
        node, topics = self._find(name_or_id)
        if node is None:
            return Read(0, NodeServiceList(), topics)
        answer = NodeServiceList(node=node, services=self._services_on(node))
        return Read(self._indexes.newest(NODES, SERVICES), answer, topics)

    def _find(self, name_or_id: str) -> tuple[Node | None, tuple[Topic, ...]]:
        """A node by name, else by id or the beginning of one if that is unambiguous."""
        name = fold(name_or_id)
        node = self._nodes.rows.get(name)
        if node is not None or len(name) < _SHORTEST_ID:
            return node, (("node", name),)
        ids = self._nodes.ids.under(name)
        first, second = next(ids, None), next(ids, None)
        node = self._nodes.with_id(first) if first is not None and second is None else None
        if node is None:
            return None, (("node", name),)
        return node, (("node", name), ("node", fold(node.node)))

    def _services_on(self, node: Node) -> list[NodeService]:
        return [self._services.rows[key] for key in sorted(self._services.on_node[fold(node.node)])]

    def _checks_on(self, node: Node) -> list[HealthCheck]:
        return self._check_rows(self._checks.on_node[fold(node.node)])

    def node_info(self, name: str) -> Read[list[NodeInfo]]:
        node = self._nodes.rows.get(fold(name))
        found = [self._info(node)] if node is not None else []
        return Read(self._ui_index(), found, (("node", fold(name)), ("node-checks", fold(name))))

    def node_dump(self) -> Read[list[NodeInfo]]:
        rows = self._nodes.rows
        return Read(self._ui_index(), [self._info(rows[name]) for name in sorted(rows)], _EVERYTHING)

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

    def _ui_index(self) -> int:
        return self._indexes.newest(NODES, SERVICES, CHECKS)

    # --- services ----------------------------------------------------------------------------------------------------

    def services(self, meta_filters: MetaFilters) -> Read[dict[str, list[str]]]:
        """Every service name with the tags of all its instances."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._services.named):
            instances = [self._services.rows[key] for key in self._on_matching_nodes(self._services.named[name], meta_filters)]
            if instances:
                found[instances[0].service] = sorted({tag for service in instances for tag in service.tags})
        if meta_filters:
            return Read(self._indexes.newest(NODES, SERVICES), found, ((SERVICES,), (NODES,)))
        return Read(self._indexes.newest(SERVICES), found, ((SERVICES,),))

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
        keys, index, topics = self._instances(name, connect=connect, ingress=ingress, checks=False)
        rows = (
            service_node(self._nodes.rows[key[0]], service)
            for key in self._on_matching_nodes(keys, meta_filters)
            if has_tags((service := self._services.rows[key]).tags, tags)
        )
        found = [row for row in rows if not address or address == (row.service_address or row.address)]
        return Read(index, found, topics)

    def check_service_nodes(
        self, name: str, *, tags: Sequence[str], connect: bool, ingress: bool, meta: MetaFilters
    ) -> Read[list[CheckServiceNode]]:
        if connect or ingress:
            keys, index, topics = self._instances(name, connect=connect, ingress=ingress, checks=True)
            found = self._with_checks(keys)
        else:
            folded = fold(name)
            index, topics = self._service_index(folded, checks=True), (("service", folded),)
            kept = self._catalog.health.get(folded)
            if kept is None:
                kept = self._catalog.health[folded] = self._with_checks(self._services.named[folded])
            found = list(kept)
        if tags or meta:
            found = [row for row in found if has_tags(row.service.tags, tags) and has_meta(row.node.meta, meta)]
        return Read(index, found, topics)

    def _instances(
        self, name: str, *, connect: bool, ingress: bool, checks: bool
    ) -> tuple[Iterable[Key], int, tuple[Topic, ...]]:
        """Which instances a service query means, the index to report and the topics to watch."""
        folded = fold(name)
        tables = (NODES, SERVICES, CHECKS) if checks else (NODES, SERVICES)
        if connect:
            return self._services.connect[folded], self._indexes.newest(NODES, SERVICES, CHECKS), (("connect", folded),)
        if ingress:
            return self._gateways(folded, tables)
        if not name:
            return self._services.rows, self._indexes.newest(*tables), ((NODES,), (SERVICES,))
        return self._services.named[folded], self._service_index(folded, checks=checks), (("service", folded),)

    def _gateways(self, name: str, tables: tuple[str, ...]) -> tuple[list[Key], int, tuple[Topic, ...]]:
        """Instances of the ingress gateways that expose a service."""
        gateways = [fold(gateway) for gateway in self._config_entries.ingress_gateways_of(name)]
        rows = self._services.rows
        keys = [key for gateway in gateways for key in self._services.named[gateway] if rows[key].kind == INGRESS_GATEWAY]
        topics = ((CONFIG_ENTRIES,), *(("service", gateway) for gateway in gateways))
        return keys, self._indexes.newest(*tables, CONFIG_ENTRIES), topics

    def _service_index(self, name: str, *, checks: bool) -> int:
        indexes = self._indexes
        if self._services.named[name]:
            return indexes.newest(service_index(name))
        extinction = indexes.rows.get(EXTINCTION)
        if extinction is not None:
            return extinction
        return indexes.newest(NODES, SERVICES, CHECKS) if checks else indexes.newest(NODES, SERVICES)

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
        return Read(self._ui_index(), self._with_checks(keys), _EVERYTHING)

    # --- checks ------------------------------------------------------------------------------------------------------

    def _check_rows(self, keys: Iterable[Key]) -> list[HealthCheck]:
        return [self._checks.rows[key] for key in sorted(keys)]

    def node_checks(self, node: str) -> Read[list[HealthCheck]]:
        found = self._check_rows(self._checks.on_node[fold(node)])
        return Read(self._indexes.newest(CHECKS), found, (("node-checks", fold(node)),))

    def service_checks(self, name: str, meta: MetaFilters) -> Read[list[HealthCheck]]:
        """The checks of the instances themselves, without those of their nodes."""
        instances = self._on_matching_nodes(self._services.named[fold(name)], meta)
        found = self._check_rows(check for key in instances for check in self._checks.of_instance[key])
        return Read(self._indexes.newest(CHECKS), found, (("service", fold(name)),))

    def checks_in_state(self, state: str, meta: MetaFilters) -> Read[list[HealthCheck]]:
        keys = [key for key, check in self._checks.rows.items() if state in (ANY, check.status)]
        found = self._check_rows(self._on_matching_nodes(keys, meta))
        return Read(self._indexes.newest(CHECKS), found, ((CHECKS,), (NODES,)) if meta else ((CHECKS,),))

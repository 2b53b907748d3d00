"""The catalog: nodes, the services on them, the checks on both. This file changes it, `catalog_reads` answers from it.

Nodes go by name, in any case; a node may have an id, which survives a change of name. Every service name has an index of its own:
it moves with its instances, their checks, the node-level checks of their nodes and the nodes themselves, so that who watches one
service is not woken for another. Source: Consul's catalog documentation; which write moves what was measured on 1.8.7.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.records import (
    CRITICAL,
    DEFAULT_WEIGHTS,
    SERF_CHECK_ID,
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    check_type,
)
from discovery.model.requests import DeregisterRequest, RegisterRequest

from .coordinates import Coordinates
from .lookup import fold
from .refusals import explained
from .services import check_meta, check_service, connect_name
from .sessions import Sessions
from .tables import Changes, Group, Indexes, Names, Table

NODES: Final = "nodes"
SERVICES: Final = "services"
CHECKS: Final = "checks"
EXTINCTION: Final = "service-extinction"
"""When a service name last lost its last instance."""

Key = tuple[str, str]
"""Folded node name, then folded service id or check id."""


def service_index(name: str) -> str:
    """Under which name the index of a service is kept; `name` is folded."""
    return f"service/{name}"


class NodeTable(Table[str, Node]):
    """Nodes by folded name, and the names by folded id."""

    def __init__(self, changes: Changes) -> None:
        self.names_of_id: Group[str, str, Node] = Group(lambda _name, node: [fold(node.id)] if node.id else [])
        self.ids = Names()
        super().__init__(changes, self.names_of_id)

    def _place(self, key: str, old: Node | None, new: Node | None) -> None:
        super()._place(key, old, new)
        was, now = fold(old.id) if old is not None else "", fold(new.id) if new is not None else ""
        if was != now:
            if was:
                self.ids.remove(was)
            if now:
                self.ids.add(now)

    def with_id(self, node_id: str) -> Node | None:
        names = self.names_of_id[fold(node_id)] if node_id else ()
        return self.rows[min(names)] if names else None


class ServiceTable(Table[Key, NodeService]):
    def __init__(self, changes: Changes) -> None:
        self.on_node: Group[str, Key, NodeService] = Group(lambda key, _service: [key[0]])
        self.named: Group[str, Key, NodeService] = Group(lambda _key, service: [fold(service.service)])
        self.connect: Group[str, Key, NodeService] = Group(_connect_names)
        super().__init__(changes, self.on_node, self.named, self.connect)


def _connect_names(_key: Key, service: NodeService) -> list[str]:
    name = connect_name(service)
    return [] if name is None else [name]


class CheckTable(Table[Key, HealthCheck]):
    """`of_instance` has the checks of a service instance under its key, those of a whole node under (node, "")."""

    def __init__(self, changes: Changes) -> None:
        self.on_node: Group[str, Key, HealthCheck] = Group(lambda key, _check: [key[0]])
        self.of_instance: Group[Key, Key, HealthCheck] = Group(lambda key, check: [(key[0], fold(check.service_id))])
        super().__init__(changes, self.on_node, self.of_instance)


class Catalog:
    def __init__(self, changes: Changes, indexes: Indexes, sessions: Sessions, coordinates: Coordinates) -> None:
        self.nodes = NodeTable(changes)
        self.services = ServiceTable(changes)
        self.checks = CheckTable(changes)
        self.health: dict[str, list[CheckServiceNode]] = {}
        """Answers about whole services by folded name, for as long as nothing of them changes."""
        self._changes = changes
        self._indexes = indexes
        self._sessions = sessions
        self._coordinates = coordinates

    def find_node(self, name: str) -> Node | None:
        return self.nodes.rows.get(fold(name))

    def find_service(self, node: str, service_id: str) -> NodeService | None:
        return self.services.rows.get((fold(node), fold(service_id)))

    def find_check(self, node: str, check_id: str) -> HealthCheck | None:
        return self.checks.rows.get((fold(node), fold(check_id)))

    # --- registration ------------------------------------------------------------------------------------------------

    def register(self, request: RegisterRequest) -> None:
        """Node, service and checks at once; what is the same already stays untouched."""
        if request.service is not None:
            check_service(request.service)
        self._register_node(request)
        if request.service is not None:
            with explained("failed inserting service: "):
                self.put_service(request.node, request.service)
        for check in [*([request.check] if request.check is not None else []), *(request.checks or ())]:
            self._register_check(request.node, check)

    def _register_node(self, request: RegisterRequest) -> None:
        known = self.find_node(request.node)
        if known is not None and request.skip_node_update:
            return
        node = Node(
            id=request.id,
            node=request.node,
            address=request.address,
            datacenter=request.datacenter or (known.datacenter if known is not None else ""),
            tagged_addresses=request.tagged_addresses,
            meta=request.node_meta,
        )
        with explained("failed inserting node: "):
            self.put_node(node)

    def _register_check(self, node: str, check: HealthCheck) -> None:
        if check.node and fold(check.node) != fold(node):
            raise RequestFailed(f'check node "{check.node}" does not match node "{node}"')
        with explained("failed inserting check: ", f' on node "{node}"'):
            self.put_check(replace(check, node=node))

    def deregister(self, request: DeregisterRequest) -> None:
        if request.service_id:
            self.remove_service(request.node, request.service_id)
        elif request.check_id:
            self.remove_check(request.node, request.check_id)
        else:
            self.remove_node(request.node)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        """Insert or change a node; an id that is known under another name renames the node, which empties it."""
        known = self.nodes.with_id(node.id) if node.id else None
        if known is not None and fold(known.node) != fold(node.node):
            self._check_name_is_free(node, f'Error while renaming Node ID: "{node.id}" ({node.address})', may_adopt=False)
            self.remove_node(known.node)
        elif known is None:
            if node.id:
                self._check_name_is_free(node, f'Error while renaming Node ID: "{node.id}"', may_adopt=True)
            known = self.find_node(node.node)
        index = self._changes.index
        if known is None:
            node = replace(node, create_index=index, modify_index=index)
        else:
            node = replace(node, create_index=known.create_index, modify_index=known.modify_index)
            if node == known:
                return
            node = replace(node, modify_index=index)
        key = fold(node.node)
        self.nodes.put(key, node)
        self._touch_node(key)
        self._changes.topics.append(("node", fold(node.id)))
        self._touch_services_of(key)

    def _check_name_is_free(self, node: Node, problem: str, *, may_adopt: bool) -> None:
        """A name whose agent is alive belongs to it; one that has no id may be adopted."""
        holder = self.find_node(node.node)
        if holder is None or fold(holder.id) == fold(node.id) or (may_adopt and not holder.id):
            return
        serf = self.find_check(holder.node, SERF_CHECK_ID)
        if serf is not None and serf.status != CRITICAL:
            reserved = f"Node name {node.node} is reserved by node {holder.id} with name {holder.node} ({holder.address})"
            raise RequestFailed(f"{problem}: {reserved}")

    def remove_node(self, name: str) -> None:
        """With all its services, checks, sessions and coordinates. Without effect if there is no such node."""
        key = fold(name)
        if key not in self.nodes.rows:
            return
        for service_key in sorted(self.services.on_node[key]):
            self._remove_service(service_key)
        for check_key in sorted(self.checks.on_node[key]):
            self._remove_check(check_key)
        self._coordinates.forget(key)
        self.nodes.remove(key)
        self._touch_node(key)
        self._sessions.end_of_node(key)

    # --- services ----------------------------------------------------------------------------------------------------

    def put_service(self, node: str, service: NodeService) -> None:
        key = (fold(node), fold(service.id))
        with explained(f"Invalid Service Meta for node {node} and serviceID {service.id}: "):
            check_meta(service.meta)
        if key[0] not in self.nodes.rows:
            raise RequestFailed("Missing node registration")
        if not service.id:
            raise RequestFailed("failed inserting service: object missing primary index")
        known = self.services.rows.get(key)
        index = self._changes.index
        weights = service.weights or DEFAULT_WEIGHTS
        created, modified = (known.create_index, known.modify_index) if known is not None else (index, index)
        service = replace(service, weights=weights, create_index=created, modify_index=modified)
        if service == known:
            return
        self.services.put(key, replace(service, modify_index=index))
        if known is not None:
            self._leave(known)
        self._touch_service(key)
        self._indexes.move(SERVICES)
        self._changes.topics += [(SERVICES,), ("node", key[0])]

    def _leave(self, service: NodeService) -> None:
        """An instance is no longer what it was: tell those who looked for it under the names it had."""
        name = fold(service.service)
        self._touch_name(name, connect_name(service))
        if not self.services.named[name]:
            self._indexes.remove(service_index(name))
            self._indexes.move(EXTINCTION)

    def remove_service(self, node: str, service_id: str) -> None:
        key = (fold(node), fold(service_id))
        if key in self.services.rows:
            self._remove_service(key)

    def _remove_service(self, key: Key) -> None:
        for check_key in sorted(self.checks.of_instance[key]):
            self._remove_check(check_key)
        self._indexes.move(CHECKS)
        service = self.services.rows[key]
        self.services.remove(key)
        self._leave(service)
        self._indexes.move(SERVICES)
        self._changes.topics += [(SERVICES,), ("node", key[0])]

    # --- checks ------------------------------------------------------------------------------------------------------

    def put_check(self, check: HealthCheck) -> HealthCheck:
        """Insert or change a check; sessions that hang on it end if it is critical."""
        node = self.find_node(check.node)
        if node is None:
            raise RequestFailed("Missing node registration")
        if not check.check_id:
            raise RequestFailed("failed inserting check: object missing primary index")
        key = (fold(node.node), fold(check.check_id))
        known = self.checks.rows.get(key)
        check = self._completed(check, node)
        index = self._changes.index
        created, modified = (known.create_index, known.modify_index) if known is not None else (index, index)
        check = replace(check, create_index=created, modify_index=modified)
        self._indexes.move(CHECKS)
        if check.status == CRITICAL:
            self._sessions.end_of_check(*key)
        if check == known:
            return check
        check = replace(check, modify_index=index)
        self.checks.put(key, check)
        for version in (known, check):
            if version is not None:
                self._touch_check(key[0], version)
        return check

    def _completed(self, check: HealthCheck, node: Node) -> HealthCheck:
        changes: dict[str, object] = {"node": node.node, "status": check.status or CRITICAL}
        if not check.type:
            changes["type"] = check_type(check.definition)
        if check.service_id:
            service = self.find_service(node.node, check.service_id)
            if service is None:
                raise RequestFailed("Missing service registration")
            changes |= {"service_name": service.service, "service_tags": service.tags}
        return replace(check, **changes)

    def remove_check(self, node: str, check_id: str) -> None:
        key = (fold(node), fold(check_id))
        if key in self.checks.rows:
            self._remove_check(key)

    def _remove_check(self, key: Key) -> None:
        check = self.checks.rows[key]
        self.checks.remove(key)
        self._touch_check(key[0], check)
        self._indexes.move(CHECKS)
        if not check.service_id:
            self._indexes.move(SERVICES)
        self._sessions.end_of_check(*key)

    # --- indexes and watches -----------------------------------------------------------------------------------------

    def _touch_node(self, key: str) -> None:
        self._indexes.move(NODES)
        self._changes.topics += [(NODES,), ("node", key)]

    def _touch_check(self, node: str, check: HealthCheck) -> None:
        self._changes.topics += [(CHECKS,), ("node-checks", node)]
        if check.service_id:
            self._touch_service((node, fold(check.service_id)))
        else:
            self._touch_services_of(node)

    def _touch_services_of(self, node: str) -> None:
        for key in self.services.on_node[node]:
            self._touch_service(key)

    def _touch_service(self, key: Key) -> None:
        service = self.services.rows.get(key)
        if service is not None:
            name = fold(service.service)
            self._indexes.move(service_index(name))
            self._touch_name(name, connect_name(service))

    def _touch_name(self, name: str, connect: str | None) -> None:
        if self.services.named[name]:
            self._indexes.move(service_index(name))
        self.health.pop(name, None)
        self._changes.topics.append(("service", name))
        if connect is not None:
            self._changes.topics.append(("connect", connect))

    def load(self, nodes: Iterable[Node], services: Iterable[tuple[str, NodeService]], checks: Iterable[HealthCheck]) -> None:
        """Take up the rows of a snapshot."""
        self.nodes.load({fold(node.node): node for node in nodes})
        self.services.load({(fold(node), fold(service.id)): service for node, service in services})
        self.checks.load({(fold(check.node), fold(check.check_id)): check for check in checks})

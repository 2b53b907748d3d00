"""The catalog: nodes, the services on them, the checks on both. This file changes it, `catalog_reads` answers from it.

Nodes go by name, in any case; a node may have an id, which survives a change of name. Every service name is a topic of its own,
touched with its instances, their checks, the node-level checks of their nodes and the nodes themselves, so that who watches one
service is not woken for another. Source: Consul's catalog documentation; which write touches what was measured on 1.8.7.
"""

from collections.abc import Iterable
from sys import intern
from typing import Final

from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.query import Topic
from discovery.model.records import (
    CRITICAL,
    DEFAULT_WEIGHTS,
    NO_CONNECT,
    NO_DEFINITION,
    NO_PROXY,
    PASSING,
    SERF_CHECK_ID,
    WARNING,
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    Weights,
    check_type,
)
from discovery.model.requests import DeregisterRequest, RegisterRequest
from discovery.model.service_rules import weights_problem

from .catalog_tables import CheckTable, Key, NodeTable, ServiceTable
from .coordinates import Coordinates
from .lookup import fold
from .refusals import explained
from .services import check_meta, checked_service, connect_name
from .sessions import Sessions
from .tables import Changes, Topics, with_shared_index

NODES: Final = ("nodes",)
SERVICES: Final = ("services",)
"""All instances."""
SERVICE_NAMES: Final = ("service-names",)
"""Which services there are, and which tags."""
CHECKS: Final = ("checks",)

_USUAL_STATES: Final = frozenset({PASSING, WARNING, CRITICAL})
"""Any word may be a status; the topics of others end with their last check."""

ID_START: Final = 2
"""An id may be cut down to this many characters when a node is looked up by it."""


def node_topic(name_or_id: str) -> Topic:
    """A node and its services; the name or id is folded, as all names below."""
    return ("node", name_or_id)


def node_ids_topic(start: str) -> Topic:
    """Which nodes have an id that begins with `start`, of `ID_START` characters."""
    return ("node-ids", start)


def node_checks_topic(node: str) -> Topic:
    """All checks on a node."""
    return ("node-checks", node)


def state_topic(status: str) -> Topic:
    """All checks of a status."""
    return ("state", status)


def service_topic(name: str) -> Topic:
    return ("service", name)


def service_checks_topic(name: str) -> Topic:
    """The checks of a service's instances, without those of their nodes."""
    return ("service-checks", name)


def connect_topic(name: str) -> Topic:
    """The ways into a service through the mesh."""
    return ("connect", name)


class Catalog:
    def __init__(self, changes: Changes, topics: Topics, sessions: Sessions, coordinates: Coordinates) -> None:
        self.nodes = NodeTable(changes)
        self.services = ServiceTable(changes)
        self.checks = CheckTable(changes)
        self.health: dict[str, list[CheckServiceNode]] = {}
        """Answers about whole services by folded name, for as long as nothing of them changes."""
        self._changes = changes
        self._topics = topics
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
        service = checked_service(request.service) if request.service is not None else None
        self._register_node(request)
        if service is not None:
            with explained("failed inserting service: "):
                self.put_service(request.node, service)
        for check in [*(request.checks or ()), *([request.check] if request.check is not None else [])]:
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
            self.put_check(check, node)

    def deregister(self, request: DeregisterRequest) -> None:
        if request.service_id:
            self.remove_service(request.node, request.service_id)
        elif request.check_id:
            self.remove_check(request.node, request.check_id)
        else:
            self.remove_node(request.node)

    def settle(self) -> None:
        """The command is over: what it took away and gave back has not changed."""
        if self.services.turned:
            self.services.turned.clear()
            self._topics.touch(SERVICE_NAMES)

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
        self._store_node(node)

    def _store_node(self, node: Node) -> None:
        key = fold(node.node)
        before = self.nodes.rows.get(key)
        self.nodes.put(key, node)
        self._topics.touch(NODES, node_topic(key))
        was, now = fold(before.id) if before is not None else "", fold(node.id)
        if was and was != now:
            self._end_id(was)
        if now:
            self._topics.touch(node_topic(now))
        if now and now != was:
            self._topics.touch(node_ids_topic(now[:ID_START]))
        self._touch_services_of(key)

    def _end_id(self, node_id: str) -> None:
        self._topics.end(node_topic(node_id))
        self._topics.touch(node_ids_topic(node_id[:ID_START]))

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
        node = self.nodes.rows.get(key)
        if node is None:
            return
        for service_key in sorted(self.services.on_node[key]):
            self._remove_service(service_key)
        for check_key in sorted(self.checks.on_node[key]):
            self._remove_check(check_key)
        self._coordinates.forget(key)
        self.nodes.remove(key)
        self._topics.touch(NODES)
        self._topics.end(node_topic(key))
        self._topics.retire(node_checks_topic(key))
        if node.id:
            self._end_id(fold(node.id))
        self._sessions.end_of_node(key)

    # --- services ----------------------------------------------------------------------------------------------------

    def put_service(self, node: str, service: NodeService) -> None:
        key = (fold(node), fold(service.id))
        if service.meta:
            with explained(f"Invalid Service Meta for node {node} and serviceID {service.id}: "):
                check_meta(service.meta)
        if key[0] not in self.nodes.rows:
            raise RequestFailed("Missing node registration")
        if not service.id:
            raise RequestFailed("failed inserting service: object missing primary index")
        known = self.services.rows.get(key)
        index = self._changes.index
        created, modified = (known.create_index, known.modify_index) if known is not None else (index, index)
        service = replace(self._lean_service(service, known), create_index=created, modify_index=modified)
        if service == known:
            return
        self.services.put(key, replace(service, modify_index=index) if modified != index else service)
        self._service_changed(key[0], *((known,) if known is not None else ()), service)

    def remove_service(self, node: str, service_id: str) -> None:
        key = (fold(node), fold(service_id))
        if key in self.services.rows:
            self._remove_service(key)

    def _remove_service(self, key: Key) -> None:
        for check_key in sorted(self.checks.of_instance[key]):
            self._remove_check(check_key)
        service = self.services.rows[key]
        self.services.remove(key)
        self._service_changed(key[0], service)

    def _service_changed(self, node: str, *versions: NodeService) -> None:
        """An instance, given as it was and as it is, changed."""
        self._topics.touch(SERVICES, node_topic(node))
        for version in versions:
            name, connect = fold(version.service), connect_name(version)
            self.health.pop(name, None)
            self._touch_or_end(service_topic(name), lives=bool(self.services.named[name]))
            if connect is not None:
                self._touch_or_end(connect_topic(connect), lives=bool(self.services.connect[connect]))

    def _touch_or_end(self, topic: Topic, *, lives: bool) -> None:
        if lives:
            self._topics.touch(topic)
        else:
            self._topics.end(topic)

    # --- checks ------------------------------------------------------------------------------------------------------

    def put_check(self, check: HealthCheck, node_name: str) -> HealthCheck:
        """Insert or change a check; sessions that hang on it end if it is critical."""
        node_key = fold(node_name)
        node = self.nodes.rows.get(node_key)
        if node is None:
            raise RequestFailed("Missing node registration")
        if not check.check_id:
            raise RequestFailed("failed inserting check: object missing primary index")
        key = (node_key, fold(check.check_id))
        known = self.checks.rows.get(key)
        index = self._changes.index
        created, modified = (known.create_index, known.modify_index) if known is not None else (index, index)
        check = replace(self._completed(check, node), create_index=created, modify_index=modified)
        if check.status == CRITICAL:
            self._sessions.end_of_check(key)
        if check == known:
            return known
        if modified != index:
            check = replace(check, modify_index=index)
        self.checks.put(key, check)
        for version in (known, check):
            if version is not None:
                self._touch_check(node_key, version)
        return check

    def _completed(self, check: HealthCheck, node: Node) -> HealthCheck:
        name, tags = check.service_name, check.service_tags
        if check.service_id:
            service = self.find_service(node.node, check.service_id)
            if service is None:
                raise RequestFailed("Missing service registration")
            name, tags = service.service, service.tags
        return replace(
            check,
            node=node.node,
            status=intern(check.status or CRITICAL),
            type=intern(check.type or check_type(check.definition)),
            service_name=name,
            service_tags=tags,
            definition=NO_DEFINITION if check.definition == NO_DEFINITION else check.definition,
        )

    def remove_check(self, node: str, check_id: str) -> None:
        key = (fold(node), fold(check_id))
        if key in self.checks.rows:
            self._remove_check(key)

    def _remove_check(self, key: Key) -> None:
        check = self.checks.rows[key]
        self.checks.remove(key)
        self._touch_check(key[0], check)
        self._sessions.end_of_check(key)

    def _touch_check(self, node: str, check: HealthCheck) -> None:
        self._topics.touch(CHECKS, node_checks_topic(node))
        lives = check.status in _USUAL_STATES or bool(self.checks.not_passing[check.status])
        self._touch_or_end(state_topic(check.status), lives=lives)
        if check.service_id:
            name = fold(check.service_name)
            self._touch_service((node, fold(check.service_id)))
            self._touch_or_end(service_checks_topic(name), lives=bool(self.checks.of_service[name]))
        else:
            self._touch_services_of(node)

    def _touch_services_of(self, node: str) -> None:
        for key in self.services.on_node[node]:
            self._touch_service(key)

    def _touch_service(self, key: Key) -> None:
        """Something that is told along with an instance changed."""
        service = self.services.rows.get(key)
        if service is None:
            return
        name, connect = fold(service.service), connect_name(service)
        self.health.pop(name, None)
        self._topics.touch(service_topic(name))
        if connect is not None:
            self._topics.touch(connect_topic(connect))

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def load_nodes(self, nodes: Iterable[Node]) -> None:
        self.nodes.load({fold(node.node): with_shared_index(node) for node in nodes})

    def load_services(self, services: Iterable[tuple[str, NodeService]]) -> None:
        """`ValueError` if a node is missing."""
        for node_name, service in services:
            node = fold(self._loaded_node(node_name).node)
            self.services.load({(node, fold(service.id)): with_shared_index(self._lean_service(service, None))})
        self.services.turned.clear()

    def load_checks(self, checks: Iterable[HealthCheck]) -> None:
        """`ValueError` if a node is missing."""
        for check in checks:
            node = self._loaded_node(check.node).node
            service = self.find_service(node, check.service_id) if check.service_id else None
            check = with_shared_index(_lean_check(check, node, service))
            self.checks.load({(fold(node), fold(check.check_id)): check})

    def _lean_service(self, service: NodeService, known: NodeService | None) -> NodeService:
        """The same with what is usual or the same as in another instance of the service shared: there may be very many."""
        weights, proxy, connect = service.weights, service.proxy, service.connect
        like = known or self.services.any_named(fold(service.service)) or service
        return replace(
            service,
            service=like.service if like.service == service.service else service.service,
            tags=like.tags if like.tags == service.tags else service.tags,
            meta=like.meta if like.meta == service.meta else service.meta,
            weights=_usable(weights),
            proxy=NO_PROXY if proxy == NO_PROXY else proxy,
            connect=NO_CONNECT if connect == NO_CONNECT else connect,
        )

    def _loaded_node(self, name: str) -> Node:
        node = self.find_node(name)
        if node is None:
            raise ValueError(f'node "{name}" is missing')
        return node


def _usable(weights: Weights | None) -> Weights:
    """Weights that cannot be used count as none, as in Consul."""
    return DEFAULT_WEIGHTS if weights is None or weights == DEFAULT_WEIGHTS or weights_problem(weights) else weights


def _lean_check(check: HealthCheck, node: str, service: NodeService | None) -> HealthCheck:
    """The same with what it shares with its node and service, and its usual parts."""
    tags = check.service_tags
    return replace(
        check,
        node=node,
        status=intern(check.status),
        type=intern(check.type),
        service_id=service.id if service is not None and service.id == check.service_id else check.service_id,
        service_name=service.service if service is not None and service.service == check.service_name else check.service_name,
        service_tags=service.tags if service is not None and service.tags == tags else tags,
        definition=NO_DEFINITION if check.definition == NO_DEFINITION else check.definition,
    )

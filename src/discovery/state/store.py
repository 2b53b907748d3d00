"""The state store: what all servers agree on, as a function of the commands of the log and nothing else.

`apply` takes a block of commands. Each gets the next state index, whether or not it changes anything, and happens as a whole or
not at all; a refusal is its result. The watches over what changed fire once, after the block. Reads say as of which index their
answer is and which topics would change it. All of it runs on one thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from discovery.model import commands as c
from discovery.model.discovery_chain import Chain, ChainOverrides
from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.model.records import (
    AutopilotConfig,
    CheckServiceNode,
    DirEntry,
    HealthCheck,
    Intention,
    Node,
    NodeCoordinate,
    PreparedQuery,
    ServiceNode,
    Session,
)
from discovery.model.requests import (
    ChangesRequest,
    NodeInfo,
    NodeServiceList,
    NodeServices,
    RegisterManyResponse,
    RegisterRequest,
    TxnError,
    TxnOp,
    TxnResponse,
)

from .catalog_reads import MetaFilters
from .chains import Entry
from .feed import ChangesFound, Feed, describe, topics_of
from .intentions import Service
from .ordered import View
from .snapshot import InvalidSnapshot, RestoreRow, Snapshot
from .tables import Changes
from .txn import Txn
from .watches import Watches
from .world import Loading, World

Result = None | bool | str | TxnResponse | RegisterManyResponse | RequestFailed

LONG_LIST: Final = 20_000
"""Rows from which on a list is better made bit by bit."""
_NOT_WATCHED: Final = ()


class Usage(msgspec.Struct, frozen=True):
    """How much there is of what operators watch growing."""

    nodes: int
    services: int
    """Names."""
    instances: int
    keys: int


class StateStore:
    def __init__(self) -> None:
        self.index = 0
        """State index: how many commands were applied."""
        self.watches = Watches()
        self._changes = Changes()
        self._feed = Feed(0)
        self._restore: _Restore | None = None
        self._use(World(self._changes))

    def _use(self, world: World) -> None:
        self._world = world
        self._apply_kv = world.kv.apply
        self._handlers: Mapping[type, Callable[[Any], Result]] = {
            c.Register: lambda command: world.catalog.register(command.request),
            c.RegisterMany: self._apply_register_many,
            c.Deregister: lambda command: world.catalog.deregister(command.request),
            c.SessionChange: lambda command: world.sessions.apply(command.request, world.catalog),
            c.Txn: self._apply_txn,
            c.PreparedQueryChange: lambda command: world.queries.apply(command.request),
            c.ConfigEntryChange: lambda command: world.config_entries.apply(command.request),
            c.IntentionChange: lambda command: world.intentions.apply(command.request),
            c.CoordinateBatch: lambda command: world.coordinates.update(command.updates, world.catalog.nodes.rows),
            c.AutopilotChange: lambda command: world.autopilot.set(command.config, cas=command.cas),
            c.ReapTombstones: lambda command: world.reap(command.index),
            c.RestoreChunk: self._apply_restore,
        }

    # --- writes ------------------------------------------------------------------------------------------------------

    def apply(self, commands: Sequence[c.Command]) -> list[Result]:
        """Apply a block. Any exception but the refusals it returns means that this server must stop."""
        changes = self._changes
        results: list[Result] = []
        told = 0
        for command in commands:
            self.index += 1
            try:
                if type(command) is c.KV:
                    changes.index, changes.recording = self.index, False
                    results.append(self._apply_kv(command))
                else:
                    told = self._tell_keys(told)
                    changes.begin(self.index)
                    results.append(self._handlers[type(command)](command))
                    self._world.catalog.settle()
                    self._feed.note_rows(self.index, changes.journal, self._world.catalog)
            except RequestFailed as refusal:
                if changes.recording:
                    changes.undo()
                results.append(refusal)
        self._tell_keys(told)
        self._wake()
        return results

    def _tell_keys(self, told: int) -> int:
        """Put the keys that changed into the feed, but for the first `told` of this block, which are there; how many now are."""
        keys = self._changes.keys
        if len(keys) > told:
            self._feed.note_keys(self._changes.key_indexes[told:], keys[told:])
        return len(keys)

    def _wake(self) -> None:
        changes = self._changes
        topics, changes.topics = changes.topics, []
        keys, changes.keys, changes.key_indexes = changes.keys, [], []
        self.watches.fire(topics, keys)

    def _apply_txn(self, command: c.Txn) -> TxnResponse:
        request = command.request
        response = Txn(self._world.kv, self._world.catalog, request.datacenter).write(request.ops)
        if response.errors:
            self._changes.undo()
        return response

    def _apply_register_many(self, command: c.RegisterMany) -> RegisterManyResponse:
        """Every registration is tried, so that the caller learns of all that fail; if any does, none happens."""
        errors: list[TxnError] = []
        for number, request in enumerate(command.requests):
            try:
                self._world.catalog.register(request)
            except RequestFailed as refusal:
                errors.append(TxnError(op_index=number, what=refusal.text))
        if errors:
            self._changes.undo()
            return RegisterManyResponse(errors=errors)
        return RegisterManyResponse(changed=len(command.requests))

    def changes(self, request: ChangesRequest) -> Read[ChangesFound]:
        """The changes after the request's index. A caller who missed some is answered at once, as if there were news."""
        begun = request.min_query_index
        if begun > self.index:
            return Read(begun + 1, ChangesFound([], self.index, complete=False), _NOT_WATCHED)
        found, complete = self._feed.after(begun, request) if begun else ([], True)
        if not complete and not found:
            return Read(begun + 1, ChangesFound([], self.index, complete=False), _NOT_WATCHED)
        index = found[-1][0] if found else begun or self.index
        changes = [describe(changed, thing, self._world.kv, self._world.catalog) for changed, thing in found]
        return Read(index, ChangesFound(changes, index, complete=complete), topics_of(request))

    def is_registered(self, request: RegisterRequest) -> bool:
        """Whether registering this would change nothing; then it needs no place in the log."""
        if not self._is_known(request):
            return False
        changes = self._changes
        changes.begin(self.index + 1)
        try:
            self._world.catalog.register(request)
            return not changes.journal
        except RequestFailed:
            return False
        finally:
            changes.undo()

    def _is_known(self, request: RegisterRequest) -> bool:
        """Whether there is something of the name of everything in it: a look that spares new things the attempt."""
        catalog, node, service = self._world.catalog, request.node, request.service
        if catalog.find_node(node) is None:
            return False
        if service is not None and catalog.find_service(node, service.id or service.service) is None:
            return False
        return all(catalog.find_check(node, check.check_id) is not None for check in request.checks or ())

    def take_released_locks(self) -> list[tuple[str, int]]:
        """(key, lock-delay in nanoseconds) of every lock that an ended session held, since the last call."""
        released, self._changes.released = self._changes.released, []
        return released

    # --- KV and sessions ---------------------------------------------------------------------------------------------

    def kv_get(self, key: str) -> Read[DirEntry | None]:
        return self._world.kv.get(key)

    def kv_list(self, prefix: str) -> Read[list[DirEntry]]:
        return self._world.kv.list_under(prefix)

    def kv_is_long(self, prefix: str) -> bool:
        """Whether so much is under `prefix` that listing it at once holds up others."""
        return self._world.kv.ordered.has_many_under(prefix, LONG_LIST)

    def kv_view(self, prefix: str) -> Read[View[DirEntry]]:
        """What `kv_list` lists, to be read bit by bit; as of the highest index of all entries and the one given here."""
        return self._world.kv.view(prefix)

    def kv_keys(self, prefix: str, separator: str) -> Read[list[str]]:
        return self._world.kv.keys(prefix, separator)

    def usage(self) -> Usage:
        catalog = self._world.catalog
        return Usage(len(catalog.nodes.rows), len(catalog.services.tags), len(catalog.services.rows), len(self._world.kv.rows))

    def has_tombstones(self, index: int) -> bool:
        """Whether `ReapTombstones(index)` would have anything to do."""
        return self._world.has_ended(index)

    def session_get(self, session_id: str) -> Read[Session | None]:
        return self._world.sessions.get(session_id)

    def session_list(self) -> Read[list[Session]]:
        return self._world.sessions.list_all()

    def node_sessions(self, node: str) -> Read[list[Session]]:
        return self._world.sessions.of_node(node)

    def sessions_with_ttl(self) -> list[Session]:
        return self._world.sessions.with_ttl()

    def txn_read(self, ops: Sequence[TxnOp]) -> Read[TxnResponse]:
        return Read(self.index, Txn(self._world.kv, self._world.catalog).read(ops), _NOT_WATCHED)

    # --- catalog -----------------------------------------------------------------------------------------------------

    def nodes(self, meta_filters: MetaFilters = None) -> Read[list[Node]]:
        return self._world.reads.nodes(meta_filters)

    def services(self, meta_filters: MetaFilters = None) -> Read[dict[str, list[str]]]:
        return self._world.reads.services(meta_filters)

    def service_nodes(
        self,
        name: str,
        *,
        tags: Sequence[str] = (),
        tag_filter: bool = False,
        address: str = "",
        connect: bool = False,
        ingress: bool = False,
        meta_filters: MetaFilters = None,
    ) -> Read[list[ServiceNode]]:
        return self._world.reads.service_nodes(
            name, tags=tags if tag_filter else (), address=address, connect=connect, ingress=ingress, meta_filters=meta_filters
        )

    def check_service_nodes(
        self,
        name: str,
        *,
        tags: Sequence[str] = (),
        connect: bool = False,
        ingress: bool = False,
        meta: MetaFilters = None,
    ) -> Read[list[CheckServiceNode]]:
        return self._world.reads.check_service_nodes(name, tags=tags, connect=connect, ingress=ingress, meta=meta)

    def node_services(self, node_name_or_id: str) -> Read[NodeServices | None]:
        return self._world.reads.node_services(node_name_or_id)

    def node_service_list(self, node_name_or_id: str) -> Read[NodeServiceList]:
        return self._world.reads.node_service_list(node_name_or_id)

    def node_checks(self, node: str) -> Read[list[HealthCheck]]:
        return self._world.reads.node_checks(node)

    def service_checks(self, name: str, meta: MetaFilters = None) -> Read[list[HealthCheck]]:
        return self._world.reads.service_checks(name, meta)

    def checks_in_state(self, state: str, meta: MetaFilters = None) -> Read[list[HealthCheck]]:
        return self._world.reads.checks_in_state(state, meta)

    def node_info(self, node: str) -> Read[list[NodeInfo]]:
        return self._world.reads.node_info(node)

    def node_dump(self) -> Read[list[NodeInfo]]:
        return self._world.reads.node_dump()

    def service_dump(self, kind: str | None = None) -> Read[list[CheckServiceNode]]:
        return self._world.reads.service_dump(kind)

    def coordinates(self) -> Read[list[NodeCoordinate]]:
        return self._world.coordinates.list_all()

    def coordinate(self, node: str) -> Read[list[NodeCoordinate]]:
        return self._world.coordinates.of_node(node)

    # --- documents ---------------------------------------------------------------------------------------------------

    def query_get(self, query_id: str) -> Read[PreparedQuery | None]:
        return self._world.queries.get(query_id)

    def query_list(self) -> Read[list[PreparedQuery]]:
        return self._world.queries.list_all()

    def query_resolve(self, id_or_name: str, segment: str = "") -> Read[PreparedQuery | None]:
        return self._world.queries.resolve(id_or_name, segment)

    def config_entry_get(self, kind: str, name: str) -> Read[Entry | None]:
        return self._world.config_entries.get(kind, name)

    def discovery_chain(self, service: str, datacenter: str, overrides: ChainOverrides) -> Read[Chain]:
        return self._world.config_entries.chain(service, datacenter, overrides)

    def config_entry_list(self, kind: str) -> Read[list[Entry]]:
        return self._world.config_entries.list_kind(kind)

    def intention_get(self, intention_id: str) -> Read[Intention | None]:
        return self._world.intentions.get(intention_id)

    def intention_list(self) -> Read[list[Intention]]:
        return self._world.intentions.list_all()

    def intention_match(self, by: str, services: Sequence[Service]) -> Read[list[list[Intention]]]:
        return self._world.intentions.match(by, services)

    def intention_allows(self, source: Service, destination: Service) -> bool | None:
        return self._world.intentions.allows(source, destination)

    def autopilot_config(self) -> Read[AutopilotConfig | None]:
        return self._world.autopilot.get()

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def capture(self) -> Snapshot:
        """The state as it is now, at next to no cost."""
        restore = self._restore
        pieces = [RestoreRow(restore.restore_id, piece) for piece in restore.pieces] if restore is not None else []
        return self._world.capture(self.index, pieces)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over a snapshot, index and all; raises `InvalidSnapshot` and changes nothing if it is not whole."""
        self.adopt(self.read(chunks))

    def read(self, chunks: Iterable[bytes]) -> "Loaded":
        """Read a snapshot without taking it over; another thread may do so. Raises `InvalidSnapshot`."""
        loading = Loading(self._changes)
        for chunk in chunks:
            loading.feed(chunk)
        return Loaded(loading.finish(), loading)

    def adopt(self, loaded: "Loaded") -> None:
        """Take over what `read` has read."""
        self.index = loaded.index
        self._take_over(loaded.loading.world)
        for row in loaded.loading.restore:
            self._add_piece(row.restore_id, row.data)

    def _take_over(self, world: World) -> None:
        self._use(world)
        self._restore = None
        self._feed.restart(self.index)
        self.watches.fire_all()

    def _add_piece(self, restore_id: str, piece: bytes) -> Loading:
        if self._restore is None or self._restore.restore_id != restore_id:
            self._restore = _Restore(restore_id, [], Loading(self._changes))
        self._restore.pieces.append(piece)
        self._restore.loading.feed(piece)
        return self._restore.loading

    def _apply_restore(self, command: c.RestoreChunk) -> None:
        """Take in a piece of a restore; with the last one the state is replaced, and the index goes on from the higher one."""
        try:
            loading = self._add_piece(command.restore_id, command.data)
            index = loading.finish() if command.last else None
        except InvalidSnapshot:
            self._restore = None
            raise
        if index is not None:
            self.index = max(self.index, index)
            self._take_over(loading.world)


class Loaded(msgspec.Struct, frozen=True):
    """A snapshot that was read: its state index, and the state."""

    index: int
    loading: Loading


class _Restore(msgspec.Struct, frozen=True):
    """A restore that is going on."""

    restore_id: str
    pieces: list[bytes]
    loading: Loading

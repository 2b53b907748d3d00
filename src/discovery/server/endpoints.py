"""A server's answers: the server side of the seam that HTTP, DNS and RPC ask.

The way of a request: another datacenter -> refused or forwarded; needs the leader and we are not it -> forwarded to it; a read
-> the store, after whatever its consistency asks for; a write -> a command through the log.

Consistency. *stale*: any server, at once. *default*: the leader, from its state, as long as its lease holds; without a lease
it asks a quorum first, so that a deposed leader answers nothing old beyond the clock assumption of the lease. *consistent*:
the leader after a quorum has confirmed it (ReadIndex).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.delegate import LeaderContact
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError, NoLeader, NoPathToDatacenter, RequestFailed
from discovery.model.methods import METHODS
from discovery.model.query import Read
from discovery.model.records import Record
from discovery.state.store import StateStore
from discovery.telemetry import Metrics

from .blocking import BlockingQueries
from .locks import LockDelays
from .long_lists import list_keys
from .prepared_queries import PreparedQueries
from .reads import STORE_READS, StoreRead
from .replica import Replica
from .writes import WritePolicy, query_not_found, require_uuid

_NAMESPACE = "default"
RPC_HOLD_TIME = 7.0
"""Seconds that a request waits for a leader (Consul's `rpc_hold_timeout`)."""


class ServerAnswer(msgspec.Struct, gc=False):
    """See `model.delegate.WatchedAnswer`."""

    reply: Any
    watch: Any = None


class LeaderLink(Protocol):
    """How a follower reaches its leader."""

    async def call(self, address: str, method: str, request: Record) -> Any:
        """Raises `DiscoveryError`; `NoLeader` if the one asked does not lead, or was not reached and has not acted."""


Elsewhere = Callable[[str, str, Record], Awaitable[Any]]
"""Asks another datacenter: its name, method, request."""


async def no_elsewhere(datacenter: str, method: str, request: Record) -> Any:
    """A server that knows its own datacenter alone."""
    raise NoPathToDatacenter


class Endpoints:
    """Answers RPC methods on a server. `hold_time` is seconds."""

    def __init__(
        self,
        *,
        datacenter: str,
        replica: Replica,
        store: StateStore,
        link: LeaderLink,
        blocking: BlockingQueries,
        policy: WritePolicy,
        rng: random.Random,
        hold_time: float = RPC_HOLD_TIME,
        elsewhere: Elsewhere = no_elsewhere,
        others: Callable[[], Sequence[str]] = tuple,
        no_leader_reason: Callable[[], str] = lambda: "",
        metrics: Metrics,
    ) -> None:
        self._datacenter = datacenter
        self._replica = replica
        self._store = store
        self._link = link
        self._blocking = blocking
        self._rng = rng
        self._hold_time = hold_time
        self._elsewhere = elsewhere
        self._no_leader_reason = no_leader_reason
        self._metrics = metrics
        self._meters = {
            "KVS.Apply": metrics.kvs_apply,
            "Txn.Apply": metrics.txn_apply,
            "Session.Apply": metrics.session_apply,
            "Catalog.Register": metrics.catalog_register,
            "Catalog.Deregister": metrics.catalog_deregister,
            "PreparedQuery.Apply": metrics.prepared_query_apply,
            "PreparedQuery.Execute": metrics.prepared_query_execute,
            "Session.Renew": metrics.session_renew,
            "Txn.Read": metrics.txn_read,
        }
        self._lookups = {
            "Catalog.ServiceNodes": (metrics.catalog_service_query, metrics.catalog_service_not_found),
            "Health.ServiceNodes": (metrics.health_service_query, metrics.health_service_not_found),
        }
        self._policy = policy
        self._delays = LockDelays(store)
        self._queries = PreparedQueries(store=store, datacenter=datacenter, rng=rng, elsewhere=elsewhere, others=others)
        self._special: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        self._stale: set[str] = set()
        self._anywhere: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        self._prepare: Mapping[str, Callable[[Any], Any]] = {
            "KVS.Apply": policy.kv,
            "Catalog.Register": policy.register,
            "Catalog.Deregister": policy.deregister,
            "Session.Apply": policy.session,
            "Txn.Apply": policy.txn,
            "PreparedQuery.Apply": policy.prepared_query,
            "ConfigEntry.Apply": policy.config_entry,
            "Intention.Apply": policy.intention,
            "Operator.AutopilotSetConfiguration": policy.autopilot,
        }
        self._add_own_endpoints()

    def serve(
        self, method: str, handler: Callable[[Any], Awaitable[Any]], *, anywhere: bool = False, stale: bool = False
    ) -> None:
        """Add an endpoint that needs more than the store.

        `anywhere`: any server answers it, leader or not. `stale`: any server if the request allows it, else the leader.
        """
        (self._anywhere if anywhere else self._special)[method] = handler
        if stale:
            self._stale.add(method)

    def _add_own_endpoints(self) -> None:
        self.serve("Internal.Changes", self._changes, stale=True)
        self.serve("Catalog.RegisterMany", self._register_many)
        self.serve("PreparedQuery.Get", self._query_get, stale=True)
        self.serve("PreparedQuery.Execute", self._query_execute, stale=True)
        self.serve("PreparedQuery.ExecuteRemote", self._query_execute_remote, stale=True)
        self.serve("PreparedQuery.Explain", self._query_explain, stale=True)
        self.serve("Intention.Get", self._intention_get, stale=True)
        self.serve("Intention.Match", self._intention_match, stale=True)
        self.serve("Intention.Check", self._intention_check, stale=True)
        self.serve("Txn.Read", self._txn_read, stale=True)
        self.serve("Operator.AutopilotGetConfiguration", self._autopilot_get, stale=True)

    # --- the seam ----------------------------------------------------------------------------------------------------

    async def call(self, method: str, request: Any) -> Any:
        return (await self.ask(method, request)).reply

    async def ask(self, method: str, request: Any) -> ServerAnswer:
        datacenter = getattr(request, "datacenter", "")
        if datacenter and datacenter != self._datacenter:
            return ServerAnswer(await self._elsewhere(datacenter, method, request))
        handler = self._anywhere.get(method)
        if handler is not None:
            return ServerAnswer(await handler(request))
        if self._replica.stopped:
            raise NoLeader("this server has stopped")
        if getattr(request, "allow_stale", False) and (method in STORE_READS or method in self._stale):
            return await self._answer_stale(method, request)
        if self._replica.leader_ready:
            try:
                return await self._answer_as_leader(method, request)
            except NoLeader:
                # Office was lost before anything was done: ask whoever leads next.
                pass
        return await self._ask_who_leads(method, request)

    async def _ask_who_leads(self, method: str, request: Any) -> ServerAnswer:
        deadline = asyncio.get_running_loop().time() + self._hold_time
        while True:
            forwarded = await self._forward(method, request, deadline)
            if forwarded is not None:
                return forwarded
            try:
                return await self._answer_as_leader(method, request)
            except NoLeader:
                await self._wait_for_leader(deadline)

    def collect_released_locks(self) -> None:
        """Called after each pass of apply: lock-delays begin."""
        if self._replica.replaying:
            self._delays.forget()
        else:
            self._delays.collect()

    def leads(self) -> bool:
        return self._replica.leader_ready and self._replica.lease_valid()

    def contact(self) -> LeaderContact | None:
        replica = self._replica
        if replica.stopped or self._has_no_news():
            return None
        return LeaderContact(replica.known_leader, int(replica.last_contact() * 1e9))

    def _has_no_news(self) -> bool:
        """Whether this server never had a leader: what it holds may be anything, however stale a reader bears it."""
        return not self._replica.known_leader and self._replica.never_had_leader

    async def confirm(self) -> bool:
        """Whether a quorum confirms that we lead; everything committed until now is applied then."""
        if not self._replica.leader_ready:
            return False
        try:
            await self._confirm()
        except NoLeader:
            return False
        return True

    # --- where to answer ---------------------------------------------------------------------------------------------

    async def _forward(self, method: str, request: Any, deadline: float) -> ServerAnswer | None:
        """Ask the leader, waiting for one until `deadline`. None: we became the leader meanwhile."""
        while not self._replica.leader_ready:
            address = self._replica.leader_address
            if address and not self._replica.is_leader:
                try:
                    return ServerAnswer(await self._link.call(address, method, request))
                except NoLeader:
                    pass
            await self._wait_for_leader(deadline)
        return None

    async def _wait_for_leader(self, deadline: float) -> None:
        """Until another leader is known, or for a random sixteenth of the hold time; raises `NoLeader` after `deadline`."""
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            raise NoLeader(self._no_leader_reason())
        await self._replica.leadership_changed(min(remaining, self._hold_time / 16 * self._rng.uniform(0.1, 1)))

    async def _answer_stale(self, method: str, request: Any) -> ServerAnswer:
        if self._has_no_news():
            raise NoLeader(self._no_leader_reason())
        answer = await self._read(method, request, "stale")
        return ServerAnswer(answer.reply, answer.watch)

    async def _answer_as_leader(self, method: str, request: Any) -> ServerAnswer:
        prepare = self._prepare.get(method)
        if prepare is not None:
            return ServerAnswer(await self._write(method, request, prepare))
        if getattr(request, "require_consistent", False):
            await self._confirm()
            return await self._read(method, request, "consistent")
        if not self._replica.lease_valid():
            await self._replica.read_barrier()
            return await self._read(method, request, "leader")
        answer = await self._read(method, request, "leader")
        if self._replica.lease_valid() or method not in STORE_READS or request.min_query_index:
            return answer
        # This process was held up since it looked at the lease: others may have written meanwhile.
        await self._replica.read_barrier()
        return await self._read(method, request, "leader")

    async def _confirm(self) -> None:
        """That we lead, by a quorum."""
        started = time.monotonic()
        await self._replica.read_barrier()
        self._metrics.rpc_consistent_read.observe(time.monotonic() - started)

    # --- reads -------------------------------------------------------------------------------------------------------

    async def _read(self, method: str, request: Any, level: str) -> ServerAnswer:
        read = STORE_READS.get(method)
        if read is None:
            handler = self._special.get(method)
            if handler is None:
                raise RequestFailed(f"rpc: can't find method {method}")
            started = time.monotonic()
            answer = ServerAnswer(await handler(request))
            self._observe(method, started)
            return answer
        store = self._store
        self._metrics.rpc_query.inc()
        if method == "KVS.List" and not request.min_query_index and store.kv_is_long(request.key):
            seen = store.kv_view(request.key)
            watch = store.watches.watch(seen.topics)
            return ServerAnswer(self._reply(read, await list_keys(seen), level), watch)
        if request.min_query_index > 0:
            result = await self._blocking.run(
                lambda: read.ask(store, request),
                request.min_query_index,
                request.max_query_time / 1e9,
                self._confirm if level == "consistent" else None,
            )
        else:
            result = read.ask(store, request)
            if method in self._lookups:
                self._count_lookup(method, request.service_name, found=bool(result.value))
        return ServerAnswer(self._reply(read, result, level), store.watches.watch(result.topics))

    def _count_lookup(self, method: str, service: str, *, found: bool) -> None:
        asked, not_found = self._lookups[method]
        asked.of(service).inc()
        if not found:
            not_found.of(service).inc()

    def _observe(self, method: str, started: float) -> None:
        meter = self._meters.get(method)
        if meter is not None:
            meter.observe(time.monotonic() - started)

    def _reply(self, read: StoreRead, result: Read[Any], level: str) -> Any:
        replica = self._replica
        return read.reply_type(
            index=result.index or 1,
            last_contact=int(replica.last_contact() * 1e9),
            known_leader=replica.known_leader,
            consistency_level=level,
            **{read.field: result.value},
        )

    def _meta(self, reply_type: Callable[..., Any], request: r.QueryOptions, index: int, **fields: Any) -> Any:
        level = "stale" if request.allow_stale else "consistent" if request.require_consistent else "leader"
        return reply_type(
            index=index,
            last_contact=int(self._replica.last_contact() * 1e9),
            known_leader=self._replica.known_leader,
            consistency_level=level,
            **fields,
        )

    async def _blocking_read(self, request: r.QueryOptions, question: Callable[[], Read[Any]]) -> Read[Any]:
        return await self._blocking.run(question, request.min_query_index, request.max_query_time / 1e9)

    async def _changes(self, request: r.ChangesRequest) -> Any:
        found = (await self._blocking_read(request, lambda: self._store.changes(request))).value
        return self._meta(r.ChangesReply, request, found.index or 1, changes=found.changes, complete=found.complete)

    async def _query_get(self, request: r.PreparedQuerySpecificRequest) -> r.IndexedPreparedQueries:
        require_uuid(request.query_id, "prepared query")
        read = await self._blocking_read(request, lambda: self._store.query_get(request.query_id))
        if read.value is None:
            raise query_not_found()
        reply: r.IndexedPreparedQueries = self._meta(r.IndexedPreparedQueries, request, read.index or 1, queries=[read.value])
        return reply

    def _resolve(self, request: r.PreparedQueryExecuteRequest) -> Any:
        found = self._store.query_resolve(request.query_id_or_name).value
        if found is None:
            raise query_not_found()
        return found

    async def _query_explain(self, request: r.PreparedQueryExecuteRequest) -> Any:
        return self._meta(r.PreparedQueryExplainResponse, request, 0, query=self._resolve(request))

    async def _query_execute(self, request: r.PreparedQueryExecuteRequest) -> Any:
        found = await self._queries.execute(self._resolve(request), request)
        return self._meta(partial(replace, found), request, 0)

    async def _query_execute_remote(self, request: r.PreparedQueryExecuteRemoteRequest) -> Any:
        return self._meta(partial(replace, self._queries.execute_for_another(request)), request, 0)

    async def _intention_get(self, request: r.IntentionQueryRequest) -> Any:
        require_uuid(request.intention_id, "intention")
        read = await self._blocking_read(request, lambda: self._store.intention_get(request.intention_id))
        if read.value is None:
            raise DiscoveryError("Intention not found", status=404)
        return self._meta(r.IndexedIntentions, request, read.index or 1, intentions=[read.value])

    async def _intention_match(self, request: r.IntentionQueryRequest) -> Any:
        match = request.match
        if match is None:
            raise RequestFailed("must provide match criteria")
        services = [(entry.namespace or _NAMESPACE, entry.name) for entry in match.entries]
        read = await self._blocking_read(request, lambda: self._store.intention_match(match.type, services))
        return self._meta(r.IndexedIntentionMatches, request, read.index or 1, matches=read.value)

    async def _intention_check(self, request: r.IntentionQueryRequest) -> Any:
        check = request.check
        if check is None:
            raise RequestFailed("must provide check criteria")
        if check.source_type not in ("", "consul"):
            raise RequestFailed(f'unsupported SourceType: "{check.source_type}"')
        source = (check.source_ns or _NAMESPACE, check.source_name)
        allowed = self._store.intention_allows(source, (check.destination_ns or _NAMESPACE, check.destination_name))
        return self._meta(r.IntentionCheckResponse, request, 0, allowed=True if allowed is None else allowed)

    async def _txn_read(self, request: r.TxnReadRequest) -> Any:
        read = self._store.txn_read(request.ops)
        return r.TxnReadResponse(
            results=read.value.results,
            errors=read.value.errors,
            known_leader=self._replica.known_leader,
            last_contact=int(self._replica.last_contact() * 1e9),
        )

    async def _autopilot_get(self, _request: r.DCSpecificRequest) -> Any:
        read = self._store.autopilot_config()
        if read.value is None:
            # The first leader writes them when it takes office.
            read = await self._blocking.run(self._store.autopilot_config, read.index or 1, self._hold_time)
        if read.value is None:
            raise RequestFailed("autopilot config not initialized yet")
        return read.value

    # --- writes ------------------------------------------------------------------------------------------------------

    async def _write(self, method: str, request: Any, prepare: Callable[[Any], Any]) -> Any:
        command = prepare(request)
        if isinstance(command, c.Register) and await self._is_registered(command.request):
            return r.Empty()
        refusal = self._delayed(method, request)
        if refusal is not None:
            return refusal
        started = time.monotonic()
        result = await self._replica.propose(command)
        self._observe(method, started)
        if isinstance(result, DiscoveryError):
            raise result
        return r.Empty() if METHODS[method].reply_type is r.Empty else result

    async def _register_many(self, request: r.RegisterManyRequest) -> r.RegisterManyResponse:
        """One command for all that is not registered as it stands; with an error in any of them for none."""
        commands, errors = [], []
        for number, registration in enumerate(request.registrations):
            try:
                commands.append(self._policy.register(registration))
            except RequestFailed as refusal:
                errors.append(r.TxnError(op_index=number, what=refusal.text))
        if errors:
            return r.RegisterManyResponse(errors=errors)
        if not self._replica.lease_valid():
            await self._replica.read_barrier()
        places = self._unregistered([command.request for command in commands])
        if not places:
            return r.RegisterManyResponse()
        result = await self._replica.propose(c.RegisterMany([commands[place].request for place in places]))
        if isinstance(result, DiscoveryError):
            raise result
        assert isinstance(result, r.RegisterManyResponse)
        told = [msgspec.structs.replace(error, op_index=places[error.op_index]) for error in result.errors or ()]
        return r.RegisterManyResponse(changed=result.changed, errors=told or None)

    def _unregistered(self, requests: list[r.RegisterRequest]) -> list[int]:
        """Which of `requests` would change something, or come after one that changes their node.

        With an id a registration may rename a node, and thus change two.
        """
        places: list[int] = []
        changed: set[str] = set()
        anything = False
        for place, request in enumerate(requests):
            node = request.node.lower()
            if anything or node in changed or not self._store.is_registered(request):
                places.append(place)
                changed.add(node)
                anything = anything or bool(request.id)
        return places

    async def _is_registered(self, request: r.RegisterRequest) -> bool:
        """Agents register again and again what they have; what changes nothing need not go through the log.

        This is a read: it is answered by a leader that surely still leads, whose state has everything that was acknowledged.
        """
        if not self._replica.lease_valid():
            await self._replica.read_barrier()
        return self._store.is_registered(request)

    def _delayed(self, method: str, request: Any) -> bool | r.TxnResponse | None:
        """The answer to who asks for a lock during its lock-delay; None to all others."""
        if method == "KVS.Apply":
            return False if request.op == "lock" and self._delays.refuses(request.dir_ent.key) else None
        if method != "Txn.Apply":
            return None
        errors = [
            r.TxnError(op_index=number, what=f'failed to lock key "{op.kv.dir_ent.key}" due to lock delay')
            for number, op in enumerate(request.ops)
            if op.kv is not None and op.kv.verb == "lock" and self._delays.refuses(op.kv.dir_ent.key)
        ]
        return r.TxnResponse(errors=errors) if errors else None


def parse_ttl(text: str) -> float:
    """Seconds of a session's or query's TTL text that was validated before; 0 for none."""
    return Duration.parse(text).seconds if text else 0.0

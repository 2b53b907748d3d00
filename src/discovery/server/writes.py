"""From a write request to the command that goes through the log.

What needs a clock, chance or the leader's memory is settled here, before the log: ids, lock-delay, session limits. What
depends only on the replicated state is checked when the command is applied, in `state`. Texts are Consul's.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.duration import Duration, InvalidDuration
from discovery.model.errors import NotFound, RequestFailed
from discovery.model.records import HealthCheck, NodeService
from discovery.state.config_rules import settled
from discovery.state.lookup import check_node_id
from discovery.state.services import checked_service
from discovery.state.store import StateStore

KV_OPERATIONS: Final = frozenset({"set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"})
SESSION_TTL_MAX: Final = Duration.from_seconds(86400)


class WritePolicy:
    """The settings that decide whether a write is let into the log. `session_ttl_min` is seconds."""

    def __init__(self, store: StateStore, *, session_ttl_min: float = 10.0) -> None:
        self._store = store
        self._session_ttl_min = Duration.from_seconds(session_ttl_min)

    def kv(self, request: r.KVSRequest) -> c.KV:
        entry = request.dir_ent
        if request.op not in KV_OPERATIONS:
            raise RequestFailed(f"Invalid KVS operation '{request.op}'")
        if not entry.key and request.op != "delete-tree":
            raise RequestFailed("Must provide key")
        return c.KV(request.op, entry.key, entry.value, entry.flags, entry.modify_index, entry.session)

    def register(self, request: r.RegisterRequest) -> c.Register:
        if not request.node:
            raise RequestFailed("Must provide node")
        if not request.address and not request.skip_node_update:
            raise RequestFailed("Must provide address if SkipNodeUpdate is not set")
        check_node_id(request.id)
        service = _valid_service(request.service)
        checks = [_valid_check(check, request.node) for check in _all_checks(request)]
        return c.Register(replace(request, token="", service=service, check=None, checks=checks or None))

    def deregister(self, request: r.DeregisterRequest) -> c.Deregister:
        if not request.node:
            raise RequestFailed("Must provide node")
        return c.Deregister(replace(request, token=""))

    def session(self, request: r.SessionRequest) -> c.SessionChange:
        if request.op == "destroy":
            if not request.session.id:
                raise RequestFailed("Must provide ID")
            require_uuid(request.session.id, "session")
            return c.SessionChange(replace(request, token=""))
        if request.op != "create":
            raise RequestFailed(f"Invalid session operation '{request.op}'")
        return c.SessionChange(replace(request, token="", session=self._new_session(request)))

    def _new_session(self, request: r.SessionRequest) -> Any:
        session = request.session
        if not session.node:
            raise RequestFailed("Must provide Node")
        behavior = session.behavior or "release"
        if behavior not in ("release", "delete"):
            raise RequestFailed(f"Invalid Behavior setting '{behavior}'")
        self._check_ttl(session.ttl)
        return replace(session, id=str(uuid.uuid4()), behavior=behavior)

    def _check_ttl(self, text: str) -> None:
        if not text:
            return
        try:
            ttl = Duration.parse(text)
        except InvalidDuration as error:
            raise RequestFailed(f"Session TTL '{text}' invalid: {error}") from None
        if ttl and not self._session_ttl_min <= ttl <= SESSION_TTL_MAX:
            limits = f"[{self._session_ttl_min}={SESSION_TTL_MAX}]"
            raise RequestFailed(f"Invalid Session TTL '{int(ttl)}', must be between {limits}")

    def txn(self, request: r.TxnRequest) -> c.Txn:
        return c.Txn(replace(request, token=""))

    def prepared_query(self, request: r.PreparedQueryRequest) -> c.PreparedQueryChange:
        query = request.query
        if query is None:
            raise RequestFailed("Must provide a query")
        if request.op == "create":
            if query.id:
                raise RequestFailed("ID must be empty when creating a new prepared query")
            query = replace(query, id=str(uuid.uuid4()))
        else:
            self._require_query(query.id, request.op)
        if request.op in ("create", "update"):
            _check_query(query)
        elif request.op != "delete":
            raise RequestFailed(f"Unknown prepared query operation: {request.op}")
        return c.PreparedQueryChange(replace(request, token="", query=query))

    def _require_query(self, query_id: str, op: str) -> None:
        try:
            require_uuid(query_id, "prepared query")
        except RequestFailed as error:
            raise RequestFailed(f"Prepared Query lookup failed: {error.text}") from None
        if self._store.query_get(query_id).value is None:
            raise RequestFailed(f"Cannot modify non-existent prepared query: '{query_id}'")

    def config_entry(self, request: r.ConfigEntryRequest) -> c.ConfigEntryChange:
        if request.op in ("delete", "delete-cas"):
            return c.ConfigEntryChange(replace(request, token=""))
        name, entry = settled(request.kind, request.name, request.entry or {})
        return c.ConfigEntryChange(replace(request, token="", name=name, entry=entry))

    def intention(self, request: r.IntentionRequest) -> c.IntentionChange:
        intention = request.intention
        if intention is None:
            raise RequestFailed("Must provide an intention")
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        intention = replace(intention, updated_at=now)
        if request.op == "create":
            if intention.id:
                raise RequestFailed("ID must be empty when creating a new intention")
            intention = replace(intention, id=str(uuid.uuid4()), created_at=now)
        return c.IntentionChange(replace(request, token="", intention=intention))

    def autopilot(self, request: r.AutopilotSetRequest) -> c.AutopilotChange:
        return c.AutopilotChange(request.config, request.cas)


def require_uuid(text: str, noun: str) -> None:
    """Consul's index refuses anything that is not a UUID, in these words."""
    if len(text) != 36:
        raise RequestFailed(f"failed {noun} lookup: index error: UUID must be 36 characters")


def query_not_found() -> NotFound:
    return NotFound("Query not found")


def _valid_service(service: NodeService | None) -> NodeService | None:
    return checked_service(service) if service is not None else None


def _all_checks(request: r.RegisterRequest) -> list[HealthCheck]:
    single = [request.check] if request.check is not None else []
    return list(request.checks or []) + single


def _valid_check(check: HealthCheck, node: str) -> HealthCheck:
    if check.node and check.node != node:
        raise RequestFailed(f'check node "{check.node}" does not match node "{node}"')
    return replace(check, node=node, check_id=check.check_id or check.name, status=check.status or "critical")


def _check_query(query: Any) -> None:
    if not (query.name or query.session or query.template.type):
        raise RequestFailed("Invalid prepared query: Must be bound to a session")
    if query.session:
        try:
            require_uuid(query.session, "session")
        except RequestFailed:
            raise RequestFailed("invalid session: index error: UUID must be 36 characters") from None
    if not query.service.service:
        raise RequestFailed("Invalid prepared query: Must provide a Service name to query")
    nearest = query.service.failover.nearest_n
    if nearest < 0:
        raise RequestFailed(f"Invalid prepared query: Bad NearestN '{nearest}', must be >= 0")
    if query.dns.ttl:
        _check_query_ttl(query.dns.ttl)


def _check_query_ttl(text: str) -> None:
    try:
        ttl = Duration.parse(text)
    except InvalidDuration as error:
        raise RequestFailed(f"Invalid prepared query: Bad DNS TTL '{text}': {error}") from None
    if ttl < 0:
        raise RequestFailed(f"Invalid prepared query: DNS TTL '{int(ttl)}', must be >=0")


Prepare = Callable[[Any], c.Command]

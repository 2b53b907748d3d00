"""Sessions: leases of a node on locks, bound to health checks.

A session ends when it is destroyed, when its node goes, or when one of its checks goes or turns critical. What it locked is then
released or deleted, and prepared queries bound to it go too. Timers are not kept here: the leader destroys what was not renewed.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.query import Read, Topic
from discovery.model.records import CRITICAL, HealthCheck, Node, Session
from discovery.model.requests import SessionRequest

from .lookup import fold, require_uuid
from .tables import Changes, Group, Table, Topics

SESSIONS: Final = ("sessions",)

CheckKey = tuple[str, str]
"""Folded names of a node and a check on it."""


def session_topic(session_id: str) -> Topic:
    return ("session", session_id)


def sessions_of(node: str) -> Topic:
    return ("node-sessions", fold(node))


class Health(Protocol):
    """What sessions ask of the catalog."""

    def find_node(self, name: str) -> Node | None: ...
    def find_check(self, node: str, check_id: str) -> HealthCheck | None: ...


def check_ids(session: Session) -> list[str]:
    """The checks that the session's life hangs on."""
    services = [check.id for check in session.service_checks or ()]
    return [*(session.node_checks or ()), *services, *(session.checks or ())]


def _node_of(_id: str, session: Session) -> list[str]:
    return [fold(session.node)]


def _checks_of(_id: str, session: Session) -> list[CheckKey]:
    """Each once, however often the session names it."""
    return list(dict.fromkeys((fold(session.node), fold(check)) for check in check_ids(session)))


def _with_ttl(_id: str, session: Session) -> list[bool]:
    return [True] if session.ttl else []


class SessionTable(Table[str, Session]):
    def __init__(self, changes: Changes) -> None:
        self.of_node = Group(_node_of)
        self.of_check = Group(_checks_of)
        self.with_ttl = Group(_with_ttl)
        super().__init__(changes, self.of_node, self.of_check, self.with_ttl)


class Sessions:
    """`on_end` lets go of what an ended session held."""

    def __init__(
        self, changes: Changes, topics: Topics, table: SessionTable, on_end: Iterable[Callable[[Session], None]]
    ) -> None:
        self.table = table
        self._changes = changes
        self._topics = topics
        self._on_end = tuple(on_end)

    # --- writes ------------------------------------------------------------------------------------------------------

    def apply(self, request: SessionRequest, health: Health) -> str:
        if request.op == "create":
            return self.create(request.session, health)
        if request.op == "destroy":
            require_uuid(request.session.id, "session")
            self.end(fold(request.session.id))
            return request.session.id
        raise RequestFailed(f"Invalid session operation '{request.op}'")

    def create(self, session: Session, health: Health) -> str:
        if not session.id:
            raise RequestFailed("Missing session ID")
        if health.find_node(session.node) is None:
            raise RequestFailed("Missing node registration")
        for check_id in check_ids(session):
            check = health.find_check(session.node, check_id)
            if check is None:
                raise RequestFailed(f"Missing check '{check_id}' registration")
            if check.status == CRITICAL:
                raise RequestFailed(f"Check '{check_id}' is in critical state")
        index = self._changes.index
        self.table.put(session.id, replace(session, create_index=index, modify_index=index))
        self._topics.touch(SESSIONS, session_topic(session.id), sessions_of(session.node))
        return session.id

    def end(self, session_id: str) -> None:
        """Without effect if there is no such session."""
        session = self.table.rows.get(session_id)
        if session is None:
            return
        self.table.remove(session_id)
        self._topics.touch(SESSIONS, sessions_of(session.node))
        self._topics.end(session_topic(session_id))
        for let_go in self._on_end:
            let_go(session)

    def end_of_node(self, node: str) -> None:
        """`node` is folded; it is gone."""
        for session_id in sorted(self.table.of_node[node]):
            self.end(session_id)
        self._topics.retire(sessions_of(node))

    def end_of_check(self, key: CheckKey) -> None:
        for session_id in sorted(self.table.of_check[key]):
            self.end(session_id)

    # --- reads -------------------------------------------------------------------------------------------------------

    def get(self, session_id: str) -> Read[Session | None]:
        require_uuid(session_id, "session")
        session_id = fold(session_id)
        return self._topics.read(self.table.rows.get(session_id), session_topic(session_id))

    def list_all(self) -> Read[list[Session]]:
        return self._topics.read(self._rows(self.table.rows), SESSIONS)

    def of_node(self, node: str) -> Read[list[Session]]:
        return self._topics.read(self._rows(self.table.of_node[fold(node)]), sessions_of(node))

    def with_ttl(self) -> list[Session]:
        return self._rows(self.table.with_ttl[True])

    def _rows(self, ids: Iterable[str]) -> list[Session]:
        return [self.table.rows[session_id] for session_id in sorted(ids)]

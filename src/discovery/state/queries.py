"""Prepared queries: named questions for services, some of them templates for whole families of names."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.query import Read, Topic
from discovery.model.records import PreparedQuery, Session
from discovery.model.requests import PreparedQueryRequest

from .lookup import fold, require_uuid
from .refusals import explained
from .tables import Changes, Group, Table, Topics
from .templates import check_template, is_template, render

QUERIES: Final = ("prepared-queries",)

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def query_topic(query_id: str) -> Topic:
    return ("prepared-query", query_id)


def _names(_id: str, query: PreparedQuery) -> list[str]:
    return [fold(query.name)] if query.name else []


def _prefixes(_id: str, query: PreparedQuery) -> list[str]:
    return [fold(query.name)] if is_template(query) else []


class Queries:
    """`sessions` are those that a query may be bound to."""

    def __init__(self, changes: Changes, topics: Topics, sessions: Mapping[str, Session]) -> None:
        self._named = Group(_names)
        self._templates = Group(_prefixes)
        self._of_session: Group[str, str, PreparedQuery] = Group(lambda _id, query: [query.session] if query.session else [])
        self.table: Table[str, PreparedQuery] = Table(changes, self._named, self._templates, self._of_session)
        self._changes = changes
        self._topics = topics
        self._sessions = sessions

    # --- writes ------------------------------------------------------------------------------------------------------

    def apply(self, request: PreparedQueryRequest) -> str:
        query = request.query
        if query is None or not query.id:
            raise RequestFailed("missing query ID")
        if request.op == "delete":
            self._remove(query.id)
        elif request.op in ("create", "update"):
            self._put(query)
        else:
            raise RequestFailed(f"Unknown prepared query operation: {request.op}")
        return query.id

    def _put(self, query: PreparedQuery) -> None:
        self._check_name(query)
        if query.session:
            require_uuid(query.session, "session")
            if query.session not in self._sessions:
                raise RequestFailed(f'invalid session "{query.session}"')
        if is_template(query):
            with explained("failed compiling template: "):
                check_template(query)
        known = self.table.rows.get(query.id)
        index = self._changes.index
        created = known.create_index if known is not None else index
        self.table.put(query.id, replace(query, create_index=created, modify_index=index))
        self._topics.touch(QUERIES, query_topic(query.id))

    def _check_name(self, query: PreparedQuery) -> None:
        """A query can be asked for by id or by name, so no name may stand for two things."""
        if query.name:
            if any(other != query.id for other in self._named[fold(query.name)]):
                raise RequestFailed(f"name '{query.name}' aliases an existing query name")
        elif is_template(query) and any(other != query.id for other in self._templates[""]):
            raise RequestFailed("a query template with an empty name already exists")
        if _UUID.fullmatch(query.name) and fold(query.name) in self.table.rows:
            raise RequestFailed(f"name '{query.name}' aliases an existing query ID")

    def _remove(self, query_id: str) -> None:
        if query_id in self.table.rows:
            self.table.remove(query_id)
            self._topics.touch(QUERIES)
            self._topics.end(query_topic(query_id))

    def end_session(self, session: Session) -> None:
        """Queries that were bound to the session go with it."""
        for query_id in sorted(self._of_session[session.id]):
            self._remove(query_id)

    # --- reads -------------------------------------------------------------------------------------------------------

    def get(self, query_id: str) -> Read[PreparedQuery | None]:
        query_id = fold(query_id)
        return self._topics.read(self.table.rows.get(query_id), query_topic(query_id))

    def list_all(self) -> Read[list[PreparedQuery]]:
        found = [self.table.rows[query_id] for query_id in sorted(self.table.rows)]
        return self._topics.read(found, QUERIES)

    def resolve(self, id_or_name: str, segment: str) -> Read[PreparedQuery | None]:
        """The query of that id, else of that name, else the template with the longest prefix of it, filled in."""
        return self._topics.read(self._resolved(id_or_name, segment), QUERIES)

    def _resolved(self, id_or_name: str, segment: str) -> PreparedQuery | None:
        by_id = self.table.rows.get(fold(id_or_name))
        if by_id is not None:
            if is_template(by_id):
                raise RequestFailed("prepared query templates can only be resolved up by name, not by ID")
            return by_id
        found = self._find(fold(id_or_name)) if id_or_name else None
        return render(found, id_or_name, segment) if found is not None and is_template(found) else found

    def _find(self, name: str) -> PreparedQuery | None:
        """By exact name, or by the longest template prefix; `name` is folded."""
        named = self._named[name]
        if named:
            return self.table.rows[min(named)]
        prefix = max((prefix for prefix in self._templates if name.startswith(prefix)), key=len, default=None)
        return None if prefix is None else self.table.rows[min(self._templates[prefix])]

    def load(self, rows: Iterable[PreparedQuery]) -> None:
        self.table.load({row.id: row for row in rows})

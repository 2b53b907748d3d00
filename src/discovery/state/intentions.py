"""Intentions: which service may open connections to which. The most precise one that matches decides.

Source: Consul's documentation of intentions (open edition, one namespace); order and texts as of 1.8.7.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.query import Read, Topic
from discovery.model.records import Intention
from discovery.model.requests import IntentionRequest
from discovery.model.service_rules import several_errors

from .lookup import fold, require_uuid
from .refusals import explained
from .tables import Changes, Group, Table, Topics

INTENTIONS: Final = ("intentions",)
WILDCARD: Final = "*"

_NAMESPACE: Final = "default"
_SOURCE_TYPE: Final = "consul"

Service = tuple[str, str]
"""Namespace and name."""

Pair = tuple[Service, Service]

_MAX_DESCRIPTION: Final = 512
"""Bytes, as the other lengths."""
_META_PAIRS: Final = 64
_META_KEY_LENGTH: Final = 128
_META_VALUE_LENGTH: Final = 512


def intention_topic(intention_id: str) -> Topic:
    return ("intention", intention_id)


def _pair(intention: Intention) -> Pair:
    return _folded(_source(intention)), _folded(_destination(intention))


def _folded(service: Service) -> Service:
    return fold(service[0]), fold(service[1])


class Intentions:
    def __init__(self, changes: Changes, topics: Topics) -> None:
        self._of_pair: Group[Pair, str, Intention] = Group(lambda _id, intention: [_pair(intention)])
        self.table: Table[str, Intention] = Table(changes, self._of_pair)
        self._changes = changes
        self._topics = topics

    # --- writes ------------------------------------------------------------------------------------------------------

    def apply(self, request: IntentionRequest) -> str:
        intention = request.intention
        if intention is None:
            raise RequestFailed("Must provide an intention")
        if request.op == "delete":
            self._remove(self._known(intention.id, "delete"))
        elif request.op == "create":
            self._put(intention, None)
        elif request.op == "update":
            self._put(intention, self._known(intention.id, "modify"))
        else:
            raise RequestFailed(f"Unknown intention operation: {request.op}")
        return intention.id

    def _known(self, intention_id: str, verb: str) -> Intention:
        with explained("Intention lookup failed: "):
            require_uuid(intention_id, "intention")
        known = self.table.rows.get(intention_id)
        if known is None:
            raise RequestFailed(f"Cannot {verb} non-existent intention: '{intention_id}'")
        return known

    def _put(self, given: Intention, known: Intention | None) -> None:
        intention = _completed(given)
        problems = list(_problems(intention))
        if problems:
            raise RequestFailed(several_errors(problems))
        for other in self._of_pair[_pair(intention)]:
            if other != intention.id:
                raise RequestFailed(f"duplicate intention found: {_described(self.table.rows[other])}")
        index = self._changes.index
        stored = replace(
            intention,
            created_at=known.created_at if known is not None else intention.created_at,
            create_index=known.create_index if known is not None else index,
            modify_index=index,
        )
        self.table.put(intention.id, stored)
        self._topics.touch(INTENTIONS, intention_topic(intention.id))

    def _remove(self, intention: Intention) -> None:
        self.table.remove(intention.id)
        self._topics.touch(INTENTIONS)
        self._topics.end(intention_topic(intention.id))

    # --- reads -------------------------------------------------------------------------------------------------------

    def get(self, intention_id: str) -> Read[Intention | None]:
        return self._topics.read(self.table.rows.get(intention_id), intention_topic(intention_id))

    def list_all(self) -> Read[list[Intention]]:
        return self._topics.read(self._ordered(self.table.rows.values()), INTENTIONS)

    def match(self, by: str, services: Sequence[Service]) -> Read[list[list[Intention]]]:
        """For each service those that apply to it as `source` or `destination`, the deciding ones first."""
        rows = self.table.rows.values()
        matches = [self._ordered(row for row in rows if _applies(row, by, service)) for service in services]
        return self._topics.read(matches, INTENTIONS)

    def allows(self, source: Service, destination: Service) -> bool | None:
        """What the most precise matching one says; None: none matches. A source in another case is another, as in Consul."""
        for intention in self._ordered(self.table.rows.values()):
            if _covers(_source(intention), source) and _applies(intention, "destination", destination):
                return intention.action == "allow"
        return None

    @staticmethod
    def _ordered(intentions: Iterable[Intention]) -> list[Intention]:
        return sorted(intentions, key=_order)

    def load(self, rows: Iterable[Intention]) -> None:
        self.table.load({row.id: row for row in rows})


def _order(intention: Intention) -> tuple[object, ...]:
    """The deciding ones first."""
    return (-intention.precedence, *_source(intention), *_destination(intention))


def _source(intention: Intention) -> Service:
    return intention.source_ns, intention.source_name


def _destination(intention: Intention) -> Service:
    return intention.destination_ns, intention.destination_name


def _applies(intention: Intention, by: str, service: Service) -> bool:
    side = _source(intention) if by == "source" else _destination(intention)
    return _covers(_folded(side), _folded(service))


def _covers(side: Service, service: Service) -> bool:
    return side[0] in (service[0], WILDCARD) and side[1] in (service[1], WILDCARD)


def _completed(intention: Intention) -> Intention:
    completed = replace(
        intention,
        source_ns=intention.source_ns or _NAMESPACE,
        destination_ns=intention.destination_ns or _NAMESPACE,
        source_type=intention.source_type or _SOURCE_TYPE,
    )
    completed = replace(completed, precedence=_precedence(completed))
    content = replace(completed, created_at="", updated_at="", hash=b"", create_index=0, modify_index=0)
    encoded = msgspec.msgpack.encode(content, order="deterministic")
    return replace(completed, hash=hashlib.blake2b(encoded, digest_size=32).digest())


def _precedence(intention: Intention) -> int:
    """9 for the most exact; the destination counts more than the source, the namespace more than the name."""
    destination = _exact_parts(intention.destination_ns, intention.destination_name)
    source = _exact_parts(intention.source_ns, intention.source_name)
    return 3 * destination + source + 1


def _exact_parts(namespace: str, name: str) -> int:
    if namespace == WILDCARD:
        return 0
    return 1 if name == WILDCARD else 2


def _problems(intention: Intention) -> Iterator[str]:
    sides = (
        ("Source", intention.source_ns, intention.source_name),
        ("Destination", intention.destination_ns, intention.destination_name),
    )
    for side, _, name in sides:
        if not name:
            yield f"{side}Name must be set"
    for side, namespace, name in sides:
        for part, text in (("NS", namespace), ("Name", name)):
            if WILDCARD in text and text != WILDCARD:
                yield f"{side}{part}: wildcard character '*' cannot be used with partial values"
        if namespace == WILDCARD and name != WILDCARD:
            yield f"{side}Name: exact value cannot follow wildcard namespace"
    yield from _problems_of_text(intention)
    if intention.action not in ("allow", "deny"):
        yield "Action must be set to 'allow' or 'deny'"
    if intention.source_type != _SOURCE_TYPE:
        yield "SourceType must be set to 'consul'"


def _problems_of_text(intention: Intention) -> Iterator[str]:
    meta = intention.meta or {}
    if _bytes(intention.description) > _MAX_DESCRIPTION:
        yield f"Description exceeds maximum length {_MAX_DESCRIPTION}"
    if len(meta) > _META_PAIRS:
        yield f"Meta exceeds maximum element count {_META_PAIRS}"
    for key, value in meta.items():
        if _bytes(key) > _META_KEY_LENGTH:
            yield f'Meta key "{key}" exceeds maximum length {_META_KEY_LENGTH}'
        if _bytes(value) > _META_VALUE_LENGTH:
            yield f'Meta value for key "{key}" exceeds maximum length {_META_VALUE_LENGTH}'


def _bytes(text: str) -> int:
    return len(text.encode())


def _described(intention: Intention) -> str:
    source = f"{intention.source_ns}/{intention.source_name}"
    destination = f"{intention.destination_ns}/{intention.destination_name}"
    return f"{intention.action.upper()} {source} => {destination} (ID: {intention.id}, Precedence: {intention.precedence})"

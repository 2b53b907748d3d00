"""How fresh an answer to a read is, as headers tell it, and on what terms it may be kept and given again."""

import functools
from typing import Final

import msgspec

from discovery.model.delegate import CallingWatch
from discovery.model.requests import QueryMeta, QueryOptions

_MILLISECOND: Final = 10**6


class Terms(msgspec.Struct, frozen=True, gc=False):
    """An answer may be kept until `watch` fires. Before it is given again, a quorum has to confirm that this server leads, if it
    is to be `consistent`; if it may be `stale`, the leader must have been heard of within `max_stale` nanoseconds (0: whenever);
    else this server must hold the leader's lease."""

    watch: CallingWatch
    consistent: bool = False
    stale: bool = False
    max_stale: int = 0


def terms_of(request: QueryOptions, watch: CallingWatch) -> Terms:
    """What holds for the answer to `request`."""
    return Terms(watch, request.require_consistent, request.allow_stale, request.max_stale_duration)


def is_too_old(request: QueryOptions, meta: QueryMeta) -> bool:
    """Whether an answer is older than the request bears."""
    return request.allow_stale and 0 < request.max_stale_duration < meta.last_contact


def contact_headers(known_leader: bool, last_contact: int) -> bytes:
    """What an answer says of the leader; `last_contact` is nanoseconds since it was heard of."""
    return _contact_headers(known_leader, last_contact // _MILLISECOND)


@functools.lru_cache(maxsize=1024)
def _contact_headers(known_leader: bool, milliseconds: int) -> bytes:
    known = b"true" if known_leader else b"false"
    return b"X-Consul-Knownleader: %s\r\nX-Consul-Lastcontact: %d\r\n" % (known, milliseconds)


def index_headers(meta: QueryMeta, *, consistency: bool = False) -> bytes:
    """What an answer says of itself. The index is never 0: clients take that for a fault."""
    lines = b"X-Consul-Index: %d\r\n" % (meta.index or 1)
    if consistency:
        lines += b"X-Consul-Effective-Consistency: %s\r\n" % meta.consistency_level.encode()
    return lines


def meta_headers(meta: QueryMeta, *, consistency: bool = False) -> bytes:
    """All of it, for an answer that is not kept."""
    return index_headers(meta, consistency=consistency) + contact_headers(meta.known_leader, meta.last_contact)


NO_META: Final = meta_headers(QueryMeta())

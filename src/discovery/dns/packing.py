"""Drawing one answer from a plan, and making it fit.

UDP without EDNS carries 512 bytes and, as Consul has it, only a few records; EDNS and TCP carry more. What does not fit goes in
this order: the authority section, then answers from the tail; what accompanies a shortened answer is cut down to one address
for each remaining target. Source: Consul documentation of `udp_answer_limit`, `a_record_limit` and `enable_truncate`; RFC 6891.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

from .answers import Group, Plan, SoaPlace, soa_record
from .options import DnsOptions
from .wire import AA, AAAA, CNAME, RA, SRV, TC, A, Name, Query, Record, Response, encode, lowered

_PLAIN_UDP: Final = 512
_MAX_PLAIN_ANSWERS: Final = 8
_MAX_EDNS: Final = 65467
_MAX_TCP: Final = 65523
_MAX_TCP_ANSWERS: Final = 4096
_MAX_TCP_SRV: Final = 1024
_SMALLEST_RECORD: Final = 16
"""Bytes of an A record whose owner is a pointer."""


class Limits(msgspec.Struct, frozen=True):
    """`size` is bytes of the message; `plain`: UDP as it was before EDNS."""

    answers: int
    size: int
    plain: bool = False


def limits_of(query: Query, options: DnsOptions, *, tcp: bool) -> Limits:
    if tcp:
        return Limits(_MAX_TCP_SRV if query.type == SRV else _MAX_TCP_ANSWERS, _MAX_TCP)
    if query.edns is None or query.edns.size <= _PLAIN_UDP:
        return Limits(min(_MAX_PLAIN_ANSWERS, options.udp_answer_limit), _PLAIN_UDP, plain=True)
    size = min(query.edns.size, _MAX_EDNS)
    return Limits(size // _SMALLEST_RECORD + 1, size)


def pack(query: Query, plan: Plan, options: DnsOptions, rng: random.Random, *, tcp: bool, serial: int) -> bytes:
    """One answer to `query`, encoded. `serial` is what the SOA record shows."""
    limits = limits_of(query, options, tcp=tcp)
    groups, complete = _draw(plan, limits, rng)
    response = _response(plan, groups, options, serial)
    drawn = len(response.answer)
    if plan.any_part_will_do:
        response.answer = response.answer[: limits.answers]
        complete = complete and len(response.answer) == drawn
    if not complete:
        response.additional = _addresses_of_targets(response.answer, response.additional)
    if plan.soa is SoaPlace.IF_EMPTY and not response.answer:
        response.authority = [soa_record(options.zone(), options, serial)]
    # Consul counts without compression once it has dropped records from an answer for plain UDP.
    counts_compressed = not options.disable_compression and (complete or not limits.plain)
    compress = not options.disable_compression
    encoded = encode(query, response, compress=counts_compressed)
    if len(encoded) <= limits.size and complete and counts_compressed == compress:
        return encoded
    if len(encoded) > limits.size and not _shorten(query, response, limits.size, compress=counts_compressed):
        complete = False
    if not complete and (options.enable_truncate or not plan.any_part_will_do):
        response.flags |= TC
    return encode(query, response, compress=compress)


def _draw(plan: Plan, limits: Limits, rng: random.Random) -> tuple[Sequence[Group], bool]:
    """The groups to show, and whether they are all that may be shown."""
    wanted = min(len(plan.groups), plan.most or len(plan.groups))
    number = min(wanted, limits.answers) if plan.any_part_will_do else wanted
    groups = rng.sample(plan.groups, number) if plan.shuffled else plan.groups[:number]
    return groups, number == wanted


def _response(plan: Plan, groups: Sequence[Group], options: DnsOptions, serial: int) -> Response:
    records = [record for group in groups for record in group.records]
    additional = [record for group in groups for record in group.additional]
    response = Response(
        rcode=plan.rcode,
        flags=(AA if plan.authoritative else 0) | (RA if options.recursors or plan.recursion_tried else 0),
        answer=records,
        authority=[],
        additional=additional + list(plan.additional),
        subnet_scoped=plan.subnet_scoped,
    )
    if plan.soa is SoaPlace.ANSWER:
        response.answer, response.authority = [soa_record(options.zone(), options, serial)], records
    elif plan.soa is SoaPlace.AUTHORITY:
        response.authority = [soa_record(options.zone(), options, serial)]
    return response


def _shorten(query: Query, response: Response, size: int, *, compress: bool) -> bool:
    """Shorten `response`, which is too long, to `size` bytes; tells whether its answers are still complete."""

    def needed() -> int:
        return len(encode(query, response, compress=compress))

    answer, additional = response.answer, response.additional
    if answer and response.authority:
        response.authority = []
        if needed() <= size:
            return True

    def needed_for(number: int) -> int:
        response.answer = answer[:number]
        response.additional = _addresses_of_targets(response.answer, additional)
        return needed()

    fitting = bisect_right(range(1, len(answer) + 1), size, key=needed_for)
    if needed_for(max(1, fitting)) > size:
        response.additional = []
    return len(response.answer) == len(answer)


def _addresses_of_targets(answer: Sequence[Record], additional: Sequence[Record]) -> list[Record]:
    """Of what accompanies an answer: one address for each SRV target in it, with the aliases on the way."""
    known: dict[Name, Record] = {}
    for record in additional:
        if record.type in (A, AAAA, CNAME):
            known.setdefault(lowered(record.name), record)
    kept: dict[Name, Record] = {}
    for record in answer:
        target = record.data[-1] if record.type == SRV else b""
        while not isinstance(target, bytes):
            name = lowered(target)
            if name in kept or name not in known:
                break
            kept[name] = known[name]
            target = known[name].data[-1]
    return list(kept.values())

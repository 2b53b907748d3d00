"""DNS messages as bytes (RFC 1035, EDNS RFC 6891, client subnet RFC 7871).

Parsing is dnslib's, behind checks of what it does not bound itself: section counts and the size of the packet. Encoding is our
own: dnslib writes compression pointers beyond the 14 bits they have, can't leave compression away, and takes several times as
long. Names are tuples of labels without the root, in the spelling of whoever wrote them.
"""

import struct
from collections.abc import Iterable
from typing import Final

import msgspec
from dnslib import DNSError, DNSRecord
from dnslib.label import DNSLabelError

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
AXFR: Final = 252
ANY: Final = 255

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5

QR: Final = 0x8000
OPCODE: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010

MAX_QUERY: Final = 4096
"""Bytes of the largest message that is parsed."""
MAX_LABEL: Final = 63
MAX_NAME: Final = 255
HEADER: Final = struct.Struct("!6H")
_MAX_EXTRA_RECORDS: Final = 2
_RECORD: Final = struct.Struct("!HHIH")
_QUESTION: Final = struct.Struct("!HH")
_IN: Final = 1
_POINTER: Final = 0xC000
_POINTER_REACH: Final = 0x4000
_CLIENT_SUBNET: Final = 8
_SUBNET_WIDTHS: Final = {b"\0\1": 4, b"\0\2": 16}

Name = tuple[bytes, ...]


class Malformed(Exception):
    """Bytes that are no DNS message we could answer."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A resource record of class IN. `data` is its parts in order: bytes as they are, and names."""

    name: Name
    type: int
    ttl: int
    data: tuple[bytes | Name, ...]


class Edns(msgspec.Struct, frozen=True):
    """What a client tells by its OPT record: the largest UDP answer it takes, and possibly its subnet."""

    size: int
    subnet: bytes = b""
    """Family, prefix lengths and address, as RFC 7871 lays them out; empty where absent."""
    plain: bool = True
    """Whether the record carried no options, which may differ between otherwise equal questions."""

    def subnet_address(self) -> bytes:
        """The client's network as 4 or 16 bytes; empty where none, or no sensible one, was given."""
        width = _SUBNET_WIDTHS.get(self.subnet[:2], 0)
        return self.subnet[4:].ljust(width, b"\0") if len(self.subnet) - 4 <= width else b""


class Query(msgspec.Struct, frozen=True):
    id: int
    flags: int
    name: Name
    type: int
    question_class: int = _IN
    edns: Edns | None = None


class Response(msgspec.Struct, kw_only=True):
    """`flags` are those beside QR and the ones echoed from the query."""

    flags: int = 0
    rcode: int = NOERROR
    answer: list[Record]
    authority: list[Record]
    additional: list[Record]
    subnet_scoped: bool = False
    """Whether the answer was chosen for the client's subnet."""


# --- names -----------------------------------------------------------------------------------------------------------


def name_of(text: str) -> Name:
    """`web.service.consul.` as labels; raises `ValueError` where DNS has no room for it."""
    text = text.removesuffix(".")
    labels = tuple(label.encode() for label in text.split(".")) if text else ()
    if not all(0 < len(label) <= MAX_LABEL for label in labels) or sum(map(len, labels)) + len(labels) >= MAX_NAME:
        raise ValueError(f"{text!r} is no DNS name")
    return labels


def lowered(name: Name) -> Name:
    return tuple(label.lower() for label in name)


# --- reading ---------------------------------------------------------------------------------------------------------


def parse_query(packet: bytes) -> Query:
    """A question to us; raises `Malformed`."""
    _, _, questions, answers, authorities, extras = HEADER.unpack_from(packet)
    if questions != 1 or answers or authorities or extras > _MAX_EXTRA_RECORDS:
        raise Malformed(f"{questions} questions and {answers}/{authorities}/{extras} records")
    message = _parsed(packet)
    question = message.questions[0]
    name = tuple(question.qname.label)
    if sum(map(len, name)) + len(name) >= MAX_NAME or any(len(label) > MAX_LABEL for label in name):
        raise Malformed("the name is too long")
    return Query(message.header.id, message.header.bitmap, name, question.qtype, question.qclass, _edns(message))


def _parsed(packet: bytes) -> DNSRecord:
    if len(packet) > MAX_QUERY:
        raise Malformed(f"{len(packet)} bytes")
    try:
        return DNSRecord.parse(packet)
    except (DNSError, DNSLabelError, ValueError, IndexError, struct.error, RecursionError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from None


def _edns(message: DNSRecord) -> Edns | None:
    for record in message.ar:
        if record.rtype == OPT:
            options = record.rdata if isinstance(record.rdata, list) else []
            subnets = [bytes(option.data) for option in options if option.code == _CLIENT_SUBNET]
            subnet = subnets[0] if subnets and len(subnets[0]) >= 4 else b""
            return Edns(record.rclass, subnet, plain=not options)
    return None


def parse_answers(packet: bytes) -> list[Record]:
    """The addresses and aliases in the reply of another server; raises `Malformed`."""
    message = _parsed(packet)
    records = []
    for record in message.rr:
        name = tuple(record.rname.label)
        if record.rtype in (A, AAAA):
            records.append(Record(name, record.rtype, record.ttl, (bytes(record.rdata.data),)))
        elif record.rtype == CNAME:
            records.append(Record(name, CNAME, record.ttl, (tuple(record.rdata.label.label),)))
    return records


def replies_to(packet: bytes, asked: bytes) -> bool:
    """Whether `packet` is a reply with the id and the question of `asked`; names compare without regard to case."""
    if len(packet) < HEADER.size or packet[:2] != asked[:2] or not packet[2] & 0x80 or packet[4:6] != b"\0\1":
        return False
    end = _end_of_name(asked)
    same_name = packet[HEADER.size : end].lower() == asked[HEADER.size : end].lower()
    return same_name and packet[end : end + _QUESTION.size] == asked[end : end + _QUESTION.size]


def _end_of_name(query: bytes) -> int:
    """Where the name in the question of a well-formed query ends."""
    offset = HEADER.size
    while query[offset]:
        offset += 1 + query[offset]
    return offset + 1


# --- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """A message under construction. Without compression every name is written in full."""

    def __init__(self, compress: bool) -> None:
        self.buffer = bytearray(HEADER.size)
        self._compress = compress
        self._places: dict[Name, int] = {}

    def name(self, name: Name, *, may_point: bool = True) -> None:
        buffer, places = self.buffer, self._places
        if self._compress:
            for start in range(len(name)):
                rest = name[start:]
                place = places.get(rest)
                if place is None:
                    if len(buffer) < _POINTER_REACH:
                        places[rest] = len(buffer)
                elif may_point:
                    buffer += (_POINTER | place).to_bytes(2)
                    return
                label = name[start]
                buffer.append(len(label))
                buffer += label
        else:
            for label in name:
                buffer.append(len(label))
                buffer += label
        buffer.append(0)

    def record(self, record: Record) -> None:
        buffer = self.buffer
        self.name(record.name)
        buffer += _RECORD.pack(record.type, _IN, record.ttl, 0)
        start = len(buffer)
        for part in record.data:
            if isinstance(part, bytes):
                buffer += part
            else:
                # RFC 2782 forbids compression of SRV targets.
                self.name(part, may_point=record.type != SRV)
        buffer[start - 2 : start] = (len(buffer) - start).to_bytes(2)

    def records(self, records: Iterable[Record]) -> None:
        for record in records:
            self.record(record)


def encode(query: Query, response: Response, *, compress: bool = True) -> bytes:
    """The whole message that answers `query`."""
    writer = _Writer(compress)
    writer.name(query.name)
    writer.buffer += _QUESTION.pack(query.type, query.question_class)
    writer.records(response.answer)
    writer.records(response.authority)
    writer.records(response.additional)
    extra = len(response.additional)
    if query.edns is not None:
        writer.buffer += _opt(query.edns, response.subnet_scoped)
        extra += 1
    flags = QR | query.flags & (OPCODE | RD | CD) | response.flags | response.rcode
    counts = (1, len(response.answer), len(response.authority), extra)
    HEADER.pack_into(writer.buffer, 0, query.id, flags, *counts)
    return bytes(writer.buffer)


def _opt(edns: Edns, scoped: bool) -> bytes:
    option = b""
    if edns.subnet:
        family, source = edns.subnet[:2], edns.subnet[2]
        data = family + bytes((source, source if scoped else 0)) + edns.subnet[4:]
        option = _QUESTION.pack(_CLIENT_SUBNET, len(data)) + data
    return b"\0" + _RECORD.pack(OPT, edns.size, 0, len(option)) + option


def refusal(packet: bytes, rcode: int) -> bytes:
    """A bare header that turns a query down which can't be, or is not, parsed."""
    flags = int.from_bytes(packet[2:4])
    return packet[:2] + (QR | flags & (OPCODE | RD) | rcode).to_bytes(2) + bytes(8)


def plain_query(query_id: int, name: Name, query_type: int) -> bytes:
    """A question of ours to another server."""
    writer = _Writer(compress=False)
    writer.name(name)
    writer.buffer += _QUESTION.pack(query_type, _IN)
    HEADER.pack_into(writer.buffer, 0, query_id, RD, 1, 0, 0, 0)
    return bytes(writer.buffer)

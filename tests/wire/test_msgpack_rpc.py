"""Messages on a stream: captured headers, and any way in which the stream may be cut."""

import tracemalloc
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.wire import go_msgpack, msgpack_rpc
from discovery.wire.msgpack_rpc import Message, MessageParser
from tests.wire import vectors as v

STREAM = v.R1_HEADER + v.R1_BODY + v.R2_HEADER + v.R2_BODY + v.R3_HEADER + v.R3_BODY
MESSAGES = [Message(v.R1_HEADER, v.R1_BODY), Message(v.R2_HEADER, v.R2_BODY), Message(v.R3_HEADER, v.R3_BODY)]
LIMIT = 4096


@pytest.mark.parametrize(
    ("header", "seq", "method"),
    [
        (v.R1_HEADER, 1, "Catalog.NodeServiceList"),
        (v.R2_HEADER, 3, "Catalog.Register"),
        (v.R3_HEADER, 0x13, "KVS.Apply"),
    ],
)
def test_captured_request_headers(header: bytes, seq: int, method: str) -> None:
    assert msgpack_rpc.read_request_header(header) == msgpack_rpc.RequestHeader(seq, method)
    assert msgpack_rpc.request(seq, method, b"body") == header + b"body"


@pytest.mark.parametrize(
    ("header", "seq", "method"),
    [
        (v.R1_REPLY_HEADER, 1, "Catalog.NodeServiceList"),
        (v.R2_REPLY_HEADER, 3, "Catalog.Register"),
        (v.R3_REPLY_HEADER, 0x13, "KVS.Apply"),
    ],
)
def test_captured_reply_headers(header: bytes, seq: int, method: str) -> None:
    assert msgpack_rpc.read_reply_header(header) == msgpack_rpc.ReplyHeader("", seq, method)
    assert msgpack_rpc.reply(seq, method, b"body") == header + b"body"


@given(st.integers(0, (1 << 64) - 1), st.text(max_size=80))
def test_headers_of_any_number_and_method_are_as_the_dialect_has_them(seq: int, method: str) -> None:
    request, reply = msgpack_rpc.RequestHeader(seq, method), msgpack_rpc.ReplyHeader("", seq, method)
    assert msgpack_rpc.request(seq, method, b"body") == go_msgpack.encode(request) + b"body"
    assert msgpack_rpc.reply(seq, method, b"body") == go_msgpack.encode(reply) + b"body"
    assert msgpack_rpc.read_request_header(go_msgpack.encode(request)) == request
    assert msgpack_rpc.read_reply_header(go_msgpack.encode(reply)) == reply


def test_headers_in_other_forms_are_read_too() -> None:
    unsorted = msgpack.packb({"ServiceMethod": "KVS.Apply", "Seq": 5, "More": 1})
    assert msgpack_rpc.read_request_header(unsorted) == msgpack_rpc.RequestHeader(5, "KVS.Apply")
    wide = b"\x82\xa3Seq\xd3" + (5).to_bytes(8, "big") + b"\xadServiceMethod\xd9\x09KVS.Apply"
    assert msgpack_rpc.read_request_header(wide) == msgpack_rpc.RequestHeader(5, "KVS.Apply")


@given(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\x82\xa3Seq", b"\x82\xa3Seq\x05\xadServiceMethod", b"\x83\xa5Error\xa0\xa3Seq\xcd"]),
)
def test_headers_that_are_none_are_errors_and_nothing_else(noise: bytes, start: bytes) -> None:
    for read in (msgpack_rpc.read_request_header, msgpack_rpc.read_reply_header):
        with suppress(go_msgpack.DecodeError):
            header = read(start + noise)
            assert isinstance(header.service_method, str)


def test_an_error_comes_with_an_empty_body() -> None:
    (message,) = MessageParser(LIMIT).feed(msgpack_rpc.error_reply(7, "KVS.Apply", "Must provide key"))
    assert msgpack_rpc.read_reply_header(message.header) == msgpack_rpc.ReplyHeader("Must provide key", 7, "KVS.Apply")
    assert message.body == b"\x80"


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_stream_cut_anywhere_gives_the_same_messages(cut: int) -> None:
    parser = MessageParser(LIMIT)
    assert parser.feed(STREAM[:cut]) + parser.feed(STREAM[cut:]) == MESSAGES
    assert not parser.mid_message


@given(st.lists(st.integers(1, 60), min_size=1))
def test_a_stream_cut_into_pieces_gives_the_same_messages(sizes: list[int]) -> None:
    parser, messages, position = MessageParser(LIMIT), [], 0
    for size in sizes:
        messages += parser.feed(STREAM[position : position + size])
        position += size
    messages += parser.feed(STREAM[position:])
    assert messages == MESSAGES


def test_a_body_may_be_nil() -> None:
    assert MessageParser(LIMIT).feed(v.R1_HEADER + b"\xc0") == [Message(v.R1_HEADER, b"\xc0")]


def test_an_unfinished_message_is_known() -> None:
    parser = MessageParser(LIMIT)
    parser.feed(v.R1_HEADER)
    assert parser.mid_message


def test_large_values_arrive_in_pieces() -> None:
    body = msgpack.packb({"Value": bytes(range(256)) * 8192}, use_bin_type=False)
    stream = (v.R3_HEADER + body) * 2
    parser, messages = MessageParser(4 << 20), []
    for start in range(0, len(stream), 10_007):
        messages += parser.feed(stream[start : start + 10_007])
    assert messages == [Message(v.R3_HEADER, body)] * 2


@pytest.mark.parametrize("data", [b"\xc1", b"\x80\xc1", b"\x81\xa1a\xc1"])
def test_what_is_no_messagepack_is_refused(data: bytes) -> None:
    with pytest.raises(msgpack_rpc.MalformedStream):
        MessageParser(LIMIT).feed(data)


def test_a_message_over_the_limit_is_refused_before_it_is_complete() -> None:
    parser = MessageParser(LIMIT)
    parser.feed(v.R3_HEADER + b"\xdb\x00\x10\x00\x00")
    with pytest.raises(msgpack_rpc.MalformedStream, match="exceeds 4096 bytes"):
        parser.feed(bytes(LIMIT))


@pytest.mark.parametrize(
    "claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_claimed_lengths_allocate_nothing(claim: bytes) -> None:
    parser = MessageParser(8 << 20)
    tracemalloc.start()
    try:
        parser.feed(v.R1_HEADER + claim)
        parser.feed(b"\xdd\xff\xff\xff\xff" * 500 if claim[0] == 0xDD else bytes(1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes_are_cut_or_refused(chunks: list[bytes]) -> None:
    parser = MessageParser(LIMIT)
    try:
        messages = [message for chunk in chunks for message in parser.feed(chunk)]
    except msgpack_rpc.MalformedStream:
        return
    stream = b"".join(chunks)
    assert stream.startswith(b"".join(message.header + message.body for message in messages))

"""Yamux sessions against written-out frames, against each other, and against any bytes."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.wire import yamux
from discovery.wire.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    DataReceived,
    Event,
    PingAnswered,
    ProtocolError,
    Session,
    StreamEnded,
    StreamOpened,
    StreamReset,
    WentAway,
)

MEBIBYTE = 1 << 20


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, length) + payload


def data_frame(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, len(payload), payload)


def everything(session: Session) -> bytes:
    pieces = []
    while piece := session.data_to_send():
        pieces.append(piece)
    return b"".join(pieces)


def server_with_stream() -> Session:
    session = Session(client=False)
    assert session.receive_data(frame(WINDOW_UPDATE, SYN, 1, 0)) == [StreamOpened(1)]
    assert everything(session) == bytes.fromhex("000100020000000100000000")
    return session


def client_with_stream() -> Session:
    session = Session(client=True)
    assert session.open_stream() == 1
    assert everything(session) == bytes.fromhex("000100010000000100000000")
    assert session.receive_data(frame(WINDOW_UPDATE, ACK, 1, 0)) == []
    return session


class Pair:
    """A client and a server whose bytes are carried over by hand."""

    def __init__(self, max_streams: int = 1000) -> None:
        self.client = Session(client=True)
        self.server = Session(client=False, max_streams=max_streams)

    def carry(self) -> tuple[list[Event], list[Event]]:
        """Exchange all output once; what the client and what the server saw."""
        to_server, to_client = everything(self.client), everything(self.server)
        return self.client.receive_data(to_client), self.server.receive_data(to_server)


def test_the_captured_opening() -> None:
    session = Session(client=False)
    captured = bytes.fromhex("000100010000000100000000000000000000000100000005") + b"hello"
    assert session.receive_data(captured) == [StreamOpened(1), DataReceived(1, b"hello")]
    session.send(1, b"answer")
    assert everything(session) == bytes.fromhex("000100020000000100000000000000000000000100000006") + b"answer"
    assert session.take_drained() == [1]


def test_streams_are_numbered_by_side() -> None:
    client, server = Session(client=True), Session(client=False)
    assert [client.open_stream() for _ in range(3)] == [1, 3, 5]
    assert [server.open_stream() for _ in range(3)] == [2, 4, 6]


def test_syn_may_come_with_data_and_extra_window() -> None:
    session = Session(client=False)
    assert session.receive_data(data_frame(1, b"x", SYN)) == [StreamOpened(1), DataReceived(1, b"x")]
    session.receive_data(frame(WINDOW_UPDATE, SYN, 3, 100))
    session.send(3, bytes(INITIAL_WINDOW + 200))
    assert sum(len(event.data) for event in data_events(everything(session))) == INITIAL_WINDOW + 100


def data_events(output: bytes) -> list[DataReceived]:
    """The data frames of an output, read without any window."""
    events, position = [], 0
    while position < len(output):
        _, kind, _, stream, length = struct.unpack_from(">BBHII", output, position)
        position += 12
        if kind == DATA:
            events.append(DataReceived(stream, output[position : position + length]))
            position += length
    return events


def test_pings_both_ways() -> None:
    session = Session(client=False)
    assert session.receive_data(frame(PING, SYN, 0, 77)) == []
    assert everything(session) == frame(PING, ACK, 0, 77)
    value = session.ping()
    assert everything(session) == frame(PING, SYN, 0, value)
    assert session.receive_data(frame(PING, ACK, 0, value)) == [PingAnswered(value)]


def test_go_away_ends_the_taking_of_streams() -> None:
    session = client_with_stream()
    assert session.receive_data(frame(GO_AWAY, 0, 0, 0)) == [WentAway(0)]
    assert not session.accepts_streams
    with pytest.raises(AssertionError):
        session.open_stream()
    assert session.receive_data(data_frame(1, b"still")) == [DataReceived(1, b"still")]


def test_end_here_then_there() -> None:
    session = client_with_stream()
    session.end_stream(1)
    assert everything(session) == frame(WINDOW_UPDATE, FIN, 1, 0)
    assert session.receive_data(data_frame(1, b"late")) == [DataReceived(1, b"late")]
    assert session.receive_data(frame(WINDOW_UPDATE, FIN, 1, 0)) == [StreamEnded(1)]
    assert session.open_streams == 0


def test_end_there_then_here() -> None:
    session = server_with_stream()
    assert session.receive_data(frame(WINDOW_UPDATE, FIN, 1, 0)) == [StreamEnded(1)]
    session.send(1, b"answer")
    session.end_stream(1)
    assert everything(session) == data_frame(1, b"answer") + frame(WINDOW_UPDATE, FIN, 1, 0)
    assert session.open_streams == 0


@pytest.mark.parametrize("flags", [FIN, FIN | SYN])
def test_end_on_a_data_frame_follows_its_data(flags: int) -> None:
    session = server_with_stream()
    stream = 3 if flags & SYN else 1
    events = session.receive_data(data_frame(stream, b"last", flags))
    assert events[-2:] == [DataReceived(stream, b"last"), StreamEnded(stream)]


def test_end_waits_for_queued_data() -> None:
    session = server_with_stream()
    session.send(1, bytes(INITIAL_WINDOW + 1))
    session.end_stream(1)
    first = everything(session)
    assert not first.endswith(frame(WINDOW_UPDATE, FIN, 1, 0))
    session.receive_data(frame(WINDOW_UPDATE, 0, 1, 1))
    assert everything(session) == data_frame(1, b"\x00") + frame(WINDOW_UPDATE, FIN, 1, 0)


def test_reset_there_forgets_the_stream_and_its_queue() -> None:
    session = server_with_stream()
    session.send(1, b"half an answer")
    assert session.receive_data(frame(WINDOW_UPDATE, RST, 1, 0)) == [StreamReset(1)]
    assert session.open_streams == 0
    session.send(1, b"more")
    session.end_stream(1)
    session.grant(1, 10)
    assert everything(session) == b""


def test_reset_on_a_data_frame_throws_its_data_away() -> None:
    session = server_with_stream()
    assert session.receive_data(data_frame(1, b"xyz", RST) + frame(PING, SYN, 0, 1)) == [StreamReset(1)]
    assert everything(session) == frame(PING, ACK, 0, 1)


def test_reset_here_ignores_what_still_comes() -> None:
    session = client_with_stream()
    assert session.receive_data(frame(DATA, 0, 1, 6) + b"abc") == [DataReceived(1, b"abc")]
    session.reset_stream(1)
    assert everything(session) == frame(WINDOW_UPDATE, RST, 1, 0)
    late = b"def" + data_frame(1, b"late") + frame(WINDOW_UPDATE, FIN, 1, 0)
    assert session.receive_data(late) == []


def test_data_for_an_unknown_stream_is_thrown_away_in_any_size() -> None:
    session = server_with_stream()
    assert session.receive_data(frame(DATA, 0, 99, 3 * MEBIBYTE)) == []
    for _ in range(3):
        assert session.receive_data(bytes(MEBIBYTE)) == []
    assert session.receive_data(data_frame(1, b"x")) == [DataReceived(1, b"x")]


def test_streams_beyond_the_limit_are_reset() -> None:
    session = Session(client=False, max_streams=2)
    session.receive_data(b"".join(frame(WINDOW_UPDATE, SYN, stream, 0) for stream in (1, 3, 5)))
    assert everything(session)[-12:] == frame(WINDOW_UPDATE, RST, 5, 0)
    session.receive_data(frame(WINDOW_UPDATE, RST, 1, 0))
    assert session.receive_data(frame(WINDOW_UPDATE, SYN, 7, 0)) == [StreamOpened(7)]


def test_stale_streams_are_reset_at_the_second_look() -> None:
    session = client_with_stream()
    session.end_stream(1)
    everything(session)
    session.reset_stale_streams()
    assert everything(session) == b""
    session.reset_stale_streams()
    assert everything(session) == frame(WINDOW_UPDATE, RST, 1, 0)
    assert session.open_streams == 0


def test_window_exhaustion_and_refill_with_five_mebibytes() -> None:
    pair = Pair()
    stream = pair.client.open_stream()
    pair.carry()
    response = random.Random(5).randbytes(5 * MEBIBYTE)
    pair.server.send(stream, response)
    received = bytearray()
    for _ in range(100):
        events, _ = pair.carry()
        batch = b"".join(event.data for event in events if isinstance(event, DataReceived))
        assert len(batch) <= INITIAL_WINDOW
        received += batch
        pair.client.grant(stream, len(batch))
    assert received == response
    assert pair.server.take_drained() == [stream]


def test_grants_are_gathered_up_to_half_the_window() -> None:
    session = server_with_stream()
    half = INITIAL_WINDOW // 2
    session.receive_data(data_frame(1, bytes(half)))
    session.grant(1, half - 1)
    assert everything(session) == b""
    session.grant(1, 1)
    assert everything(session) == frame(WINDOW_UPDATE, 0, 1, half)


def test_nothing_more_is_taken_without_grants() -> None:
    session = server_with_stream()
    session.receive_data(data_frame(1, bytes(INITIAL_WINDOW)))
    with pytest.raises(ProtocolError, match="exceed its window of 0"):
        session.receive_data(data_frame(1, b"x"))
    assert everything(session) == frame(GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR)


def test_three_hundred_streams_share_the_connection() -> None:
    pair = Pair()
    streams = [pair.client.open_stream() for _ in range(300)]
    for stream in streams:
        pair.client.send(stream, b"question %d" % stream)
    _, events = pair.carry()
    asked = {event.stream: event.data for event in events if isinstance(event, DataReceived)}
    assert asked == {stream: b"question %d" % stream for stream in streams}
    for stream in streams:
        pair.server.send(stream, bytes(100_000))
    order = [event.stream for event in data_events(pair.server.data_to_send())]
    assert len(set(order)) == len(order) > 10
    assert pair.server.open_streams == 300


def test_congestion_holds_data_back_but_not_control() -> None:
    session = server_with_stream()
    session.send(1, b"answer")
    session.receive_data(frame(PING, SYN, 0, 9))
    assert session.data_to_send(control_only=True) == frame(PING, ACK, 0, 9)
    assert session.has_output
    assert session.data_to_send() == data_frame(1, b"answer")
    assert not session.has_output


CONVERSATION = (
    frame(WINDOW_UPDATE, SYN, 1, 0)
    + data_frame(1, b"hello")
    + frame(PING, SYN, 0, 5)
    + data_frame(3, b"world", SYN | FIN)
    + data_frame(9, b"for nobody")
    + frame(WINDOW_UPDATE, FIN, 1, 0)
    + frame(GO_AWAY, 0, 0, 0)
)
MEANING = [
    StreamOpened(1),
    DataReceived(1, b"hello"),
    StreamOpened(3),
    DataReceived(3, b"world"),
    StreamEnded(3),
    StreamEnded(1),
    WentAway(0),
]


def joined(events: list[Event]) -> list[Event]:
    """Events with neighbouring data of a stream put together."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, DataReceived) and isinstance(last, DataReceived) and event.stream == last.stream:
            result[-1] = DataReceived(event.stream, last.data + event.data)
        else:
            result.append(event)
    return result


@pytest.mark.parametrize("cut", range(len(CONVERSATION) + 1))
def test_frames_split_at_every_byte(cut: int) -> None:
    session = Session(client=False)
    events = session.receive_data(CONVERSATION[:cut]) + session.receive_data(CONVERSATION[cut:])
    assert joined(events) == MEANING


def test_frames_byte_by_byte() -> None:
    session = Session(client=False)
    events = [event for byte in CONVERSATION for event in session.receive_data(bytes([byte]))]
    assert joined(events) == MEANING


@pytest.mark.parametrize(
    "fatal",
    [
        b"\x01" + bytes(11),
        frame(4, 0, 1, 0),
        frame(DATA, 16, 1, 0),
        frame(DATA, 0, 0, 1),
        frame(WINDOW_UPDATE, SYN, 1, 0),
        frame(WINDOW_UPDATE, SYN, 2, 0),
        frame(DATA, 0, 1, INITIAL_WINDOW + 1),
        frame(WINDOW_UPDATE, 0, 1, 2**32 - 1),
        frame(WINDOW_UPDATE, FIN, 1, 0) * 2,
        frame(WINDOW_UPDATE, FIN, 1, 0) + data_frame(1, b"x"),
    ],
)
def test_breaking_the_protocol_ends_the_session(fatal: bytes) -> None:
    session = server_with_stream()
    with pytest.raises(ProtocolError):
        session.receive_data(fatal)
    assert everything(session).endswith(frame(GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR))


@given(st.binary(max_size=300))
def test_any_bytes_are_understood_or_end_the_session(data: bytes) -> None:
    session = Session(client=False, max_streams=3)
    try:
        session.receive_data(data)
    except ProtocolError:
        return
    assert session.open_streams <= 3


@pytest.mark.parametrize("seed", range(20))
def test_random_traffic_arrives_whole_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair()
    streams = [pair.client.open_stream() for _ in range(8)]
    sent, received = dict.fromkeys(streams, b""), dict.fromkeys(streams, b"")
    for _ in range(60):
        for stream in rng.sample(streams, 3):
            data = rng.randbytes(rng.randrange(60_000))
            sent[stream] += data
            pair.client.send(stream, data)
        receive(pair, received)
    for _ in range(60):
        receive(pair, received)
    assert received == sent, f"seed {seed}"


def receive(pair: Pair, received: dict[int, bytes]) -> None:
    _, events = pair.carry()
    for event in events:
        if isinstance(event, DataReceived):
            received[event.stream] += event.data
            pair.server.grant(event.stream, len(event.data))

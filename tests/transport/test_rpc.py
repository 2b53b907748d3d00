"""Calls between our pool and our server over real sockets."""

import asyncio
import random

import pytest

from discovery.model.errors import InvalidRequest, RemoteError
from discovery.transport.first_bytes import RPC, RPC_MULTIPLEXED
from discovery.transport.rpc_client import ConnectionLost, RpcError
from discovery.wire import go_msgpack, msgpack_rpc, yamux
from tests.transport.rpc_rig import RawConnection, pooling, serving
from tests.wire import vectors as v

BARE, MULTIPLEXED = bytes([RPC]), bytes([RPC_MULTIPLEXED])


class Store:
    """Answers calls from a dictionary; `held` calls wait for `release`."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, method: str, request: object) -> object:
        self.calls.append(method)
        match method, request:
            case "KVS.Apply", v.KVSRequest(dir_ent=entry):
                if not entry.key:
                    raise InvalidRequest("Must provide key")
                self.values[entry.key] = entry.value or b""
                return True
            case "KVS.Get", v.KeyRequest(key="held"):
                await self._hold()
                return v.KeyReply(index=1)
            case "KVS.Get", v.KeyRequest(key=key):
                return v.KeyReply(index=1, entries=[v.DirEntry(key=key, value=self.values[key])])
            case "Status.Leader", _:
                return "127.0.0.1:8300"
            case "Status.Peers", _:
                return []
            case _:
                return v.Empty()

    async def _hold(self) -> None:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def apply(key: str, value: bytes) -> v.KVSRequest:
    return v.KVSRequest(datacenter="dc1", op="set", dir_ent=v.DirEntry(key=key, value=value))


async def test_calls_and_replies() -> None:
    async with serving(Store()) as address, pooling() as pool:
        value = bytes(range(256))
        assert await pool.call(address, "KVS.Apply", apply("k", value)) is True
        reply = await pool.call(address, "KVS.Get", v.KeyRequest(key="k"))
        assert reply == v.KeyReply(index=1, entries=[v.DirEntry(key="k", value=value)])
        assert await pool.call(address, "Status.Leader", v.Empty()) == "127.0.0.1:8300"
        assert await pool.call(address, "Status.Peers", v.Empty()) == []
        assert await pool.call(address, "Status.Ping", v.Empty()) == v.Empty()


async def test_large_requests_and_replies() -> None:
    value = random.Random(1).randbytes(5 << 20)
    async with serving(Store()) as address, pooling() as pool:
        assert await pool.call(address, "KVS.Apply", apply("large", value))
        replies = await asyncio.gather(*(pool.call(address, "KVS.Get", v.KeyRequest(key="large")) for _ in range(3)))
        assert [reply.entries[0].value for reply in replies] == [value] * 3


async def test_three_hundred_blocking_calls_share_a_connection() -> None:
    store = Store()
    async with serving(store) as address, pooling() as pool:
        held = [asyncio.ensure_future(pool.call(address, "KVS.Get", v.KeyRequest(key="held"))) for _ in range(300)]
        await store.started.wait()
        assert await pool.call(address, "Status.Leader", v.Empty()) == "127.0.0.1:8300"
        store.release.set()
        assert await asyncio.gather(*held) == [v.KeyReply(index=1)] * 300


async def test_a_remote_error_carries_the_servers_text_and_calls_go_on() -> None:
    async with serving(Store()) as address, pooling() as pool:
        with pytest.raises(RpcError) as caught:
            await pool.call(address, "KVS.Apply", apply("", b""))
        assert caught.value.text == "Must provide key"
        assert await pool.call(address, "KVS.Apply", apply("k", b""))


async def test_errors_are_wrapped_once_for_every_hop() -> None:
    async def forwarding(method: str, request: object) -> object:
        raise RemoteError("No cluster leader")

    async with serving(forwarding) as address, pooling() as pool:
        with pytest.raises(RpcError, match=r"^rpc error making call: No cluster leader$"):
            await pool.call(address, "Status.Leader", v.Empty())


async def test_an_unexpected_error_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Store()) as address, pooling() as pool:
        with pytest.raises(RpcError, match="'missing'"):
            await pool.call(address, "KVS.Get", v.KeyRequest(key="missing"))
    assert "KVS.Get failed" in caplog.text


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("KVS.Zap", "rpc: can't find method KVS.Zap"),
        ("Nothing.Here", "rpc: can't find service Nothing.Here"),
        ("nodot", "rpc: service/method request ill-formed: nodot"),
    ],
)
async def test_an_unknown_method_is_answered_and_ends_the_stream(method: str, text: str) -> None:
    async with serving(Store()) as address, RawConnection.to(address, BARE) as connection:
        connection.write(msgpack_rpc.request(9, method, b"\x80"))
        header, body = await connection.reply()
        assert header == msgpack_rpc.ReplyHeader(text, 9, method)
        assert body == b"\x80"
        assert await connection.closed() == b""


async def test_a_body_of_the_wrong_type_is_answered_and_ends_the_stream() -> None:
    async with serving(Store()) as address, RawConnection.to(address, BARE) as connection:
        connection.write(msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode({"Key": 5})))
        header, _ = await connection.reply()
        assert header.error == "codec.decoder: KeyRequest.Key: expected string, got int"
        assert await connection.closed() == b""


@pytest.mark.parametrize("body", [b"\xc0", b"\x80"])
async def test_empty_requests(body: bytes) -> None:
    async with serving(Store()) as address, RawConnection.to(address, BARE) as connection:
        connection.write(msgpack_rpc.request(1, "Status.Leader", body))
        assert await connection.reply() == (
            msgpack_rpc.ReplyHeader("", 1, "Status.Leader"),
            b"\xae127.0.0.1:8300",
        )


async def test_captured_calls_are_served() -> None:
    async with serving(Store()) as address, RawConnection.to(address, BARE) as connection:
        connection.write(v.R3_HEADER + v.R3_BODY)
        header, body = await connection.reply()
        assert (header.seq, body) == (0x13, b"\xc3")


async def test_calls_written_ahead_are_served_in_order() -> None:
    store = Store()
    async with serving(store) as address, RawConnection.to(address, BARE) as connection:
        connection.write(
            msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode(v.KeyRequest(key="held")))
            + msgpack_rpc.request(2, "Status.Leader", b"\xc0")
            + msgpack_rpc.request(3, "Status.Peers", b"\xc0")
        )
        await store.started.wait()
        assert store.calls == ["KVS.Get"]
        store.release.set()
        assert [(await connection.reply())[0].seq for _ in range(3)] == [1, 2, 3]


async def test_a_caller_that_ends_its_side_still_gets_its_answer() -> None:
    store = Store()
    session = yamux.Session(client=True)
    stream = session.open_stream()
    session.send(stream, msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode(v.KeyRequest(key="held"))))
    session.end_stream(stream)
    async with serving(store) as address, RawConnection.to(address, MULTIPLEXED) as connection:
        connection.write(session.data_to_send())
        await store.started.wait()
        store.release.set()
        events: list[yamux.Event] = []
        while session.open_streams:
            events += session.receive_data(await connection.reader.read(65536))
        assert [type(event) for event in events] == [yamux.DataReceived, yamux.StreamEnded]


async def test_a_caller_that_never_reads_is_not_read_from() -> None:
    value = bytes(1 << 20)

    async def dispatch(method: str, request: object) -> object:
        return v.KeyReply(entries=[v.DirEntry(value=value)])

    call = msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode(v.KeyRequest(key="k" * 50_000)))
    async with serving(dispatch) as address, RawConnection.to(address, BARE) as connection:
        connection.writer.transport.set_write_buffer_limits(high=0)
        for _ in range(400):
            connection.write(call)
        # Were it read from, these 20 MB would have found their way out by the time others have been served.
        async with pooling() as pool:
            for _ in range(20):
                await pool.call(address, "KVS.Get", v.KeyRequest())
        assert connection.writer.transport.get_write_buffer_size() > 0


async def test_a_cancelled_call_is_cancelled_on_the_server() -> None:
    store = Store()
    async with serving(store) as address, pooling() as pool:
        call = asyncio.ensure_future(pool.call(address, "KVS.Get", v.KeyRequest(key="held")))
        await store.started.wait()
        call.cancel()
        await store.cancelled.wait()
        assert await pool.call(address, "Status.Peers", v.Empty()) == []


async def test_a_call_out_of_time_is_lost_and_cancelled_on_the_server() -> None:
    store = Store()
    async with serving(store) as address, pooling() as pool:
        with pytest.raises(ConnectionLost, match=r"no answer within 0.05 s") as caught:
            await pool.call(address, "KVS.Get", v.KeyRequest(key="held"), timeout=0.05)
        assert caught.value.sent
        await store.cancelled.wait()


async def test_a_closed_connection_cancels_its_calls() -> None:
    store = Store()
    async with serving(store) as address:
        async with RawConnection.to(address, BARE) as connection:
            connection.write(msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode(v.KeyRequest(key="held"))))
            await store.started.wait()
            connection.writer.transport.abort()
            await store.cancelled.wait()
        store.cancelled.clear()
        store.started.clear()
        async with pooling() as pool:
            call = asyncio.ensure_future(pool.call(address, "KVS.Get", v.KeyRequest(key="held")))
            await store.started.wait()
            await pool.close()
            await store.cancelled.wait()
            with pytest.raises(ConnectionLost):
                await call


async def test_nobody_listening() -> None:
    async with serving(Store()) as address:
        pass
    async with pooling() as pool:
        with pytest.raises(ConnectionLost) as caught:
            await pool.call(address, "Status.Leader", v.Empty())
        assert not caught.value.sent
        assert caught.value.address == address


async def test_a_server_that_stops_loses_its_calls_and_is_dialled_again() -> None:
    store = Store()
    async with pooling() as pool:
        async with serving(store) as address:
            call = asyncio.ensure_future(pool.call(address, "KVS.Get", v.KeyRequest(key="held")))
            await store.started.wait()
        with pytest.raises(ConnectionLost) as caught:
            await call
        assert caught.value.sent
        async with serving(Store()) as address:
            assert await pool.call(address, "Status.Peers", v.Empty()) == []


async def test_dropping_a_server_fails_its_calls_at_once() -> None:
    store = Store()
    async with serving(store) as address, pooling() as pool:
        call = asyncio.ensure_future(pool.call(address, "KVS.Get", v.KeyRequest(key="held")))
        await store.started.wait()
        pool.drop(address)
        with pytest.raises(ConnectionLost):
            await call
        assert await pool.call(address, "Status.Peers", v.Empty()) == []


async def test_a_closed_pool_takes_no_calls() -> None:
    async with serving(Store()) as address, pooling() as pool:
        await pool.close()
        with pytest.raises(ConnectionLost, match="pool is closed"):
            await pool.call(address, "Status.Peers", v.Empty())


async def test_simultaneous_callers_share_one_dial_and_streams_are_used_again() -> None:
    store = Store()
    async with counting_server(store) as (address, connections), pooling() as pool:
        await asyncio.gather(*(pool.call(address, "Status.Peers", v.Empty()) for _ in range(20)))
        for _ in range(50):
            await pool.call(address, "Status.Peers", v.Empty())
        assert len(connections) == 1
        assert max(connections[0]) == 39


async def test_the_server_keeps_pinging_and_answers_pings() -> None:
    session = yamux.Session(client=True)
    async with serving(Store(), keep_alive=0.02) as address, RawConnection.to(address, MULTIPLEXED) as connection:
        pinged, answered = 0, 0
        while pinged < 3 or answered < 3:
            session.ping()
            connection.write(session.data_to_send())
            data = await connection.reader.readexactly(12)
            pinged += data[1:4] == bytes([yamux.PING, 0, yamux.SYN])
            answered += sum(isinstance(event, yamux.PingAnswered) for event in session.receive_data(data))


async def test_the_client_keeps_pinging_and_answers_pings() -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, pinged, answered = yamux.Session(client=False), 0, 0
        await reader.read(1)
        while pinged < 3 or answered < 3:
            session.ping()
            writer.write(session.data_to_send())
            data = await reader.read(65536)
            pinged += bytes([0, yamux.PING, 0, yamux.SYN]) in data
            answered += sum(isinstance(event, yamux.PingAnswered) for event in session.receive_data(data))
        done.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, pooling(keep_alive=0.02) as pool:
        with pytest.raises(ConnectionLost):
            await pool.call(f"{host}:{port}", "Status.Peers", v.Empty())
    assert done.is_set()


async def test_a_server_that_does_not_answer_pings_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, pooling(keep_alive=0.02) as pool:
        with pytest.raises(ConnectionLost):
            await pool.call(f"{host}:{port}", "Status.Peers", v.Empty())


class counting_server:
    """A hand-made yamux server that notes, for each connection, the streams its calls came on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connections: list[set[int]] = []

    async def __aenter__(self) -> tuple[str, list[set[int]]]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}", self._connections

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == MULTIPLEXED
        session, streams, parsers = yamux.Session(client=False), set[int](), dict[int, msgpack_rpc.MessageParser]()
        self._connections.append(streams)
        while data := await reader.read(65536):
            for event in session.receive_data(data):
                if isinstance(event, yamux.StreamOpened):
                    parsers[event.stream] = msgpack_rpc.MessageParser(1 << 20)
                elif isinstance(event, yamux.DataReceived):
                    streams.add(event.stream)
                    for message in parsers[event.stream].feed(event.data):
                        header = msgpack_rpc.read_request_header(message.header)
                        session.send(event.stream, msgpack_rpc.reply(header.seq, header.service_method, b"\x90"))
            writer.write(session.data_to_send())
        writer.close()


@pytest.mark.parametrize("answer", ["reset", "end", "twice", "wrong number", "garbage"])
async def test_a_server_that_misbehaves_on_a_stream_fails_the_call(answer: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = yamux.Session(client=False)
        await reader.read(1)
        while data := await reader.read(65536):
            events = session.receive_data(data)
            if any(isinstance(event, yamux.DataReceived) for event in events):
                misbehave(session)
                writer.write(session.data_to_send())
        writer.close()

    def misbehave(session: yamux.Session) -> None:
        match answer:
            case "reset":
                session.reset_stream(1)
            case "end":
                session.end_stream(1)
            case "twice":
                session.send(1, msgpack_rpc.reply(1, "Status.Peers", b"\x90") * 2)
            case "wrong number":
                session.send(1, msgpack_rpc.reply(99, "Status.Peers", b"\x90"))
            case "garbage":
                session.send(1, b"\xc1\xc1\xc1")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, pooling() as pool:
        with pytest.raises(ConnectionLost) as caught:
            await pool.call(f"{host}:{port}", "Status.Peers", v.Empty())
        assert caught.value.sent


async def test_a_reset_stream_cancels_only_its_own_call() -> None:
    store = Store()
    session = yamux.Session(client=True)
    first, second = session.open_stream(), session.open_stream()
    session.send(first, msgpack_rpc.request(1, "KVS.Get", go_msgpack.encode(v.KeyRequest(key="held"))))
    async with serving(store) as address, RawConnection.to(address, MULTIPLEXED) as connection:
        connection.write(session.data_to_send())
        await store.started.wait()
        session.reset_stream(first)
        session.send(second, msgpack_rpc.request(2, "Status.Leader", b"\xc0"))
        connection.write(session.data_to_send())
        await store.cancelled.wait()
        received = b""
        while b"127.0.0.1:8300" not in received:
            for event in session.receive_data(await connection.reader.read(65536)):
                assert isinstance(event, yamux.DataReceived)
                assert event.stream == second
                received += event.data


async def test_an_unknown_method_ends_only_its_stream() -> None:
    async with serving(Store()) as address, pooling() as pool:
        await pool.call(address, "Status.Peers", v.Empty())
        session = yamux.Session(client=True)
        stream = session.open_stream()
        session.send(stream, msgpack_rpc.request(1, "No.Such", b"\xc0"))
        async with RawConnection.to(address, MULTIPLEXED) as connection:
            connection.write(session.data_to_send())
            events: list[yamux.Event] = []
            while yamux.StreamEnded(stream) not in events:
                events += session.receive_data(await connection.reader.read(65536))
            other = session.open_stream()
            session.send(other, msgpack_rpc.request(2, "Status.Peers", b"\xc0"))
            connection.write(session.data_to_send())
            while not any(isinstance(event, yamux.DataReceived) and event.stream == other for event in events):
                events += session.receive_data(await connection.reader.read(65536))

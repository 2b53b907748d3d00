"""gRPC and HTTP/2 ping checks: against a real gRPC server, and against servers that do not behave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from discovery.local.checks.grpc import GrpcProbe
from discovery.local.checks.h2ping import H2PingProbe
from discovery.local.checks.tls import AgentTls, TlsContexts
from discovery.model.definitions import CheckSpec
from tests.local.test_probes import TIMEOUT, closed_port, serving
from tests.transport.certificates import Authority

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
health = pytest.importorskip("grpc_health.v1.health", reason="grpcio-health-checking is not installed")
health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
health_pb2_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# --- a real gRPC server ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def grpc_server(*, with_health: bool = True, credentials: Any = None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if with_health:
        servicer = health.aio.HealthServicer()
        status = health_pb2.HealthCheckResponse
        await servicer.set("", status.SERVING)
        await servicer.set("web", status.SERVING)
        await servicer.set("sick", status.NOT_SERVING)
        await servicer.set("n" * 300, status.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_what_a_grpc_server_says_of_itself_decides() -> None:
    async with grpc_server() as address:
        for target in (address, f"{address}/web", f"{address}/{'n' * 300}"):
            assert await GrpcProbe(target, TIMEOUT, None).run() == ("passing", f"gRPC check {target}: success")
        sick = await GrpcProbe(f"{address}/sick", TIMEOUT, None).run()
        assert sick == ("critical", f"gRPC {address}/sick serving status: NOT_SERVING")
        unknown = await GrpcProbe(f"{address}/nope", TIMEOUT, None).run()
        assert unknown.status == "critical"
        assert unknown.output.startswith("rpc error: code = NotFound desc = ")


async def test_a_grpc_server_without_health_service_is_critical() -> None:
    async with grpc_server(with_health=False) as address:
        result = await GrpcProbe(address, TIMEOUT, None).run()
        assert result.status == "critical"
        assert result.output.startswith("rpc error: code = Unimplemented desc = ")


async def test_a_grpc_server_answers_pings() -> None:
    async with grpc_server() as address:
        assert await H2PingProbe(address, TIMEOUT, None).run() == ("passing", "HTTP2 ping was successful")


async def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = map(Path, authority.issue("server", "server.test"))
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    async with grpc_server(credentials=credentials) as address:
        trusting = TlsContexts(AgentTls(ca_file=authority.file)).context(CheckSpec(), http2=True)
        assert (await GrpcProbe(address, TIMEOUT, trusting, "server.test").run()).status == "passing"
        assert (await H2PingProbe(address, TIMEOUT, trusting, "server.test").run()).status == "passing"
        wary = TlsContexts().context(CheckSpec(), http2=True)
        refused = await GrpcProbe(address, TIMEOUT, wary, "server.test").run()
        assert refused.status == "critical"
        assert "transport: Error while dialing tls: CERTIFICATE_VERIFY_FAILED" in refused.output
        careless = TlsContexts().context(CheckSpec(tls_skip_verify=True), http2=True)
        assert (await GrpcProbe(address, TIMEOUT, careless).run()).status == "passing"


async def test_grpc_errors_are_told_in_consuls_words() -> None:
    port = closed_port()
    result = await GrpcProbe(f"127.0.0.1:{port}", TIMEOUT, None).run()
    dial = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    text = f'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing {dial}"'
    assert result == ("critical", text)


# --- servers that do not behave --------------------------------------------------------------------------------------


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read()
    writer.close()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(24)
    writer.close()


@pytest.mark.parametrize(
    ("talk", "reason"),
    [(deaf, "context deadline exceeded"), (http1, "not HTTP/2: "), (hanging_up, "the connection was closed")],
)
async def test_servers_that_do_not_speak_http2(talk: Talk, reason: str) -> None:
    async with serving(talk) as address:
        pinged = await H2PingProbe(address, 0.5, None).run()
        assert pinged.status == "critical"
        assert pinged.output.startswith(f"HTTP2 ping failed: {reason}")
        asked = await GrpcProbe(address, 0.5, None).run()
        assert asked.status == "critical"
        assert f" desc = {reason}" in asked.output


async def test_nobody_there_to_ping() -> None:
    port = closed_port()
    expected = f"HTTP2 ping failed: dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await H2PingProbe(f"127.0.0.1:{port}", TIMEOUT, None).run() == ("critical", expected)


def replying(headers: list[tuple[str, str]], body: bytes = b"", trailers: list[tuple[str, str]] | None = None) -> Talk:
    """A server that answers every request with these; without body and trailers the headers end the answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, headers, end_stream=not body and trailers is None)
                    if body:
                        connection.send_data(event.stream_id, body, end_stream=trailers is None)
                    if trailers is not None:
                        connection.send_headers(event.stream_id, trailers, end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    return talk


OK = [(":status", "200"), ("content-type", "application/grpc")]
FINE = [("grpc-status", "0")]
INTERNAL = "rpc error: code = Internal desc ="


@pytest.mark.parametrize(
    ("talk", "status", "output"),
    [
        (replying(OK, b"\0\0\0\0\x02\x08\x01", FINE), "passing", "gRPC check {}: success"),
        (replying(OK, b"\0\0\0\0\0", FINE), "critical", "gRPC {} serving status: UNKNOWN"),
        (replying(OK, b"\0\0\0\0\x02\x08\x03", FINE), "critical", "gRPC {} serving status: SERVICE_UNKNOWN"),
        (replying(OK, b"\0\0\0\0\x02\x08\x09", FINE), "critical", "gRPC {} serving status: 9"),
        (replying(OK, b"\x01\0\0\0\x02\x08\x01", FINE), "critical", f"{INTERNAL} the answer is not one plain message"),
        (replying(OK, b"\0\0\0\0\x09\x08\x01", FINE), "critical", f"{INTERNAL} the answer is not one plain message"),
        (replying(OK, b"\0\0\0\0\x02\x08\x01"), "critical", f"{INTERNAL} server closed the stream without sending trailers"),
        (replying([(":status", "404")]), "critical", "rpc error: code = Unknown desc = unexpected HTTP status code 404"),
        (
            replying([*OK, ("grpc-status", "7"), ("grpc-message", "not%20for you")]),
            "critical",
            "rpc error: code = PermissionDenied desc = not for you",
        ),
        (replying([*OK, ("grpc-status", "99")]), "critical", "rpc error: code = Code(99) desc = "),
        (replying(OK, b"x" * 10_000), "critical", "rpc error: code = Unavailable desc = an answer of more than 4096 bytes"),
    ],
)  # fmt: skip
async def test_answers_of_grpc_servers(talk: Talk, status: str, output: str) -> None:
    async with serving(talk) as address:
        assert await GrpcProbe(address, TIMEOUT, None).run() == (status, output.format(address))

"""TLS on the server port, with certificates made here."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discovery.transport.dialer import Dialer
from discovery.transport.first_bytes import RAFT, RPC, RPC_MULTIPLEXED, SNAPSHOT, TLS
from discovery.transport.listener import Listener
from discovery.transport.rpc_client import ConnectionLost
from discovery.transport.rpc_server import RpcServer
from discovery.transport.snapshot_rpc import SnapshotServer, restore_snapshot, save_snapshot
from discovery.transport.tls import InvalidTls, Tls, TlsOptions
from discovery.wire import msgpack_rpc
from tests.transport.certificates import Authority
from tests.transport.rpc_rig import METHODS, RawConnection, listening, pooling
from tests.transport.snapshot_rig import Keeper
from tests.wire import vectors as v

SERVER = "server.dc1.consul"


async def peers(method: str, request: object) -> object:
    return ["x" * 300_000]


class Setup:
    """Certificates of one authority, and the options they are used with."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.stranger = Authority(directory, "stranger")
        self.server = self.authority.issue("server", SERVER)
        self.client = self.authority.issue("client", "client.dc1.consul")
        self.foreign = self.stranger.issue("foreign", SERVER)

    def tls(self, pair: tuple[str, str] | None, **flags: Any) -> Tls:
        cert_file, key_file = pair or ("", "")
        return Tls(TlsOptions(ca_file=self.authority.file, cert_file=cert_file, key_file=key_file, **flags))


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def serving(tls: Tls, **options: Any) -> AsyncIterator[str]:
    server = RpcServer(peers, METHODS)
    protocols = {RPC: server.single, RPC_MULTIPLEXED: server.multiplexed, RAFT: server.single}
    async with listening(Listener(protocols, tls, **options)) as address:
        yield address


async def ask(address: str, tls: Tls | None) -> object:
    async with pooling(dialer=Dialer(tls, timeout=5)) as pool:
        return await pool.call(address, "Status.Peers", v.Empty())


async def test_mutual_tls_with_server_names(setup: Setup) -> None:
    flags = {"verify_incoming": True, "verify_outgoing": True, "verify_server_hostname": True}
    async with serving(setup.tls(setup.server, **flags)) as address:
        assert await ask(address, setup.tls(setup.client, **flags)) == ["x" * 300_000]


async def test_clients_need_no_certificate_unless_asked(setup: Setup) -> None:
    async with serving(setup.tls(setup.server)) as address:
        assert await ask(address, setup.tls(None, verify_outgoing=True)) == ["x" * 300_000]
        assert await ask(address, None) == ["x" * 300_000]


async def test_a_server_without_the_name_is_refused(setup: Setup) -> None:
    async with serving(setup.tls(setup.client)) as address:
        assert await ask(address, setup.tls(None, verify_outgoing=True))
        with pytest.raises(ConnectionLost, match="Hostname mismatch") as caught:
            await ask(address, setup.tls(None, verify_server_hostname=True))
        assert not caught.value.sent


async def test_a_server_of_another_authority_is_refused(setup: Setup) -> None:
    async with serving(setup.tls(setup.foreign)) as address:
        with pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(address, setup.tls(None, verify_outgoing=True))


@pytest.mark.parametrize("who", ["foreign", None])
async def test_a_client_without_a_sound_certificate_is_refused(setup: Setup, who: str | None) -> None:
    async with serving(setup.tls(setup.server, verify_incoming=True)) as address:
        pair = getattr(setup, who) if who else None
        with pytest.raises(ConnectionLost):
            await ask(address, setup.tls(pair, verify_outgoing=True))


@pytest.mark.parametrize("first", [RPC, RPC_MULTIPLEXED, RAFT, 0x05])
async def test_plain_connections_are_refused_when_certificates_are_demanded(
    setup: Setup, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(setup.tls(setup.server, verify_incoming=True)) as address,
        RawConnection.to(address, bytes([first])) as connection,
    ):
        assert await connection.closed() == b""
    assert "without TLS, which is required" in caplog.text


@asynccontextmanager
async def inside_tls(address: str, tls: Tls) -> AsyncIterator[RawConnection]:
    """A connection whose handshake is done and on which no inner byte was sent."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(bytes([TLS]))
    context = tls.outgoing
    assert context is not None
    await writer.start_tls(context, server_hostname=SERVER)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


async def test_the_inner_byte_selects_and_what_follows_it_is_kept(setup: Setup) -> None:
    async with (
        serving(setup.tls(setup.server)) as address,
        inside_tls(address, setup.tls(None, verify_outgoing=True)) as connection,
    ):
        connection.write(bytes([RPC]) + msgpack_rpc.request(4, "Status.Peers", b"\xc0"))
        assert (await connection.reply())[0].seq == 4


async def test_tls_inside_tls_is_refused(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(setup.tls(setup.server)) as address,
        inside_tls(address, setup.tls(None, verify_outgoing=True)) as connection,
    ):
        connection.write(bytes([TLS]))
        assert await connection.closed() == b""
    assert "TLS inside TLS" in caplog.text


async def test_silence_before_and_inside_tls_is_not_waited_out(setup: Setup) -> None:
    async with serving(setup.tls(setup.server), handshake_timeout=0.3) as address:
        async with RawConnection.to(address, bytes([TLS])) as connection:
            assert await connection.closed() == b""
        async with inside_tls(address, setup.tls(None, verify_outgoing=True)) as connection:
            assert await connection.closed() == b""


async def test_noise_instead_of_a_handshake(setup: Setup) -> None:
    async with serving(setup.tls(setup.server)) as address:
        async with RawConnection.to(address, bytes([TLS]) + b"GET / HTTP/1.1\r\n\r\n") as connection:
            await connection.closed()
        assert await ask(address, setup.tls(None, verify_outgoing=True))


async def test_raft_is_for_servers_only_where_names_are_verified(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    flags = {"verify_incoming": True, "verify_server_hostname": True}
    call = bytes([RAFT]) + msgpack_rpc.request(1, "Status.Peers", b"\xc0")
    async with serving(setup.tls(setup.server, **flags)) as address:
        async with inside_tls(address, setup.tls(setup.server, **flags)) as connection:
            connection.write(call)
            await connection.reply()
        async with inside_tls(address, setup.tls(setup.client, **flags)) as connection:
            connection.write(call)
            assert await connection.closed() == b""
    assert f"does not name {SERVER}" in caplog.text


async def test_snapshots_are_restored_under_tls(setup: Setup) -> None:
    keeper, archive = Keeper(), gzip.compress(b"other")
    protocols = {SNAPSHOT: SnapshotServer(keeper).connection}
    async with listening(Listener(protocols, setup.tls(setup.server))) as address:
        dialer = Dialer(setup.tls(None, verify_outgoing=True))
        await restore_snapshot(dialer, address, archive, datacenter="dc1", token="")
        saved, _ = await save_snapshot(dialer, address, datacenter="dc1", token="", stale=False)
    assert saved == keeper.archive == archive


async def test_reloaded_certificates_serve_new_connections(setup: Setup) -> None:
    tls = setup.tls(setup.foreign)
    async with serving(tls) as address:
        with pytest.raises(ConnectionLost):
            await ask(address, setup.tls(None, verify_outgoing=True))
        cert_file, key_file = setup.server
        tls.reload(TlsOptions(ca_file=setup.authority.file, cert_file=cert_file, key_file=key_file))
        assert await ask(address, setup.tls(None, verify_outgoing=True))


async def test_a_failed_reload_changes_nothing(setup: Setup) -> None:
    tls = setup.tls(setup.server)
    async with serving(tls) as address:
        with pytest.raises(InvalidTls):
            tls.reload(TlsOptions(ca_file="missing.pem", verify_outgoing=True))
        assert await ask(address, setup.tls(None, verify_outgoing=True))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (TlsOptions(verify_incoming=True), "without cert_file"),
        (TlsOptions(verify_outgoing=True), "without ca_file"),
        (TlsOptions(verify_outgoing=True, ca_file="missing.pem"), "TLS configuration"),
        (TlsOptions(verify_outgoing=True, ca_file=__file__), "TLS configuration"),
        (TlsOptions(verify_outgoing=True, min_version="ssl3"), "tls_min_version 'ssl3' is none of"),
        (TlsOptions(verify_outgoing=True, cipher_suites="nonsense"), "TLS configuration"),
    ],
)
def test_options_that_cannot_work(options: TlsOptions, text: str) -> None:
    with pytest.raises(InvalidTls, match=text):
        Tls(options)


def test_versions_and_ciphers_are_those_asked_for(setup: Setup) -> None:
    options = TlsOptions(
        ca_path=str(Path(setup.authority.file).parent),
        verify_outgoing=True,
        min_version="tls13",
        cipher_suites="ECDHE-RSA-AES128-GCM-SHA256",
    )
    context = Tls(options).outgoing
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert "ECDHE-RSA-AES128-GCM-SHA256" in [cipher["name"] for cipher in context.get_ciphers()]

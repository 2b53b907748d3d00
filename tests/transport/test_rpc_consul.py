"""Our client against a real Consul server, where its program is at hand."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from discovery.transport.dialer import Dialer
from discovery.transport.first_bytes import RPC
from discovery.transport.rpc_client import ConnectionLost, RpcError, RpcPool
from discovery.transport.tls import Tls, TlsOptions
from discovery.wire import go_msgpack, msgpack_rpc
from tests.transport.certificates import Authority
from tests.transport.peers import find, needs
from tests.transport.rpc_rig import RawConnection, pooling
from tests.wire import vectors as v

CONSUL = find("consul")
HOST = "127.0.24.91"

pytestmark = needs("consul")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def consul(*flags: str) -> AsyncIterator[str]:
    """The server port of a development agent that elects itself."""
    async with process_of_consul(*flags) as (address, _):
        yield address


@asynccontextmanager
async def process_of_consul(*flags: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    ports = {name: free_port() for name in ("server", "serf-lan", "serf-wan")}
    assert CONSUL is not None
    process = await asyncio.create_subprocess_exec(
        CONSUL, "agent", "-dev", "-bind", HOST, "-client", HOST, "-http-port", "-1", "-dns-port", "-1", "-grpc-port", "-1",
        "-node", "real", *flags, *(part for name, port in ports.items() for part in (f"-{name}-port", str(port))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip
    draining = asyncio.ensure_future(drain(process))
    try:
        yield f"{HOST}:{ports['server']}", process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        await draining


async def drain(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.read()


async def ready(pool: RpcPool, address: str) -> None:
    """Wait until the server has registered itself."""
    query = v.Query(datacenter="dc1")
    async with asyncio.timeout(30):
        while True:
            try:
                if (await pool.call(address, "Catalog.ListNodes", query, timeout=5)).nodes:
                    return
            except (RpcError, ConnectionLost):
                pass
            await asyncio.sleep(0.1)


async def test_calls_against_consul() -> None:
    async with consul() as address, pooling() as pool:
        await ready(pool, address)

        nodes = await pool.call(address, "Catalog.ListNodes", v.Query(datacenter="dc1"))
        assert [(node.node, node.address) for node in nodes.nodes] == [("real", HOST)]
        assert nodes.known_leader
        assert nodes.index > 0
        assert await pool.call(address, "Status.Leader", v.Empty()) == address
        assert await pool.call(address, "Status.Peers", v.Empty()) == [address]

        value = bytes(range(256)) * 2000
        entry = v.DirEntry(key="a/b", value=value, flags=42)
        assert not await pool.call(address, "KVS.Apply", v.KVSRequest(datacenter="dc1", op="set", dir_ent=entry))
        reply = await pool.call(address, "KVS.Get", v.KeyRequest(datacenter="dc1", key="a/b"))
        assert [(entry.key, entry.value, entry.flags) for entry in reply.entries] == [("a/b", value, 42)]

        replies = await asyncio.gather(
            *(pool.call(address, "KVS.Get", v.KeyRequest(datacenter="dc1", key="a/b")) for _ in range(200))
        )
        assert all(reply.entries[0].value == value for reply in replies)

        blocking = v.KeyRequest(datacenter="dc1", key="a/b", min_query_index=reply.index, max_query_time=20 * 10**9)
        waiting = asyncio.ensure_future(pool.call(address, "KVS.Get", blocking))
        cas = v.DirEntry(key="a/b", value=b"new", modify_index=reply.entries[0].modify_index)
        assert await pool.call(address, "KVS.Apply", v.KVSRequest(datacenter="dc1", op="cas", dir_ent=cas))
        assert (await waiting).entries[0].value == b"new"

        with pytest.raises(RpcError, match=r"^Must provide key$"):
            await pool.call(address, "KVS.Apply", v.KVSRequest(datacenter="dc1", op="set"))
        with pytest.raises(RpcError, match=r"^No path to datacenter$"):
            await pool.call(address, "KVS.Get", v.KeyRequest(key="a/b"))
        missing = await pool.call(address, "KVS.Get", v.KeyRequest(datacenter="dc1", key="none"))
        assert missing.entries is None

        abandoned = v.KeyRequest(datacenter="dc1", key="none", min_query_index=10**9, max_query_time=60 * 10**9)
        with pytest.raises(ConnectionLost, match="no answer within"):
            await pool.call(address, "KVS.Get", abandoned, timeout=0.2)
        assert await pool.call(address, "Status.Leader", v.Empty()) == address

        async with RawConnection.to(address, bytes([RPC])) as connection:
            connection.write(msgpack_rpc.request(5, "KVS.Zap", go_msgpack.encode(v.Empty())))
            header, _ = await connection.reply()
            assert header.error.startswith("rpc: can't find method KVS.Zap")


async def test_calls_under_way_are_lost_with_consul_and_go_to_the_next_one_at_its_address() -> None:
    async with process_of_consul() as (address, process), pooling() as pool:
        await ready(pool, address)
        blocking = v.KeyRequest(datacenter="dc1", key="none", min_query_index=10**9, max_query_time=60 * 10**9)
        waiting = [asyncio.ensure_future(pool.call(address, "KVS.Get", blocking)) for _ in range(20)]
        assert await pool.call(address, "Status.Leader", v.Empty()) == address
        process.send_signal(signal.SIGKILL)
        for call in waiting:
            with pytest.raises(ConnectionLost) as lost:
                await call
            assert lost.value.sent
        await process.wait()
        with pytest.raises(ConnectionLost) as lost:
            await pool.call(address, "Status.Leader", v.Empty())
        assert not lost.value.sent


async def test_calls_against_consul_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server", "server.dc1.consul"), authority.issue("client", "client.dc1.consul")
    stranger = Authority(tmp_path, "stranger").issue("stranger", "server.dc1.consul")

    def tls(cert_and_key: tuple[str, str] | None, datacenter: str = "dc1") -> Tls:
        cert, key = cert_and_key or ("", "")
        options = TlsOptions(
            ca_file=authority.file, cert_file=cert, key_file=key, datacenter=datacenter,
            verify_outgoing=True, verify_server_hostname=True,
        )  # fmt: skip
        return Tls(options)

    settings = {
        "ca_file": authority.file, "cert_file": server[0], "key_file": server[1],
        "verify_incoming_rpc": True, "verify_outgoing": True, "verify_server_hostname": True,
    }  # fmt: skip
    file = tmp_path / "tls.json"
    file.write_text(json.dumps(settings))
    async with consul("-config-file", str(file)) as address:
        async with pooling(dialer=Dialer(tls(client))) as pool:
            await ready(pool, address)
            assert await pool.call(address, "Status.Leader", v.Empty()) == address
        for wrong in (Dialer(), Dialer(tls(None)), Dialer(tls(stranger)), Dialer(tls(client)).towards("dc2")):
            async with pooling(dialer=wrong) as pool:
                with pytest.raises(ConnectionLost):
                    await pool.call(address, "Status.Leader", v.Empty(), timeout=10)

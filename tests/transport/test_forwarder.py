"""How requests find a server, and what is never asked twice: client agents, followers, and other datacenters."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from discovery.model import requests as r
from discovery.model.errors import (
    DiscoveryError,
    NoLeader,
    NoPathToDatacenter,
    NoServers,
    NotFound,
    OutcomeUnknown,
    RemoteError,
    RequestFailed,
)
from discovery.model.methods import METHODS
from discovery.model.records import DirEntry
from discovery.transport import first_bytes
from discovery.transport.datacenters import DatacenterForwarder
from discovery.transport.dialer import Dialer
from discovery.transport.forwarder import Forwarder, LeaderForwarder, ServerList
from discovery.transport.listener import Listener
from discovery.transport.rpc_client import RpcPool
from discovery.transport.rpc_server import RpcServer
from discovery.transport.tls import Tls, TlsOptions
from tests.transport.certificates import Authority

READ = r.KeyRequest(key="a")
WRITE = r.KVSRequest(op="set", dir_ent=DirEntry(key="a", value=b"1"))
FOUND = r.IndexedDirEntries(index=7, entries=[DirEntry(key="a", value=b"1")])

Answer = Callable[["Server", Any], Awaitable[Any]]


class Server:
    """A server that keeps what it was asked and answers as a test says."""

    def __init__(self, answer: Answer, tls: Tls | None = None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.arrivals: asyncio.Queue[str] = asyncio.Queue()
        self._answer = answer
        rpc = RpcServer(self._dispatch, METHODS)
        self._listener = Listener({first_bytes.RPC_MULTIPLEXED: rpc.multiplexed}, tls)
        self.address = ""

    async def start(self) -> None:
        host, port = await self._listener.start("127.0.24.9", 0)
        self.address = f"{host}:{port}"

    async def _dispatch(self, method: str, request: Any) -> Any:
        self.asked.append((method, request))
        self.arrivals.put_nowait(method)
        return await self._answer(self, request)

    async def die(self) -> None:
        await self._listener.close()


async def found(server: Server, request: Any) -> Any:
    return True if isinstance(request, r.KVSRequest) else FOUND


async def never(server: Server, request: Any) -> Any:
    await asyncio.Event().wait()


async def die_on_request(server: Server, request: Any) -> Any:
    asyncio.ensure_future(server.die())  # noqa: RUF006  it ends before the test does
    await asyncio.Event().wait()


def refusing(error: DiscoveryError) -> Answer:
    async def refuse(server: Server, request: Any) -> Any:
        raise error

    return refuse


class World:
    """Servers, and the pools that reach them; all is closed at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def server(self, answer: Answer = found, tls: Tls | None = None) -> Server:
        server = Server(answer, tls)
        await server.start()
        self._stack.push_async_callback(server.die)
        return server

    def pool(self) -> RpcPool:
        pool = RpcPool(METHODS)
        self._stack.push_async_callback(pool.close)
        return pool

    def client(self, *servers: Server, hold_time: float = 1.0) -> Forwarder:
        """Asks the servers in this order."""
        known = ServerList(random.Random(1))
        for server in servers:
            known.update([*known.without([]), server.address])
        while servers and known.first() != servers[0].address:
            known.failed(str(known.first()))
        return Forwarder(self.pool(), known, random.Random(1), datacenter="dc1", hold_time=hold_time)

    def datacenters(self, dialer: Dialer | None = None, **servers: list[Server]) -> DatacenterForwarder:
        forwarder = DatacenterForwarder(dialer or Dialer(), random.Random(1))
        forwarder.update({name: [server.address for server in some] for name, some in servers.items()})
        self._stack.push_async_callback(forwarder.close)
        return forwarder


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack)


# --- client agents -------------------------------------------------------------------------------------------------------


async def test_a_client_asks_one_server_and_names_its_datacenter(world: World) -> None:
    first, second = await world.server(), await world.server()
    client = world.client(first, second)
    assert await client.call("KVS.Get", READ) == FOUND
    assert (await client.ask("KVS.Get", READ)).reply == FOUND
    assert [request.datacenter for _, request in first.asked] == ["dc1", "dc1"]
    assert second.asked == []


async def test_a_client_that_knows_no_server_says_so(world: World) -> None:
    with pytest.raises(NoServers):
        await world.client().call("KVS.Get", READ)


async def test_a_dead_server_is_passed_over_without_delay(world: World) -> None:
    dead, living = await world.server(), await world.server()
    await dead.die()
    client = world.client(dead, living, hold_time=3600.0)
    async with asyncio.timeout(10):
        assert await client.call("KVS.Apply", WRITE) is True
        assert await client.call("KVS.Get", READ) == FOUND
    assert len(living.asked) == 2


async def test_a_read_that_its_server_s_death_cut_short_is_asked_again_elsewhere(world: World) -> None:
    dying, living = await world.server(die_on_request), await world.server()
    client = world.client(dying, living, hold_time=3600.0)
    async with asyncio.timeout(10):
        assert await client.call("KVS.Get", READ) == FOUND


async def test_a_write_that_may_have_happened_is_never_asked_again(world: World) -> None:
    dying, living = await world.server(die_on_request), await world.server()
    with pytest.raises(OutcomeUnknown, match="rpc error making call"):
        await world.client(dying, living).call("KVS.Apply", WRITE)
    assert living.asked == []


async def test_a_blocking_query_goes_on_at_another_server_for_the_rest_of_its_wait(world: World) -> None:
    frozen, living = await world.server(never), await world.server()
    client = world.client(frozen, living, hold_time=0.0)
    asking = asyncio.ensure_future(client.call("KVS.Get", r.KeyRequest(key="a", min_query_index=5, max_query_time=20 * 10**9)))
    await frozen.arrivals.get()
    client.server_failed(frozen.address)
    assert await asking == FOUND
    ((_, request),) = living.asked
    assert request.min_query_index == 5
    assert 10 * 10**9 < request.max_query_time < 20 * 10**9


async def test_when_gossip_says_that_a_server_is_dead_its_calls_move_on(world: World) -> None:
    frozen, living = await world.server(never), await world.server()
    client = world.client(frozen, living)
    reading, writing = (asyncio.ensure_future(client.call(*call)) for call in (("KVS.Get", READ), ("KVS.Apply", WRITE)))
    async with asyncio.timeout(10):
        await frozen.arrivals.get()
        await frozen.arrivals.get()
        client.server_failed(frozen.address)
        assert await reading == FOUND
        with pytest.raises(OutcomeUnknown):
            await writing


async def test_without_a_leader_other_servers_are_asked_too(world: World) -> None:
    cut_off, fine = await world.server(refusing(NoLeader())), await world.server()
    client = world.client(cut_off, fine)
    assert await client.call("KVS.Apply", WRITE) is True


async def test_no_leader_is_waited_out_and_then_reported(world: World) -> None:
    first, second = await world.server(refusing(NoLeader())), await world.server(refusing(NoLeader()))
    with pytest.raises(RemoteError, match="rpc error making call: No cluster leader"):
        await world.client(first, second, hold_time=0.3).call("KVS.Apply", WRITE)
    assert first.asked
    assert second.asked


async def test_all_servers_dead_is_reported_after_the_hold_time(world: World) -> None:
    servers = [await world.server(), await world.server()]
    for server in servers:
        await server.die()
    with pytest.raises(RequestFailed, match="rpc error getting client: 127"):
        await world.client(*servers, hold_time=0.2).call("KVS.Get", READ)


async def test_a_refusal_is_passed_on_once_and_as_what_it_is(world: World) -> None:
    refusing_server = await world.server(refusing(RequestFailed("Must provide key")))
    with pytest.raises(RemoteError, match=r"^rpc error making call: Must provide key$"):
        await world.client(refusing_server).call("KVS.Get", READ)
    assert len(refusing_server.asked) == 1
    missing = await world.server(refusing(RemoteError("Query not found")))
    with pytest.raises(NotFound, match=r"^Query not found$"):
        await world.client(missing).call("PreparedQuery.Get", r.PreparedQuerySpecificRequest(query_id="x"))


def test_a_list_of_servers_keeps_its_order_when_others_change() -> None:
    servers = ServerList(random.Random(3))
    servers.update(["a", "b", "c"])
    first = servers.first()
    assert first is not None
    for change in (["a", "b", "c", "d"], [first, "d"], [first, "x", "y", "z"]):
        servers.update(change)
        assert servers.first() == first
    servers.failed(first)
    assert servers.first() != first
    servers.failed(first)
    assert servers.first() != first
    servers.update([])
    assert servers.first() is None


# --- followers -----------------------------------------------------------------------------------------------------------


async def test_a_follower_tells_a_leader_not_reached_from_a_write_that_may_have_happened(world: World) -> None:
    dead, dying = await world.server(), await world.server(die_on_request)
    await dead.die()
    link = LeaderForwarder(world.pool(), datacenter="dc1")
    with pytest.raises(NoLeader):
        await link.call(dead.address, "KVS.Apply", WRITE)
    with pytest.raises(OutcomeUnknown):
        await link.call(dying.address, "KVS.Apply", WRITE)
    again = await world.server(die_on_request)
    with pytest.raises(NoLeader):
        await link.call(again.address, "KVS.Get", READ)


# --- other datacenters ---------------------------------------------------------------------------------------------------


async def test_a_request_goes_to_a_server_of_its_datacenter(world: World) -> None:
    east, west = await world.server(), await world.server()
    forwarder = world.datacenters(east=[east], west=[west])
    assert forwarder.datacenters() == ["east", "west"]
    assert await forwarder.call("west", "KVS.Get", r.KeyRequest(datacenter="west", key="a")) == FOUND
    assert [request.datacenter for _, request in west.asked] == ["west"]
    assert east.asked == []


async def test_an_unknown_datacenter_and_one_whose_servers_are_all_gone_have_no_path(world: World) -> None:
    east = await world.server()
    forwarder = world.datacenters(east=[east])
    with pytest.raises(NoPathToDatacenter, match=r"^No path to datacenter$"):
        await forwarder.call("nowhere", "KVS.Get", READ)
    assert await forwarder.call("east", "KVS.Get", READ) == FOUND
    forwarder.update({})
    assert forwarder.datacenters() == []
    with pytest.raises(NoPathToDatacenter):
        await forwarder.call("east", "KVS.Get", READ)
    with pytest.raises(NoPathToDatacenter):
        await forwarder.save_snapshot("east", token="", stale=False)


async def test_each_server_of_a_datacenter_is_tried_once(world: World) -> None:
    dead, living = await world.server(), await world.server()
    await dead.die()
    forwarder = world.datacenters(east=[dead, living])
    for _ in range(4):
        assert await forwarder.call("east", "KVS.Apply", WRITE) is True
        forwarder.rebalance()
    forwarder.update({"east": [dead.address]})
    with pytest.raises(RequestFailed, match="rpc error getting client"):
        await forwarder.call("east", "KVS.Get", READ)


async def test_a_far_write_that_may_have_happened_is_never_asked_again(world: World) -> None:
    servers = [await world.server(die_on_request), await world.server(die_on_request)]
    forwarder = world.datacenters(east=servers)
    with pytest.raises(OutcomeUnknown):
        await forwarder.call("east", "KVS.Apply", WRITE)
    assert sum(len(server.asked) for server in servers) == 1


async def test_calls_to_a_far_server_that_is_gone_from_the_pool_are_lost_at_once(world: World) -> None:
    frozen, living = await world.server(never), await world.server()
    forwarder = world.datacenters(east=[frozen])
    asking = asyncio.ensure_future(forwarder.call("east", "KVS.Get", READ))
    await frozen.arrivals.get()
    forwarder.update({"east": [living.address]})
    assert await asking == FOUND


async def test_a_far_datacenter_without_leader_is_not_taken_for_ours(world: World) -> None:
    forwarder = world.datacenters(east=[await world.server(refusing(NoLeader()))])
    with pytest.raises(RemoteError, match="rpc error making call: No cluster leader"):
        await forwarder.call("east", "KVS.Apply", WRITE)


async def test_far_servers_are_known_by_the_name_of_their_datacenter(world: World, tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    def tls(datacenter: str) -> Tls:
        cert, key = authority.issue(datacenter, f"server.{datacenter}.consul")
        return Tls(
            TlsOptions(
                ca_file=authority.file, cert_file=cert, key_file=key, datacenter=datacenter,
                verify_incoming=True, verify_outgoing=True, verify_server_hostname=True,
            )
        )  # fmt: skip

    west = await world.server(tls=tls("west"))
    forwarder = world.datacenters(Dialer(tls("east")), west=[west], north=[west])
    assert await forwarder.call("west", "KVS.Get", READ) == FOUND
    with pytest.raises(RequestFailed, match=r"not valid for 'server\.north\.consul'"):
        await forwarder.call("north", "KVS.Get", READ)

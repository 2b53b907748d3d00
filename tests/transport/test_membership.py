"""Gossip pools on real sockets: our own agents among themselves, and with the real serf program where it is installed."""

import asyncio
import base64
import json
import logging
import random
import shutil
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from discovery.gossip.codec import encode
from discovery.gossip.messages import Alive
from discovery.gossip.packets import PacketCodec
from discovery.gossip.security import Protection
from discovery.gossip.serf import SerfOptions
from discovery.gossip.serf_messages import encode_tags
from discovery.transport.membership import (
    LOCAL,
    Event,
    JoinFailed,
    KeyringChanged,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    Membership,
    MemberStatus,
    MemberUpdated,
    NameConflict,
    PoolOptions,
    RefusedMerge,
    UnknownMember,
    UserEvent,
    UserEventTooLarge,
)

PATIENCE = 20.0
SERF = shutil.which("serf")
needs_serf = pytest.mark.skipif(SERF is None, reason="the real serf program is not installed here")


async def eventually(condition: Callable[[], bool]) -> None:
    """For what no event tells of: another process, or a number that changes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


class Pool:
    """A membership and what it told; `until` waits for an event instead of sleeping."""

    def __init__(self, options: PoolOptions) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self.membership = Membership(
            options, on_event=self._on_event, rng=random.SystemRandom(), log=logging.getLogger(options.name)
        )

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, accept: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events:
                    if accept(event):
                        return event
                self._changed.clear()
                await self._changed.wait()

    async def until_about(self, kind: type, name: str) -> Member:
        event = await self.until(lambda event: isinstance(event, kind) and _about(event).name == name)
        return _about(event)

    @property
    def address(self) -> str:
        me = self.membership.local_member()
        return f"[{me.address}]:{me.port}" if ":" in me.address else f"{me.address}:{me.port}"

    def statuses(self) -> dict[str, MemberStatus]:
        return {member.name: member.status for member in self.membership.members()}


def _about(event: Event) -> Member:
    assert not isinstance(event, UserEvent | KeyringChanged), f"about no member: {event}"
    return event.member


class Pools:
    """Starts pools and stops them all at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, name: str, **changes: object) -> Pool:
        options = PoolOptions(name=name, bind_address="127.0.0.1", port=0, profile=LOCAL, leave_propagate_delay=0.2)
        pool = Pool(replace(options, **changes))  # type: ignore[arg-type]
        await pool.membership.start()
        self._stack.push_async_callback(pool.membership.stop)
        return pool

    async def start_joined(self, *names: str, **changes: object) -> list[Pool]:
        pools = [await self.start(name, **changes) for name in names]
        for pool in pools[1:]:
            assert await pool.membership.join([pools[0].address]) == 1
        for pool in pools:
            for name in names:
                await pool.until_about(MemberJoined, name)
        return pools


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    async with AsyncExitStack() as stack:
        yield Pools(stack)


# --- our own agents ------------------------------------------------------------------------------------------------------


async def test_members_learn_of_each_other_with_their_tags(pools: Pools) -> None:
    a, b = await pools.start("a", tags={"role": "consul", "dc": "east"}), await pools.start("b", tags={"role": "node"})
    assert await b.membership.join([a.address]) == 1
    assert (await b.until_about(MemberJoined, "a")).tags == {"role": "consul", "dc": "east"}
    member = await a.until_about(MemberJoined, "b")
    assert member.tags == {"role": "node"}
    assert member == b.membership.local_member()
    versions = (member.protocol_min, member.protocol_max, member.protocol_cur)
    assert versions == (1, 5, 2)
    assert (member.delegate_min, member.delegate_max, member.delegate_cur) == (2, 5, 4)


async def test_a_silent_member_fails_and_one_that_leaves_has_left(pools: Pools) -> None:
    a, b, c = await pools.start_joined("a", "b", "c")
    await c.membership.leave()
    await c.membership.stop()
    await asyncio.gather(a.until_about(MemberLeft, "c"), b.until_about(MemberLeft, "c"))
    await b.membership.stop()
    await a.until_about(MemberFailed, "b")
    assert a.statuses() == {"a": MemberStatus.ALIVE, "b": MemberStatus.FAILED, "c": MemberStatus.LEFT}


async def test_leaving_alone_takes_no_time(pools: Pools) -> None:
    alone = await pools.start("alone", leave_propagate_delay=60.0)
    async with asyncio.timeout(5):
        await alone.membership.leave()
    assert alone.statuses() == {"alone": MemberStatus.LEFT}


async def test_a_failed_member_that_is_forced_to_leave_has_left_and_pruned_is_gone(pools: Pools) -> None:
    a, b, c = await pools.start_joined("a", "b", "c")
    await c.membership.stop()
    await asyncio.gather(a.until_about(MemberFailed, "c"), b.until_about(MemberFailed, "c"))
    a.membership.force_leave("c")
    await asyncio.gather(a.until_about(MemberLeft, "c"), b.until_about(MemberLeft, "c"))
    b.membership.force_leave("c", prune=True)
    await asyncio.gather(a.until_about(MemberReaped, "c"), b.until_about(MemberReaped, "c"))
    assert "c" not in a.statuses()
    with pytest.raises(UnknownMember):
        a.membership.force_leave("nobody")


async def test_user_events_and_new_tags_reach_everybody(pools: Pools) -> None:
    a, b, c = await pools.start_joined("a", "b", "c")
    a.membership.user_event("deploy", b"\xff\x00 payload", True)
    b.membership.update_tags({"version": "2"})
    for pool in (a, b, c):
        event = await pool.until(lambda event: isinstance(event, UserEvent))
        assert event == UserEvent("deploy", b"\xff\x00 payload", 1, True)
        assert (await pool.until_about(MemberUpdated, "b")).tags == {"version": "2"}
    with pytest.raises(UserEventTooLarge, match="exceeds configured limit of 512 bytes before encoding"):
        a.membership.user_event("big", bytes(510), False)


async def test_joining_nobody_tells_why_for_each_address(pools: Pools) -> None:
    a = await pools.start("a")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(JoinFailed) as failed:
            await a.membership.join([address])
    refused = f"dial tcp {address}: connect: connection refused"
    assert failed.value.text == f"1 error occurred:\n\t* Failed to join 127.0.0.1: {refused}\n\n"
    assert await a.membership.join([a.address, address]) == 1


async def test_a_merge_check_keeps_groups_apart(pools: Pools) -> None:
    def check(members: Sequence[Member]) -> None:
        for member in members:
            if member.tags.get("dc") != "dc1":
                raise RefusedMerge(f"Member '{member.name}' part of wrong datacenter '{member.tags.get('dc')}'")

    a = await pools.start("a", tags={"dc": "dc1"}, merge_check=check)
    b = await pools.start("b", tags={"dc": "dc2"})
    with pytest.raises(JoinFailed, match="Member 'b' part of wrong datacenter 'dc2'"):
        await a.membership.join([b.address])
    await b.membership.join([a.address])
    await b.until_about(MemberJoined, "a")
    b.membership.user_event("seen", b"", False)
    await a.until(lambda event: isinstance(event, UserEvent))
    assert set(a.statuses()) == {"a"}


async def test_two_nodes_of_one_name_are_a_conflict(pools: Pools) -> None:
    a, b = await pools.start_joined("a", "b")
    other = await pools.start("b")
    with pytest.raises(JoinFailed, match=f"node name 'b' is already in use by the living member at {b.address}"):
        await other.membership.join([a.address])
    event = await a.until(lambda event: isinstance(event, NameConflict))
    assert event == NameConflict(b.membership.local_member(), ("127.0.0.1", other.membership.local_member().port))
    assert a.membership.members()[-1].port == b.membership.local_member().port


async def test_who_takes_a_name_over_is_known_once_the_old_holder_has_been_dead_for_a_while(pools: Pools) -> None:
    profile = replace(LOCAL, dead_node_reclaim_time=1.0)
    a, b = await pools.start_joined("a", "b", profile=profile)
    await b.membership.stop()
    rebuilt = await pools.start("b", profile=profile, tags={"life": "second"})
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(JoinFailed):
                await rebuilt.membership.join([a.address])
                break
            await asyncio.sleep(0.05)
    event = await a.until(lambda event: isinstance(event, MemberJoined) and event.member.tags == {"life": "second"})
    assert _about(event).port == rebuilt.membership.local_member().port


def test_on_uvloop() -> None:
    """Its timers run before its sockets are read, and its transports are of another type."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            a, b, c = await Pools(stack).start_joined("a", "b", "c")
            a.membership.user_event("deploy", b"", False)
            await c.until(lambda event: isinstance(event, UserEvent))
            time.sleep(1.0)  # noqa: ASYNC251  the stall itself
            await c.membership.leave()
            await asyncio.gather(a.until_about(MemberLeft, "c"), b.until_about(MemberLeft, "c"))
            for pool in (a, b, c):
                assert not [event for event in pool.events if isinstance(event, MemberFailed)]

    uvloop.run(scenario())


async def test_ipv6(pools: Pools) -> None:
    try:
        a, b = await pools.start_joined("a", "b", bind_address="::1")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    assert a.membership.members() != []
    b.membership.user_event("six", b"", False)
    await a.until(lambda event: isinstance(event, UserEvent))


async def test_a_restarted_agent_rejoins_those_it_knew_and_hears_no_old_events(pools: Pools, tmp_path: Path) -> None:
    snapshot = tmp_path / "serf" / "local.snapshot"
    port = _free_port("127.0.0.1")
    a, b = await pools.start("a"), await pools.start("b", snapshot_path=snapshot, port=port)
    await b.membership.join([a.address])
    b.membership.user_event("before", b"", False)
    await a.until(lambda event: isinstance(event, UserEvent))
    await b.membership.stop()
    await a.until_about(MemberFailed, "b")
    a.events.clear()
    again = await pools.start("b", snapshot_path=snapshot, port=port)
    await again.until_about(MemberJoined, "a")
    await a.until_about(MemberJoined, "b")
    assert not [event for event in again.events if isinstance(event, UserEvent)]


async def test_after_leaving_nobody_is_remembered(pools: Pools, tmp_path: Path) -> None:
    kept, forgotten = tmp_path / "kept", tmp_path / "forgotten"
    a = await pools.start("a")
    for name, path, keep in (("b", kept, True), ("c", forgotten, False)):
        pool = await pools.start(name, snapshot_path=path, rejoin_after_leave=keep)
        await pool.membership.join([a.address])
        await pool.membership.leave()
        await pool.membership.stop()
    assert "alive: a " in kept.read_text()
    again = await pools.start("c", snapshot_path=forgotten)
    assert set(again.statuses()) == {"c"}
    again = await pools.start("b", snapshot_path=kept, rejoin_after_leave=True)
    await again.until_about(MemberJoined, "a")


async def test_encrypted_pools_change_their_keys(pools: Pools) -> None:
    first, second = bytes(range(16)), bytes(range(32))
    a, b = await pools.start_joined("a", "b", keyring=[first], compress=True)
    for change in (a.membership.install_key, a.membership.use_key):
        result = await change(second)
        assert (result.nodes, result.responses, result.errors, result.messages) == (2, 2, 0, {})
    assert (await a.membership.remove_key(second)).messages == dict.fromkeys(
        ["a", "b"], "removing the primary key is not allowed"
    )
    assert (await a.membership.remove_key(first)).errors == 0
    listed = await b.membership.list_keys()
    text = base64.b64encode(second).decode()
    assert (listed.keys, listed.primary_keys) == ({text: 2}, {text: 2})
    assert a.membership.stats()["encrypted"] == "true"


async def test_who_does_not_know_the_key_stays_outside(pools: Pools) -> None:
    a = await pools.start("a", keyring=[bytes(16)])
    for name, keyring in (("plain", None), ("other", [bytes(range(16))])):
        outsider = await pools.start(name, keyring=keyring)
        with pytest.raises(JoinFailed):
            await outsider.membership.join([a.address])
    assert set(a.statuses()) == {"a"}


async def test_garbage_on_packets_and_streams_does_no_harm(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    a, b = await pools.start_joined("a", "b")
    rng = random.Random(7)
    me = a.membership.local_member()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for size in range(1, 500):
            udp.sendto(rng.randbytes(size), (me.address, me.port))
    for first in range(14):
        _, writer = await asyncio.open_connection(me.address, me.port)
        writer.write(bytes((first,)) + rng.randbytes(200) + struct.pack(">I", 0xFFFFFFFF) * 50)
        writer.close()
    b.membership.user_event("still here", b"", False)
    await a.until(lambda event: isinstance(event, UserEvent) and event.name == "still here")
    await eventually(lambda: a.membership.counters()["bad streams"] >= 14)
    assert not [record for record in caplog.records if record.exc_info]
    assert len([record for record in caplog.records if "bad packet" in record.getMessage()]) <= 2
    assert len([record for record in caplog.records if "bad stream" in record.getMessage()]) <= 2
    assert a.membership.counters()["bad packets"] > 300
    assert set(a.membership.strangers()) == {"127.0.0.1"}


async def test_a_stream_that_says_nothing_is_closed(pools: Pools) -> None:
    a = await pools.start("a", profile=replace(LOCAL, tcp_timeout=0.3))
    me = a.membership.local_member()
    reader, writer = await asyncio.open_connection(me.address, me.port)
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_a_stall_of_the_loop_makes_nobody_fail(pools: Pools) -> None:
    a, b, c = await pools.start_joined("a", "b", "c")
    time.sleep(2.5)  # noqa: ASYNC251  the stall itself
    a.membership.user_event("awake", b"", False)
    for pool in (b, c):
        await pool.until(lambda event: isinstance(event, UserEvent))
    for pool in (a, b, c):
        assert not [event for event in pool.events if isinstance(event, MemberFailed)]


async def test_coordinates_are_learnt_from_acks(pools: Pools) -> None:
    a, b = await pools.start_joined("a", "b")
    await eventually(lambda: a.membership.coordinate_of("b") is not None)
    assert a.membership.coordinate().error < 1.5
    assert a.membership.coordinate_of("nobody") is None
    assert len(a.membership.coordinate().vec) == 8
    assert b.membership.coordinate_of("b") == b.membership.coordinate()


async def test_stats_have_the_keys_of_consul_info(pools: Pools) -> None:
    a = await pools.start("a")
    assert list(a.membership.stats()) == [
        "coordinate_resets", "encrypted", "event_queue", "event_time", "failed", "health_score", "intent_queue", "left",
        "member_time", "members", "query_queue", "query_time",
    ]  # fmt: skip


# --- the real serf -------------------------------------------------------------------------------------------------------


class RealSerf:
    """A serf agent of its own process, on loopback addresses of its own."""

    def __init__(self, name: str, directory: Path, host: str, *flags: str) -> None:
        self.name = name
        self._directory = directory
        self._flags = flags
        self.address = f"{host}:{_free_port(host)}"
        self._rpc = f"{host}:{_free_port(host)}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        log = (self._directory / f"{self.name}.log").open("wb")
        assert SERF is not None
        self._process = await asyncio.create_subprocess_exec(
            SERF, "agent", f"-node={self.name}", f"-bind={self.address}", f"-rpc-addr={self._rpc}", "-profile=local",
            "-tag", "role=web", "-tag", "dc=east", "-log-level=debug", *self._flags, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        await self.until(lambda members: self.name in members)

    async def run(self, *arguments: str) -> str:
        assert SERF is not None
        command, *rest = arguments
        process = await asyncio.create_subprocess_exec(
            SERF, command, f"-rpc-addr={self._rpc}", *rest,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return output.decode()

    async def members(self) -> dict[str, dict[str, object]]:
        output = await self.run("members", "-format=json")
        try:
            return {member["name"]: member for member in json.loads(output)["members"]}
        except ValueError:
            return {}

    async def until(self, accept: Callable[[dict[str, dict[str, object]]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if accept(await self.members()):
                    return
                await asyncio.sleep(0.1)

    async def until_logged(self, text: str) -> None:
        await eventually(lambda: text in self.log())

    def log(self) -> str:
        return (self._directory / f"{self.name}.log").read_text(errors="replace")

    async def signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self._process.wait()


def _free_port(host: str) -> int:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind((host, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((host, port))
        return port


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Callable[..., RealSerf]]:
    started: list[RealSerf] = []

    def make(name: str, host: str, *flags: str) -> RealSerf:
        agent = RealSerf(name, tmp_path, host, *flags)
        started.append(agent)
        return agent

    yield make
    for agent in started:
        await agent.signal(signal.SIGKILL)


def _status(members: dict[str, dict[str, object]], name: str) -> object:
    return members.get(name, {}).get("status")


@needs_serf
@pytest.mark.parametrize("flags", [(), ("-disable-compression",)], ids=["compressed", "plain"])
async def test_we_join_real_serf(pools: Pools, real: Callable[..., RealSerf], flags: tuple[str, ...]) -> None:
    theirs = real("theirs", "127.0.41.1", *flags)
    await theirs.start()
    ours = await pools.start("ours", tags={"role": "consul", "dc": "east"}, compress=not flags)
    assert await ours.membership.join([theirs.address]) == 1
    assert (await ours.until_about(MemberJoined, "theirs")).tags == {"role": "web", "dc": "east"}
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    seen = (await theirs.members())["ours"]
    assert seen["tags"] == {"role": "consul", "dc": "east"}
    assert seen["protocol"] == {"max": 5, "min": 2, "version": 4}
    ours.membership.update_tags({"role": "consul", "dc": "west"})
    await theirs.until(lambda members: members["ours"]["tags"] == {"role": "consul", "dc": "west"})
    await theirs.run("tags", "-set", "version=7")
    assert (await ours.until_about(MemberUpdated, "theirs")).tags["version"] == "7"
    await theirs.run("event", "deploy", "from-them")
    event = await ours.until(lambda event: isinstance(event, UserEvent))
    assert isinstance(event, UserEvent)
    assert (event.name, event.payload, event.coalesce) == ("deploy", b"from-them", True)
    ours.membership.user_event("release", b"from-us", False)
    await theirs.until_logged("user-event: release")
    await ours.membership.leave()
    await theirs.until(lambda members: _status(members, "ours") == "left")


@needs_serf
async def test_real_serf_joins_us_and_is_killed(pools: Pools, real: Callable[..., RealSerf]) -> None:
    ours = await pools.start("ours")
    theirs = real("theirs", "127.0.41.2", f"-join={ours.address}")
    await theirs.start()
    await ours.until_about(MemberJoined, "theirs")
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await theirs.signal(signal.SIGKILL)
    await ours.until_about(MemberFailed, "theirs")
    ours.membership.force_leave("theirs")
    await ours.until_about(MemberLeft, "theirs")


@needs_serf
async def test_real_serf_leaves_us(pools: Pools, real: Callable[..., RealSerf]) -> None:
    ours = await pools.start("ours")
    theirs = real("theirs", "127.0.41.3", f"-join={ours.address}")
    await theirs.start()
    await ours.until_about(MemberJoined, "theirs")
    await theirs.run("leave")
    await ours.until_about(MemberLeft, "theirs")
    assert not [event for event in ours.events if isinstance(event, MemberFailed)]


@needs_serf
async def test_real_serf_sees_us_fail_and_come_back(pools: Pools, real: Callable[..., RealSerf]) -> None:
    theirs = real("theirs", "127.0.41.4")
    await theirs.start()
    port = _free_port("127.0.0.1")
    ours = await pools.start("ours", port=port)
    await ours.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await ours.membership.stop()
    await theirs.until(lambda members: _status(members, "ours") == "failed")
    again = await pools.start("ours", port=port, tags={"life": "second"})
    await again.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await theirs.until(lambda members: members["ours"]["tags"] == {"life": "second"})


@needs_serf
@pytest.mark.parametrize("size", [16, 32])
async def test_encrypted_with_real_serf(pools: Pools, real: Callable[..., RealSerf], size: int) -> None:
    key, fresh = bytes(range(size)), bytes(range(100, 100 + size))
    theirs = real("theirs", "127.0.41.5", f"-encrypt={base64.b64encode(key).decode()}")
    await theirs.start()
    ours = await pools.start("ours", keyring=[key])
    await ours.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    ours.membership.user_event("secret", b"", False)
    await theirs.until_logged("user-event: secret")
    result = await ours.membership.install_key(fresh)
    assert (result.nodes, result.responses, result.errors) == (2, 2, 0)
    output = await theirs.run("keys", f"-use={base64.b64encode(fresh).decode()}")
    assert "Successfully" in output
    output = await theirs.run("keys", "-list")
    assert [base64.b64encode(fresh).decode(), "[2/2]"] in [line.split() for line in output.splitlines()]
    await theirs.run("event", "deploy", "from-them")
    await ours.until(lambda event: isinstance(event, UserEvent) and event.name == "deploy")


@needs_serf
async def test_large_compressed_exchanges_with_real_serf(pools: Pools, real: Callable[..., RealSerf]) -> None:
    """Thousands of codes each way: 300 members whose tags hardly compress, in the compression of either side."""
    rng = random.Random(8)
    theirs = real("theirs", "127.0.41.8")
    await theirs.start()
    # The ghosts answer no pings, so none are sent.
    ours = await pools.start("ours", compress=True, profile=replace(LOCAL, probe_interval=60.0))
    vsn, port = bytes((1, 5, 2, 2, 5, 4)), _free_port("127.0.0.1")
    wire = PacketCodec(Protection(rng))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        me = ours.membership.local_member()
        for number in range(300):
            meta = encode_tags({"noise": rng.randbytes(100).hex()})
            claim = Alive(1, f"ghost{number}", bytes((127, 0, 42, 1)), port, meta, vsn)
            udp.sendto(wire.seal([encode(claim)], crc=True), (me.address, me.port))
            await asyncio.sleep(0)
    await ours.until_about(MemberJoined, "ghost299")
    await ours.membership.join([theirs.address])
    known = set(ours.statuses())
    assert len(known) == 302
    await theirs.until(lambda members: set(members) == known)
    late = await pools.start("late", compress=True)
    await late.membership.join([theirs.address])
    assert len(late.statuses()) > 100


@needs_serf
async def test_two_real_serfs_and_two_of_ours_agree(pools: Pools, real: Callable[..., RealSerf]) -> None:
    first, second = real("first", "127.0.41.6"), real("second", "127.0.41.7")
    await first.start()
    await second.start()
    a, b = await pools.start("a"), await pools.start("b")
    await a.membership.join([first.address])
    await second.run("join", a.address)
    await b.membership.join([second.address])
    names = {"a", "b", "first", "second"}
    for agent in (first, second):
        await agent.until(lambda members: {name for name in members if _status(members, name) == "alive"} == names)
    for pool in (a, b):
        for name in names:
            await pool.until_about(MemberJoined, name)
    await b.membership.stop()
    await a.until_about(MemberFailed, "b")
    for agent in (first, second):
        await agent.until(lambda members: _status(members, "b") == "failed")
    a.membership.force_leave("b")
    for agent in (first, second):
        await agent.until(lambda members: _status(members, "b") == "left")


def test_the_options_of_a_pool_default_to_those_of_the_core() -> None:
    ours, core = PoolOptions(name="", bind_address="", port=0), SerfOptions(name="", address=("", 0))
    for name in ("profile", "reconnect_timeout", "tombstone_timeout", "leave_propagate_delay"):
        assert getattr(ours, name) == getattr(core, name)

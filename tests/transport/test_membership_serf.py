"""Gossip pools on real sockets: together with the real serf program."""

import asyncio
import base64
import json
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from discovery.gossip.codec import encode
from discovery.gossip.messages import Alive
from discovery.gossip.packets import PacketCodec
from discovery.gossip.security import Protection
from discovery.gossip.serf_messages import encode_tags
from discovery.transport.membership import (
    LOCAL,
    JoinFailed,
    KeyringChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    UserEvent,
)

from .peers import find, needs
from .pools import PATIENCE, MemberProcess, Pools, eventually, free_port

SERF = find("serf")
pytestmark = needs("serf")


class RealSerf:
    """A serf agent of its own process, on loopback addresses of its own."""

    def __init__(self, name: str, directory: Path, host: str, *flags: str) -> None:
        self.name = name
        self._directory = directory
        self._flags = flags
        self.address = f"{host}:{free_port(host)}"
        self._rpc = f"{host}:{free_port(host)}"
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


@pytest.mark.parametrize("flags", [(), ("-disable-compression",)], ids=["compressed", "plain"])
async def test_we_join_real_serf(pools: Pools, real: Callable[..., RealSerf], flags: tuple[str, ...]) -> None:
    theirs = real("theirs", "127.0.24.11", *flags)
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


async def test_real_serf_joins_us_and_is_killed(pools: Pools, real: Callable[..., RealSerf]) -> None:
    ours = await pools.start("ours")
    theirs = real("theirs", "127.0.24.12", f"-join={ours.address}")
    await theirs.start()
    await ours.until_about(MemberJoined, "theirs")
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await theirs.signal(signal.SIGKILL)
    await ours.until_about(MemberFailed, "theirs")
    ours.membership.force_leave("theirs")
    await ours.until_about(MemberLeft, "theirs")


async def test_real_serf_leaves_us(pools: Pools, real: Callable[..., RealSerf]) -> None:
    ours = await pools.start("ours")
    theirs = real("theirs", "127.0.24.13", f"-join={ours.address}")
    await theirs.start()
    await ours.until_about(MemberJoined, "theirs")
    await theirs.run("leave")
    await ours.until_about(MemberLeft, "theirs")
    assert not [event for event in ours.events if isinstance(event, MemberFailed)]


async def test_real_serf_sees_us_fail_and_come_back(pools: Pools, real: Callable[..., RealSerf]) -> None:
    theirs = real("theirs", "127.0.24.14")
    await theirs.start()
    port = free_port("127.0.0.1")
    ours = await pools.start("ours", port=port)
    await ours.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await ours.membership.stop()
    await theirs.until(lambda members: _status(members, "ours") == "failed")
    again = await pools.start("ours", port=port, tags={"life": "second"})
    await again.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")
    await theirs.until(lambda members: members["ours"]["tags"] == {"life": "second"})


@pytest.mark.parametrize("size", [16, 32])
async def test_encrypted_with_real_serf(pools: Pools, real: Callable[..., RealSerf], size: int) -> None:
    key, fresh = bytes(range(size)), bytes(range(100, 100 + size))
    theirs = real("theirs", "127.0.24.15", f"-encrypt={base64.b64encode(key).decode()}")
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


async def test_large_compressed_exchanges_with_real_serf(pools: Pools, real: Callable[..., RealSerf]) -> None:
    """Thousands of codes each way: 300 members whose tags hardly compress, in the compression of either side."""
    rng = random.Random(8)
    theirs = real("theirs", "127.0.24.18")
    await theirs.start()
    # The ghosts answer no pings, so none are sent.
    ours = await pools.start("ours", compress=True, profile=replace(LOCAL, probe_interval=60.0))
    vsn, port = bytes((1, 5, 2, 2, 5, 4)), free_port("127.0.0.1")
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


async def test_two_real_serfs_and_two_of_ours_agree(pools: Pools, real: Callable[..., RealSerf]) -> None:
    first, second = real("first", "127.0.24.16"), real("second", "127.0.24.17")
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


async def test_kill_9_of_either_side_is_a_failure_on_the_other(real: Callable[..., RealSerf]) -> None:
    first, second = real("first", "127.0.24.109"), real("second", "127.0.24.110")
    await first.start()
    await second.start()
    options = {"bind_address": "127.0.24.111", "port": 0, "profile": "LOCAL", "join": [first.address, second.address]}
    async with MemberProcess.run(name="a", **options) as a, MemberProcess.run(name="b", **options) as b:
        names = {"a", "b", "first", "second"}
        for agent in (first, second):
            await agent.until(lambda members: {name for name in members if _status(members, name) == "alive"} == names)
        await a.signal(signal.SIGKILL)
        await b.until("MemberFailed", "a")
        for agent in (first, second):
            await agent.until(lambda members: _status(members, "a") == "failed")
        await second.signal(signal.SIGKILL)
        await b.until("MemberFailed", "second")
        await first.until(lambda members: _status(members, "second") == "failed")
        await first.run("force-leave", "a")
        await b.until("MemberLeft", "a")
        await b.tell("leave")
        await first.until(lambda members: _status(members, "b") == "left")


async def test_a_rotation_from_either_side_loses_no_member(pools: Pools, real: Callable[..., RealSerf]) -> None:
    keys = [bytes(range(start, start + 32)) for start in (0, 50, 100)]
    texts = [base64.b64encode(key).decode() for key in keys]
    first, second = (real(name, f"127.0.24.{last}", f"-encrypt={texts[0]}") for name, last in (("first", 112), ("second", 113)))
    await first.start()
    await second.start()
    a, b = await pools.start("a", keyring=[keys[0]]), await pools.start("b", keyring=[keys[0]], compress=True)
    for pool in (a, b):
        await pool.membership.join([first.address, second.address])
    names = {"a", "b", "first", "second"}
    for agent in (first, second):
        await agent.until(lambda members: {name for name in members if _status(members, name) == "alive"} == names)

    # From our side, with answers by detours too.
    await a.membership.install_key(keys[1], relay_factor=2)
    await a.membership.use_key(keys[1])
    result = await a.membership.remove_key(keys[0])
    assert (result.nodes, result.responses, result.errors) == (4, 4, 0)
    await b.until(lambda event: event == KeyringChanged([keys[1]]))

    # From theirs.
    for step in (f"-install={texts[2]}", f"-use={texts[2]}", f"-remove={texts[1]}"):
        assert "Successfully" in await first.run("keys", step)
    await b.until(lambda event: event == KeyringChanged([keys[2]]))
    listed = await b.membership.list_keys()
    assert (listed.nodes, listed.keys, listed.primary_keys) == (4, {texts[2]: 4}, {texts[2]: 4})
    assert (await second.run("keys", "-remove=" + texts[2])).lower().count("removing the primary key is not allowed") == 4

    b.membership.user_event("rotated", b"", False)
    for agent in (first, second):
        await agent.until_logged("user-event: rotated")
        assert {name: _status(await agent.members(), name) for name in names} == dict.fromkeys(names, "alive")
    for pool in (a, b):
        assert not [event for event in pool.events if isinstance(event, MemberFailed)]


async def test_who_has_another_key_or_none_neither_joins_nor_reads(pools: Pools, real: Callable[..., RealSerf]) -> None:
    theirs = real("theirs", "127.0.24.114", f"-encrypt={base64.b64encode(bytes(32)).decode()}")
    await theirs.start()
    for name, keyring in (("plain", None), ("other", [bytes(range(32))])):
        outsider = await pools.start(name, keyring=keyring)
        with pytest.raises(JoinFailed):
            await outsider.membership.join([theirs.address])
        assert set(outsider.statuses()) == {name}
    ours = await pools.start("ours", keyring=[bytes(range(16))])
    assert "Error joining" in await theirs.run("join", ours.address)
    assert set(ours.statuses()) == {"ours"}
    assert ours.membership.counters()["bad streams"] == 1
    assert set(await theirs.members()) == {"theirs"}


async def test_queries_of_real_serf_are_acknowledged_by_those_they_are_for(pools: Pools, real: Callable[..., RealSerf]) -> None:
    first, second = real("first", "127.0.24.115"), real("second", "127.0.24.116")
    await first.start()
    await second.start()
    a, b = await pools.start("a", tags={"role": "db-1"}), await pools.start("b", tags={"role": "web-2"})
    for pool in (a, b):
        await pool.membership.join([first.address, second.address])
    names = {"a", "b", "first", "second"}
    await first.until(lambda members: {name for name in members if _status(members, name) == "alive"} == names)
    for filters, expected in (
        ([], names),
        (["-relay-factor=2"], names),
        (["-tag=role=web.*"], {"b", "first", "second"}),
        (["-node=a", "-node=second"], {"a", "second"}),
        (["-tag=role=^db-[0-9]$"], {"a"}),
    ):
        output = await first.run("query", "-timeout=1s", "-format=json", *filters, "ping")
        assert set(json.loads(output)["Acks"]) == expected, filters


async def test_real_serf_finds_us_again_and_we_find_it_by_what_was_remembered(
    pools: Pools, real: Callable[..., RealSerf], tmp_path: Path
) -> None:
    theirs = real("theirs", "127.0.24.117", f"-snapshot={tmp_path / 'theirs.snapshot'}")
    await theirs.start()
    port = free_port("127.0.0.1")
    ours = await pools.start("ours", port=port, snapshot_path=tmp_path / "ours.snapshot")
    await ours.membership.join([theirs.address])
    await theirs.until(lambda members: _status(members, "ours") == "alive")

    def is_remembered() -> bool:
        """Serf writes lines out only with a later one, half a second after the last time; each event makes one."""
        ours.membership.user_event("tick", b"", coalesce=False)
        return "alive: ours " in (tmp_path / "theirs.snapshot").read_text()

    await eventually(is_remembered)
    await theirs.signal(signal.SIGKILL)
    await ours.until_about(MemberFailed, "theirs")
    ours.events.clear()
    await theirs.start()
    await ours.until_about(MemberJoined, "theirs")

    await ours.membership.stop()
    await theirs.until(lambda members: _status(members, "ours") == "failed")
    again = await pools.start("ours", port=port, snapshot_path=tmp_path / "ours.snapshot")
    await again.until_about(MemberJoined, "theirs")
    await theirs.until(lambda members: _status(members, "ours") == "alive")

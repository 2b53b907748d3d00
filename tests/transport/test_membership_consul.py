"""Gossip pools on real sockets: our members together with a real Consul server, where its program is at hand."""

import asyncio
import base64
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from discovery.transport.membership import (
    LOCAL,
    JoinFailed,
    KeyringChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    UserEvent,
)

from .peers import find, needs
from .pools import PATIENCE, MemberProcess, Pool, Pools, free_port

CONSUL = find("consul")
pytestmark = needs("consul")

ALIVE, LEFT, FAILED = 1, 3, 4


def client_tags(node_id: str = "") -> dict[str, str]:
    """What a Consul client agent says of itself."""
    return {
        "role": "node", "dc": "dc1", "segment": "", "id": node_id or str(uuid.uuid4()),
        "vsn": "2", "vsn_min": "2", "vsn_max": "3", "build": "1.8.7:", "acls": "0",
    }  # fmt: skip


class RealConsul:
    """One Consul server of its own process, that elects itself."""

    def __init__(self, host: str, directory: Path, **options: Any) -> None:
        self.host = host
        self._directory = directory
        ports = {name: free_port(host) for name in ("http", "server", "serf_lan", "serf_wan")}
        self.address = f"{host}:{ports['serf_lan']}"
        self._http = f"http://{host}:{ports['http']}"
        self._configuration = {
            "node_name": "real", "server": True, "bootstrap_expect": 1, "bind_addr": host, "client_addr": host,
            "data_dir": str(directory / "data"), "log_level": "debug", "enable_local_script_checks": False,
            "ports": {**ports, "dns": -1, "grpc": -1}, "performance": {"raft_multiplier": 1, "leave_drain_time": "1s"},
            "gossip_lan": {"gossip_interval": "100ms", "probe_interval": "100ms", "probe_timeout": "100ms", "suspicion_mult": 3},
            **options,
        }  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        assert CONSUL is not None
        (self._directory / "consul.json").write_text(json.dumps(self._configuration))
        with (self._directory / "consul.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                CONSUL, "agent", "-config-file", str(self._directory / "consul.json"), stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory)},
            )  # fmt: skip
        await self.until("/v1/status/leader", bool)

    async def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        async with aiohttp.ClientSession() as session, session.request(method, self._http + path, json=body) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise aiohttp.ClientError(text)
            return json.loads(text) if text else None

    async def until(self, path: str, accept: Callable[[Any], Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(aiohttp.ClientError):
                    answer = await self.ask(path)
                    if accept(answer):
                        return answer
                await asyncio.sleep(0.1)

    async def until_member(self, name: str, status: int) -> dict[str, Any]:
        def found(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [member for member in members if member["Name"] == name and member["Status"] == status]

        return found(await self.until("/v1/agent/members", found))[0]

    async def signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self._process.wait()


@asynccontextmanager
async def consul(host: str, directory: Path, **options: Any) -> AsyncIterator[RealConsul]:
    agent = RealConsul(host, directory, **options)
    try:
        await agent.start()
        yield agent
    finally:
        await agent.signal(signal.SIGKILL)


async def client(pools: Pools, name: str = "ours", **changes: Any) -> Pool:
    options = {"bind_address": "127.0.24.130", "profile": LOCAL, "tags": client_tags()}
    return await pools.start(name, **(options | changes))


async def test_each_sees_the_other_with_its_tags_and_events_go_both_ways(pools: Pools, tmp_path: Path) -> None:
    async with consul("127.0.24.131", tmp_path) as real:
        tags = client_tags()
        ours = await client(pools, tags=tags, compress=True)
        assert await ours.membership.join([real.address]) == 1
        member = await ours.until_about(MemberJoined, "real")
        assert (member.tags["role"], member.tags["dc"], member.tags["bootstrap"]) == ("consul", "dc1", "1")
        assert (await real.until_member("ours", ALIVE))["Tags"] == tags
        # The leader takes us into its catalog, which it does only for a member that it believes alive.
        await real.until("/v1/health/node/ours", lambda checks: [check["Status"] for check in checks] == ["passing"])

        await real.ask("/v1/event/fire/deploy", "PUT", "from-consul")
        event = await ours.until(lambda event: isinstance(event, UserEvent) and event.name == "consul:event:deploy")
        assert isinstance(event, UserEvent)
        assert msgpack.unpackb(event.payload)["p"] == b'"from-consul"'

        body = {"ID": str(uuid.uuid4()), "n": "release", "p": b"from-us", "v": 1}
        ours.membership.user_event("consul:event:release", msgpack.packb(body, use_bin_type=True), False)
        events = await real.until("/v1/event/list?name=release", bool)
        assert base64.b64decode(events[0]["Payload"]) == b"from-us"

        await ours.membership.leave()
        await real.until_member("ours", LEFT)
        await real.until("/v1/catalog/nodes", lambda nodes: [node["Node"] for node in nodes] == ["real"])


async def test_kill_9_of_either_side_is_a_failure_on_the_other(pools: Pools, tmp_path: Path) -> None:
    async with consul("127.0.24.132", tmp_path) as real:
        ours = await client(pools)
        await ours.membership.join([real.address])
        options = {"bind_address": "127.0.24.133", "port": 0, "profile": "LOCAL", "tags": client_tags(), "join": [real.address]}
        async with MemberProcess.run(name="victim", **options) as victim:
            await real.until_member("victim", ALIVE)
            await ours.until_about(MemberJoined, "victim")
            await victim.signal(signal.SIGKILL)
            await asyncio.gather(real.until_member("victim", FAILED), ours.until_about(MemberFailed, "victim"))
        await real.until("/v1/health/node/victim", lambda checks: [check["Status"] for check in checks] == ["critical"])
        ours.membership.force_leave("victim")
        await real.until_member("victim", LEFT)
        await real.signal(signal.SIGKILL)
        await ours.until_about(MemberFailed, "real")


async def test_consul_leaves_and_comes_back(pools: Pools, tmp_path: Path) -> None:
    async with consul("127.0.24.134", tmp_path, leave_on_terminate=True, skip_leave_on_interrupt=True) as real:
        ours = await client(pools)
        await ours.membership.join([real.address])
        await real.until_member("ours", ALIVE)
        await real.signal(signal.SIGTERM)
        await ours.until_about(MemberLeft, "real")
        assert not [event for event in ours.events if isinstance(event, MemberFailed)]
        ours.events.clear()
        await real.start()
        await ours.membership.join([real.address])
        await ours.until_about(MemberJoined, "real")
        await real.until_member("ours", ALIVE)


async def test_encrypted_with_keys_changed_from_either_side(pools: Pools, tmp_path: Path) -> None:
    keys = [bytes(range(start, start + 32)) for start in (0, 50, 100)]
    texts = [base64.b64encode(key).decode() for key in keys]
    async with consul("127.0.24.135", tmp_path, encrypt=texts[0]) as real:
        stranger = await client(pools, "stranger")
        with pytest.raises(JoinFailed):
            await stranger.membership.join([real.address])
        ours = await client(pools, keyring=[keys[0]])
        await ours.membership.join([real.address])
        await real.until_member("ours", ALIVE)

        for method, text in (("POST", texts[1]), ("PUT", texts[1]), ("DELETE", texts[0])):
            await real.ask("/v1/operator/keyring?relay-factor=1", method, {"Key": text})
        await ours.until(lambda event: event == KeyringChanged([keys[1]]))

        for change in (ours.membership.install_key, ours.membership.use_key):
            result = await change(keys[2], relay_factor=1)
            assert (result.nodes, result.responses, result.errors) == (2, 2, 0)
        assert (await ours.membership.remove_key(keys[1])).errors == 0
        rings = await real.ask("/v1/operator/keyring")
        (lan,) = [ring for ring in rings if not ring["WAN"]]
        assert (lan["Keys"], lan["NumNodes"]) == ({texts[2]: 2}, 2)
        assert (await real.until_member("ours", ALIVE))["Name"] == "ours"
        assert not [event for event in ours.events if isinstance(event, MemberFailed)]


async def test_members_that_consul_s_rules_forbid_are_not_taken_in(pools: Pools, tmp_path: Path) -> None:
    """One of another datacenter, and one with the node ID of the Consul server."""
    async with consul("127.0.24.136", tmp_path) as real:
        ours = await client(pools)
        await ours.membership.join([real.address])
        node_id = (await ours.until_about(MemberJoined, "real")).tags["id"]
        for name, tags in (("far", client_tags() | {"dc": "dc2"}), ("twin", client_tags(node_id))):
            forbidden = await client(pools, name, tags=tags)
            await forbidden.membership.join([real.address])
        event = {"ID": str(uuid.uuid4()), "n": "seen", "v": 1}
        ours.membership.user_event("consul:event:seen", msgpack.packb(event), False)
        await real.until("/v1/event/list?name=seen", bool)
        assert {member["Name"] for member in await real.ask("/v1/agent/members")} == {"real", "ours"}
        log = (tmp_path / "consul.log").read_text()
        assert "Member 'far' part of wrong datacenter 'dc2'" in log
        assert f"Member 'twin' has conflicting node ID '{node_id}' with this agent's ID" in log

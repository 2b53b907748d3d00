"""Gossip pools on real sockets: our own agents among themselves."""

import asyncio
import base64
import random
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from discovery.gossip.serf import SerfOptions
from discovery.telemetry import Metrics
from discovery.transport.membership import (
    LOCAL,
    JoinFailed,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    MemberStatus,
    MemberUpdated,
    NameConflict,
    PoolOptions,
    RefusedMerge,
    UnknownMember,
    UserEvent,
    UserEventTooLarge,
)

from .pools import PATIENCE, Pools, about, eventually, free_port


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
    with pytest.raises(JoinFailed) as failed:
        await a.membership.join(["name.invalid:7"])
    assert failed.value.text.startswith("1 error occurred:\n\t* Failed to resolve name.invalid:7: lookup name.invalid: ")


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
    assert about(event).port == rebuilt.membership.local_member().port


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


@pytest.mark.parametrize(("advertised", "other"), [("127.0.24.61", "127.0.24.62"), ("::1", "::1")], ids=["IPv4", "IPv6"])
async def test_bound_to_all_addresses_members_of_either_family_are_heard(pools: Pools, advertised: str, other: str) -> None:
    try:
        everywhere = await pools.start("everywhere", bind_address="::", advertise_address=advertised)
        near = await pools.start("near", bind_address=other)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    assert await near.membership.join([everywhere.address]) == 1
    near.membership.user_event("near", b"", False)
    await everywhere.until(lambda event: isinstance(event, UserEvent) and event.name == "near")
    await eventually(lambda: everywhere.membership.coordinate_of("near") is not None)
    await eventually(lambda: near.membership.coordinate_of("everywhere") is not None)
    with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((other, 0))
        udp.sendto(b"nonsense", (advertised, everywhere.membership.local_member().port))
    await eventually(lambda: set(everywhere.membership.strangers()) == {other})


async def test_a_restarted_agent_rejoins_those_it_knew_and_hears_no_old_events(pools: Pools, tmp_path: Path) -> None:
    snapshot = tmp_path / "serf" / "local.snapshot"
    port = free_port("127.0.0.1")
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


async def test_the_pool_s_numbers_are_in_the_agent_s_metrics(pools: Pools) -> None:
    metrics = Metrics()
    a, b = await pools.start("a", metrics=metrics), await pools.start("b")
    await a.membership.join([b.address])
    me = a.membership.local_member()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"nonsense", (me.address, me.port))
    await eventually(lambda: metrics.memberlist_msg_bad.count == 1)
    await eventually(lambda: metrics.memberlist_probe_node.count > 2)
    assert metrics.memberlist_udp_sent.total > metrics.memberlist_udp_sent.count > 0
    assert metrics.memberlist_udp_received.total > 0
    assert metrics.memberlist_tcp_sent.total > 0
    assert metrics.memberlist_msg_alive.count > 0
    assert metrics.memberlist_push_pull_node.count == 1
    assert metrics.memberlist_health_score.value == 0


async def test_stats_have_the_keys_of_consul_info(pools: Pools) -> None:
    a = await pools.start("a")
    assert list(a.membership.stats()) == [
        "coordinate_resets", "encrypted", "event_queue", "event_time", "failed", "health_score", "intent_queue", "left",
        "member_time", "members", "query_queue", "query_time",
    ]  # fmt: skip


def test_the_options_of_a_pool_default_to_those_of_the_core() -> None:
    ours, core = PoolOptions(name="", bind_address="", port=0), SerfOptions(name="", address=("", 0))
    for name in ("profile", "reconnect_timeout", "tombstone_timeout", "leave_propagate_delay"):
        assert getattr(ours, name) == getattr(core, name)

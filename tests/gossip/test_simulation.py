"""Whole groups in virtual time: detection, dissemination, loss, partitions and stalls. A failing case names its seed."""

import pytest

from discovery.gossip.events import MemberFailed, MemberJoined, MemberLeft, MemberStatus, UserEvent
from discovery.gossip.profile import LAN, LOCAL, Profile
from discovery.gossip.suspicion import suspicion_timeout

from .measurements import PLAIN_SWIM, crash, pause, slow_members, traffic
from .world import Peer, World, agree

SEEDS = range(3)


def names(peers: list[Peer]) -> set[str]:
    return {peer.name for peer in peers}


@pytest.mark.parametrize("size", [5, 20, 50])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_finds_together_and_a_crash_is_seen_by_all(seed: int, size: int) -> None:
    world = World(seed)
    peers = world.group(size)
    # What gossip misses, by a small chance, the next exchange brings.
    assert world.run_until(lambda: agree(peers, peers), LAN.push_pull_interval + 5)
    victim, rest = peers[size // 2], [*peers[: size // 2], *peers[size // 2 + 1 :]]
    world.crash(victim)
    # A round of probes with its timeout, the longest suspicion, and some gossip.
    bound = size + 1 + 6 * suspicion_timeout(4, size, 1.0) + 5
    assert world.run_until(lambda: agree(rest, rest), bound)
    for peer in rest:
        assert peer.told(MemberFailed) == [victim.name]
        assert peer.told(MemberLeft) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leave_is_never_a_failure(seed: int) -> None:
    world = World(seed, loss=0.05)
    peers = world.group(12)
    assert world.run_until(lambda: agree(peers, peers), 15)
    for leaver in peers[9:]:
        leaver.core.leave(world.now)
        world.react(leaver)
    assert world.run_until(lambda: all(leaver.core.left for leaver in peers[9:]), 20)
    for leaver in peers[9:]:
        world.crash(leaver)
    world.run(90)
    for peer in peers[:9]:
        assert peer.sees(MemberStatus.LEFT) == names(peers[9:])
        assert peer.told(MemberFailed) == []


@pytest.mark.parametrize("loss", [0.1, 0.25])
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_of_packets_makes_nobody_fail(seed: int, loss: float) -> None:
    world = World(seed, loss=loss)
    peers = world.group(20)
    assert world.run_until(lambda: agree(peers, peers), 30)
    world.run(120)
    assert [name for peer in peers for name in peer.told(MemberFailed)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_user_events_reach_everybody_once_in_spite_of_loss(seed: int) -> None:
    world = World(seed, loss=0.2)
    peers = world.group(30)
    assert world.run_until(lambda: agree(peers, peers), 30)
    for number in range(10):
        peers[number].core.user_event(f"event{number}", bytes(number), False, world.now)
        world.react(peers[number])
    world.run(90)
    for peer in peers:
        heard = sorted(event.name for _, event in peer.events if isinstance(event, UserEvent))
        assert heard == [f"event{number}" for number in range(10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_splits_the_group_and_its_end_unites_it(seed: int) -> None:
    world = World(seed)
    peers = world.group(11)
    assert world.run_until(lambda: agree(peers, peers), 15)
    left, right = peers[:5], peers[5:]
    world.split(left, right)
    assert world.run_until(lambda: agree(left, left) and agree(right, right), 90)
    world.heal()
    assert world.run_until(lambda: agree(peers, peers), 180)
    for peer in peers:
        assert peer.told(MemberLeft) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_hears_nobody_blames_few_and_is_itself_found_out(seed: int) -> None:
    """A one-way fault: the deaf node's suspicions are refuted by all the others, who hear each other."""
    world = World(seed)
    peers = world.group(15)
    assert world.run_until(lambda: agree(peers, peers), 15)
    deaf, rest = peers[0], peers[1:]
    world.delivers = lambda sender, receiver: receiver is not deaf
    world.run(60)
    for peer in rest:
        assert set(peer.told(MemberFailed)) <= {deaf.name}
    assert deaf.core.swim.awareness.score >= 4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seconds", [2.0, 7.0, 60.0])
def test_a_process_that_stood_still_declares_nobody_dead(seed: int, seconds: float) -> None:
    world = World(seed)
    peers = world.group(8)
    assert world.run_until(lambda: agree(peers, peers), 15)
    stalled = peers[3]
    world.stall(stalled, seconds)
    world.run(seconds + 40)
    assert stalled.told(MemberFailed) == []
    assert agree(peers, peers)


def test_after_a_stall_the_others_live_on_and_the_dead_are_still_found() -> None:
    world = World(4)
    peers = world.group(8)
    assert world.run_until(lambda: agree(peers, peers), 15)
    for peer in peers[:6]:
        world.stall(peer, 20.0)
    world.crash(peers[7])
    world.run(20)
    assert world.run_until(lambda: agree(peers[:7], peers[:7]), 60)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restarted_node_jumps_over_what_is_remembered_of_it(seed: int) -> None:
    world = World(seed, key=bytes(16))
    peers = world.group(5)
    assert world.run_until(lambda: agree(peers, peers), 15)
    first = peers[4]
    for number in range(5):
        first.core.update_tags({"number": str(number)}, world.now)
        world.react(first)
    world.run(5)
    world.crash(first)
    assert world.run_until(lambda: agree(peers[:4], peers[:4]), 60)
    again = world.restart(first, tags={"life": "second"})
    world.join(again, peers[0])
    everybody = [*peers[:4], again]
    assert world.run_until(lambda: agree(everybody, everybody), 10)
    assert world.run_until(lambda: all(peer.core.member("n4").tags == {"life": "second"} for peer in everybody), 10)  # type: ignore[union-attr]


def test_one_who_left_may_come_back() -> None:
    world = World(1)
    peers = world.group(4)
    assert world.run_until(lambda: agree(peers, peers), 15)
    leaver = peers[3]
    leaver.core.leave(world.now)
    world.react(leaver)
    assert world.run_until(lambda: leaver.core.left, 15)
    world.crash(leaver)
    world.run(5)
    again = world.restart(leaver)
    world.join(again, peers[1])
    everybody = [*peers[:3], again]
    assert world.run_until(lambda: agree(everybody, everybody), 10)
    world.run(60)
    assert agree(everybody, everybody)


def test_a_quiet_group_sends_little() -> None:
    """No message goes round for ever: what remains is a ping and an ack a second for each node."""
    world = World(2)
    peers = world.group(10)
    for peer in peers[:5]:
        peer.core.user_event("noise", b"", False, world.now)
    peers[9].core.leave(world.now)
    world.react(peers[9])
    world.run(60)
    before = world.packets
    world.run(60)
    assert world.packets - before <= 60 * 2 * 10 * 1.05


def test_faster_settings_find_out_faster() -> None:
    world = World(3, profile=LOCAL)
    peers = world.group(5)
    assert world.run_until(lambda: agree(peers, peers), 3)
    world.crash(peers[0])
    assert world.run_until(lambda: agree(peers[1:], peers[1:]), 5)


def test_members_join_once_in_each_other_s_eyes() -> None:
    world = World(5)
    peers = world.group(10)
    world.run(60)
    for peer in peers:
        assert sorted(peer.told(MemberJoined)) == sorted(names(peers))


def test_everybody_s_coordinates_become_better_than_a_guess() -> None:
    world = World(6)
    peers = world.group(6)
    world.run(200)
    for peer in peers:
        assert peer.core.coordinate().error < 0.8
        assert peer.core.coordinate().is_valid()
    distance = peers[0].core.coordinate().distance(peers[1].core.coordinate())
    assert 0.001 < distance < 0.02


@pytest.mark.parametrize("seed", range(8))
def test_five_of_thirty_that_die_together_are_known_to_all_within_ten_seconds(seed: int) -> None:
    assert crash(seed, 30, victims=5).known_by_all <= 10.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_of_five_seconds_is_noticed_and_forgiven(seed: int) -> None:
    suspected, blamed = pause(seed, 30, 5.0)
    assert suspected
    assert blamed == 0


def test_among_slow_members_far_fewer_healthy_ones_are_blamed_than_by_plain_swim() -> None:
    def mistakes(profile: Profile) -> float:
        return slow_members(1, 16, 3, hours=0.02, held=10.0, free=1.0, profile=profile).by_anybody

    ours, plain = mistakes(LAN), mistakes(PLAIN_SWIM)
    assert plain > 1000
    assert ours < plain / 50


def test_traffic_does_not_grow_with_the_group() -> None:
    assert traffic(1, 30) < 1.1 * traffic(1, 10)

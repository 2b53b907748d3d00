"""How well groups in virtual time do, in the measures of the SWIM and Lifeguard papers. Every figure is a function of its seed.

SWIM (Das, Gupta, Motivala 2002): the first suspicion comes e/(e-1), about 1.6, probe intervals after a crash on average, and
within two rounds of probes at the latest; news reach all in a number of gossip rounds that grows with the logarithm of the
group. Lifeguard (Dadgar, Phillips, Currey 2017): where some members are slow, far fewer healthy ones are declared dead than
without it. `PLAIN_SWIM` is the same code with Lifeguard's parts switched off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from discovery.gossip.events import MemberFailed
from discovery.gossip.profile import LAN, Profile

from .world import Peer, World, agree

PLAIN_SWIM = replace(LAN, suspicion_max_timeout_mult=1, awareness_max_multiplier=1)
"""One suspicion time for all, and no health of one's own."""

_SETTLE = 120.0


@dataclass(frozen=True)
class Detection:
    """Seconds since the crash: the first member that suspects, the first that declares dead, and the last that knows."""

    suspected: float
    declared: float
    known_by_all: float


def settled(world: World, size: int) -> list[Peer]:
    """A group in which all see all."""
    peers = world.group(size)
    if not world.run_until(lambda: agree(peers, peers), _SETTLE):
        raise AssertionError(f"a group of {size} is not complete after {_SETTLE:g} s")
    return peers


def crash(seed: int, size: int, *, victims: int = 1, loss: float = 0.0, profile: Profile = LAN) -> Detection:
    """Some members of a settled group die at one moment."""
    world = World(seed, profile=profile)
    peers = settled(world, size)
    world.loss = loss
    world.run(world.rng.uniform(0, 10))
    dead, rest = peers[:victims], peers[victims:]
    began = world.now
    for peer in dead:
        world.crash(peer)
    suspected = world.run_until(lambda: _suspected(rest, dead), _SETTLE)
    first_suspicion = world.now
    known = world.run_until(lambda: agree(rest, rest), 3 * _SETTLE)
    if not (suspected and known):
        raise AssertionError(f"seed {seed}: {victims} of {size} dead, and after {world.now - began:g} s not all know it")
    declared = [when for peer in rest for when, event in peer.events if isinstance(event, MemberFailed) and when >= began]
    return Detection(first_suspicion - began, min(declared) - began, world.now - began)


def _suspected(rest: Sequence[Peer], dead: Sequence[Peer]) -> bool:
    for victim in dead:
        for peer in rest:
            node = peer.core.swim.members.get(victim.name)
            if node is not None and node.suspicion is not None:
                return True
    return False


@dataclass(frozen=True)
class Mistakes:
    """Per hour: how often any member declared a healthy one dead, and how often a healthy member did so."""

    by_anybody: float
    by_healthy: float


def slow_members(seed: int, size: int, slow: int, *, hours: float, held: float, free: float, profile: Profile = LAN) -> Mistakes:
    """`slow` members move messages only `free` seconds after every `held` seconds in which they move none."""
    world = World(seed, profile=profile)
    peers = settled(world, size)
    culprits, healthy = peers[:slow], peers[slow:]
    names = {peer.name for peer in healthy}

    def hold(peer: Peer) -> None:
        world.block(peer, held)
        world.at(world.now + held + free, lambda: hold(peer))

    for peer in culprits:
        world.at(world.now + world.rng.uniform(0, held + free), lambda peer=peer: hold(peer))
    world.run(hours * 3600)

    def mistakes(observers: Sequence[Peer]) -> float:
        return sum(name in names for peer in observers for name in peer.told(MemberFailed)) / hours

    return Mistakes(mistakes(peers), mistakes(healthy))


def lossy_hour(seed: int, size: int, loss: float, *, hours: float = 0.5, profile: Profile = LAN) -> float:
    """How often, per hour, somebody was declared dead although all are well, where packets are lost."""
    world = World(seed, profile=profile)
    peers = settled(world, size)
    world.loss = loss
    world.run(hours * 3600)
    return sum(len(peer.told(MemberFailed)) for peer in peers) / hours


@dataclass(frozen=True)
class Healing:
    """Seconds until both sides of a partition know of it, and after its end until all see all again."""

    split: float
    united: float


def partition(seed: int, size: int) -> Healing:
    """A third of a settled group is cut off for a while."""
    world = World(seed)
    peers = settled(world, size)
    lesser, greater = peers[: size // 3], peers[size // 3 :]
    world.split(lesser, greater)
    began = world.now
    if not world.run_until(lambda: agree(lesser, lesser) and agree(greater, greater), 5 * _SETTLE):
        raise AssertionError(f"seed {seed}: a partition of {size} is not known to all")
    split = world.now - began
    world.heal()
    began = world.now
    if not world.run_until(lambda: agree(peers, peers), 10 * _SETTLE):
        raise AssertionError(f"seed {seed}: a group of {size} did not unite")
    return Healing(split, world.now - began)


def pause(seed: int, size: int, seconds: float) -> tuple[bool, int]:
    """One process stands still: whether it was suspected meanwhile, and how many members declared anybody dead."""
    world = World(seed)
    peers = settled(world, size)
    world.run(world.rng.uniform(0, 5))
    world.stall(peers[0], seconds)
    suspected = world.run_until(lambda: _suspected(peers[1:], peers[:1]), seconds)
    world.run(60)
    if not agree(peers, peers):
        raise AssertionError(f"seed {seed}: after a pause of {seconds:g} s not all see all")
    return suspected, sum(bool(peer.told(MemberFailed)) for peer in peers)


def traffic(seed: int, size: int) -> float:
    """Bytes a second which one member of a quiet group sends in packets."""
    world = World(seed)
    settled(world, size)
    world.run(60)
    before = world.bytes
    world.run(120)
    return (world.bytes - before) / 120 / size


def spread(seed: int, size: int, loss: float = 0.0) -> float:
    """Seconds until a user event has reached all."""
    world = World(seed)
    peers = settled(world, size)
    world.run(30)
    world.loss = loss
    peers[0].core.user_event("news", b"", False, world.now)
    world.react(peers[0])
    began = world.now
    if not world.run_until(lambda: all(peer.core.clocks()[1] for peer in peers), _SETTLE):
        raise AssertionError(f"seed {seed}: an event did not reach all of {size}")
    return world.now - began


def middle_and_worst(values: Sequence[float]) -> str:
    return f"{median(values):.1f} / {max(values):.1f}"


def detection_rows(seeds: range, sizes: Sequence[int]) -> Iterator[str]:
    yield "| members | loss | killed | first suspicion, s | first declared, s | known by all, s |"
    yield "|---|---|---|---|---|---|"
    cases = [(size, 0.0, 1) for size in sizes] + [(30, 0.0, 5), (50, 0.1, 1), (50, 0.3, 1)]
    for size, loss, victims in cases:
        found = [crash(seed, size, victims=victims, loss=loss) for seed in (seeds if size <= 100 else seeds[: len(seeds) // 4])]
        columns = zip(*((one.suspected, one.declared, one.known_by_all) for one in found), strict=True)
        yield f"| {size} | {loss:.0%} | {victims} | {' | '.join(map(middle_and_worst, map(list, columns)))} |"


def mistake_rows(seeds: range, *, hours: float) -> Iterator[str]:
    yield "| 30 members, all well but for | plain SWIM, by anybody / by healthy | ours, by anybody / by healthy |"
    yield "|---|---|---|"
    for held, free in ((6.0, 1.0), (16.0, 2.0)):
        cells = []
        for profile in (PLAIN_SWIM, LAN):
            made = [slow_members(seed, 30, 3, hours=hours, held=held, free=free, profile=profile) for seed in seeds]
            cells.append(f"{mean(one.by_anybody for one in made):.0f} / {mean(one.by_healthy for one in made):.0f}")
        yield f"| 3 whose messages stand still {held:g} of every {held + free:g} s | {' | '.join(cells)} |"
    for loss in (0.1, 0.3):
        cells = [
            f"{mean(lossy_hour(seed, 30, loss, hours=hours, profile=one) for seed in seeds):.0f}" for one in (PLAIN_SWIM, LAN)
        ]
        yield f"| {loss:.0%} of packets lost | {' | '.join(cells)} |"


def other_rows(seeds: range) -> Iterator[str]:
    yield "| what | members | median / worst of the seeds |"
    yield "|---|---|---|"
    for size, loss in ((50, 0.0), (50, 0.3), (100, 0.0)):
        times = [spread(seed, size, loss) for seed in seeds]
        yield f"| a user event reaches all, {loss:.0%} loss, s | {size} | {middle_and_worst(times)} |"
    healings = [partition(seed, 30) for seed in seeds]
    yield f"| a third is cut off: both sides know, s | 30 | {middle_and_worst([one.split for one in healings])} |"
    yield f"| the cut ends: all see all again, s | 30 | {middle_and_worst([one.united for one in healings])} |"
    pauses = [pause(seed, 30, 5.0) for seed in seeds]
    suspected, blamed = sum(one[0] for one in pauses), sum(one[1] for one in pauses)
    yield f"| one process stands still for 5 s: suspected in {suspected} of {len(pauses)} runs; taken for dead | 30 | {blamed} |"
    for size in (10, 30, 100):
        sent = [traffic(seed, size) for seed in seeds]
        yield f"| bytes/s that one member sends in packets | {size} | {middle_and_worst(sent)} |"

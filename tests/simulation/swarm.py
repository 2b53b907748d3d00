"""What kind of world a seed makes. Each seed draws which faults there are at all, how strong, and how small the limits are:
small limits make rare paths common."""

from __future__ import annotations

import random
from dataclasses import dataclass

from discovery.raft.core import Options

TROUBLES = ("crash", "isolate", "split", "deafen", "pause", "stall", "members", "transfer", "rumour")


@dataclass(frozen=True)
class Swarm:
    """Times in seconds; `loss` and `duplication` are probabilities; `trouble` holds the kinds of nemesis at work."""

    servers: int
    spares: int
    clients: int
    keys: int
    think_time: float
    turn: float
    loss: float
    duplication: float
    delay: float
    ordered: bool
    fsync: float
    overlapping_writes: bool
    apply_page: int
    clock_skew: float
    lease_reads: bool
    snapshot_threshold: int
    trailing: int
    trouble: tuple[str, ...]
    trouble_interval: float
    options: Options

    @classmethod
    def draw(cls, rng: random.Random) -> Swarm:
        return cls(
            servers=rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5)),
            spares=rng.choice((0, 0, 1, 2)),
            clients=rng.randint(2, 5),
            keys=rng.randint(1, 3),
            think_time=rng.choice((0.02, 0.1, 0.3, 1.0, 4.0)),
            turn=rng.choice((0, 0.002, 0.02)),
            loss=rng.choice((0, 0, 0.02, 0.1, 0.25)),
            duplication=rng.choice((0, 0.05, 0.3)),
            delay=rng.choice((0.001, 0.005, 0.02, 0.06)),
            ordered=rng.random() < 0.4,
            fsync=rng.choice((0.0005, 0.005, 0.03)),
            overlapping_writes=rng.random() < 0.5,
            apply_page=rng.choice((0, 0, 1, 3)),
            clock_skew=rng.choice((0, 0.05, 0.25)),
            lease_reads=rng.random() < 0.5,
            snapshot_threshold=rng.choice((5, 15, 50, 10_000)),
            trailing=rng.choice((0, 1, 10)),
            trouble=tuple(kind for kind in TROUBLES if rng.random() < 0.6) or ("crash",),
            trouble_interval=rng.choice((0.3, 0.8, 2.0)),
            options=_draw_options(rng),
        )

    def fsync_time(self, rng: random.Random, *, calm: bool) -> float:
        stalls = not calm and rng.random() < 0.005
        return rng.expovariate(1 / self.fsync) + (rng.uniform(0.1, 2) if stalls else 0)

    def network_delay(self, rng: random.Random, *, calm: bool) -> float:
        mean = min(self.delay, 0.005) if calm else self.delay
        return 0.0005 + rng.expovariate(1 / mean)


def _draw_options(rng: random.Random) -> Options:
    return Options(
        max_inflight_messages=rng.choice((1, 2, 8, 64)),
        max_inflight_bytes=rng.choice((100, 1000, 8 << 20)),
        max_message_bytes=rng.choice((1, 200, 1 << 20)),
        max_uncommitted_bytes=rng.choice((200, 2000, 1 << 20)),
        max_apply_bytes=rng.choice((1, 300, 1 << 20)),
        commit_notice_delay=rng.choice((0.0, 0.005, 0.05)),
    )

"""How patient and how hungry a server is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GONE_AFTER_LEASES: Final = 1.25
"""A leader whose process is reported to have ended is honoured for so many lease timeouts after its last message. Should the
report be wrong, its lease is sound while clocks differ by less than this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Timeouts in seconds with Consul's meaning, each multiplied by `raft_multiplier`; sizes in bytes."""

    heartbeat_timeout: float = 1.0
    """A follower waits one to two of these without its leader before it campaigns; the leader sends ten."""
    election_timeout: float = 1.0
    """A candidate waits one to two of these for the result; a transfer is given up after one."""
    lease_timeout: float = 0.5
    """A leader that has not heard from a majority for this long steps down; for this long after a heartbeat round that a
    majority answered it may serve reads alone.

    The clock assumption: a lease begins when the round is sent, and whoever answered it elects nobody for a heartbeat_timeout
    after that. So a lease is sound while no server's clock runs faster than the leader's by a factor of
    heartbeat_timeout / lease_timeout (2 by default), or stands still on the leader: a machine must not be suspended and
    resumed under a clock that does not count the time between. Only leases rest on this, nothing else in Raft does.
    """
    write_timeout: float = 2.0
    """A leader whose disk has finished nothing for this long steps down: about what an election costs. Without this, a leader
    with a dead disk would stay in office by its heartbeats."""
    commit_notice_delay: float = 0.005
    """How long news of the newest commit waits for an append to travel with. Not multiplied."""
    raft_multiplier: int = 1
    max_inflight_messages: int = 64
    max_inflight_bytes: int = 8 << 20
    max_message_bytes: int = 1 << 20
    """Entries of one append; a single larger entry travels alone."""
    max_uncommitted_bytes: int = 64 << 20
    """Proposals waiting for commit beyond this are refused."""
    max_apply_bytes: int = 4 << 20
    """Size of one page of committed entries."""

    def __post_init__(self) -> None:
        if not 0.005 <= self.lease_timeout <= self.heartbeat_timeout <= self.election_timeout:
            raise ValueError("5 ms <= lease_timeout <= heartbeat_timeout <= election_timeout does not hold")
        if not 1 <= self.raft_multiplier <= 10:
            raise ValueError(f"raft_multiplier {self.raft_multiplier} is not within 1..10")

    def timings(self) -> Timings:
        multiplier = self.raft_multiplier
        return Timings(
            heartbeat=self.heartbeat_timeout * multiplier,
            heartbeat_interval=self.heartbeat_timeout * multiplier / 10,
            election=self.election_timeout * multiplier,
            lease=self.lease_timeout * multiplier,
            gone=min(GONE_AFTER_LEASES * self.lease_timeout, self.heartbeat_timeout) * multiplier,
            write=self.write_timeout * multiplier,
            commit_notice=self.commit_notice_delay,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The timeouts of `Options` as they are in force, in seconds."""

    heartbeat: float
    heartbeat_interval: float
    election: float
    lease: float
    gone: float
    write: float
    commit_notice: float

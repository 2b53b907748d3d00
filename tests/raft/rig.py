"""Servers on a bench: real cores, a clock moved by hand, messages and disk writes that wait to be carried out.

`raft` and `carry_out` are for one core alone; `Cluster` joins several by a network and disks without faults, unless told
otherwise. Time stands still until a test lets it pass.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Options, Raft, Ready, Role
from discovery.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    Message,
    Server,
    SnapshotMeta,
    VoteReply,
)

NAMES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7")
M = TypeVar("M")
Test = TypeVar("Test", bound=Callable[..., object])


def scenario(*numbers: int) -> Callable[[Test], Test]:
    """Names the scenarios of `scenarios.md` that a test plays."""
    del numbers
    return lambda test: test


# what servers begin with


def members(voters: Iterable[str], learners: Iterable[str] = ()) -> Configuration:
    servers = [Server(name, f"{name}:1") for name in voters] + [Server(name, f"{name}:1", voter=False) for name in learners]
    return Configuration(tuple(servers))


def command(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def log_of(terms: Sequence[int], first: int = 1) -> list[Entry]:
    """Commands of these terms, each with its place as data, so that logs of equal terms are equal."""
    return [command(index, term, b"%d@%d" % (index, term)) for index, term in enumerate(terms, first)]


def founding(configuration: Configuration) -> SnapshotMeta:
    """The start of a log that has no entry yet but knows its members."""
    return SnapshotMeta(0, 0, configuration, 0)


def options(**changed: Any) -> Options:
    """News of a commit leaves at once, as time stands still."""
    return Options(**{"commit_notice_delay": 0.0, **changed})


# one core


def raft(
    name: str = "s1",
    voters: Sequence[str] = NAMES[:3],
    *,
    learners: Sequence[str] = (),
    terms: Sequence[int] = (),
    term: int | None = None,
    vote: str = "",
    committed: int = 0,
    base: tuple[int, int] = (0, 0),
    seed: int = 0,
    **changed: Any,
) -> Raft:
    """One server at time 0 whose durable log holds entries of `terms` after `base`; long enough up to owe nobody a promise."""
    core = Raft(
        server_id=name,
        options=options(**changed),
        hard_state=HardState(max((base[1], *terms)) if term is None else term, vote),
        snapshot=SnapshotMeta(*base, members(voters, learners), 0),
        entries=log_of(terms, base[0] + 1),
        rng=random.Random(f"{seed}/{name}"),
        now=0.0,
    )
    core._timer.last_contact = -math.inf
    if committed:
        core._log.commit_to(committed)
        while entries := core._log.next_committed(1 << 30):
            core.applied(entries[-1].index)
    return core


def as_follower(core: Raft, leader: str = "s2", term: int | None = None) -> Raft:
    """It knows a leader, and the term is durable."""
    if term is not None and term > core.term:
        core._become_follower(term)
    core.leader_id = leader
    core._timer.heard_leader(core._now)
    carry_out(core)
    return core


def as_candidate(core: Raft) -> Raft:
    """Its election has begun, its own vote is durable and the others are asked."""
    core._campaign(transfer=False)
    carry_out(core)
    return core


def as_pre_candidate(core: Raft) -> Raft:
    core._campaign_before_vote()
    carry_out(core)
    return core


def as_leader(core: Raft, *, durable: bool = True) -> Raft:
    """Elected, with its first entry in the log and nothing left to say; with `durable` it is also on its disk."""
    as_candidate(core)
    for peer in sorted(core.configuration.voters() - {core.server_id}):
        if core.role is Role.CANDIDATE:
            core.step(VoteReply(peer, core.server_id, core.term, granted=True), core._now)
    assert core.role is Role.LEADER
    if durable:
        carry_out(core)
    return core


@dataclass
class Outcome:
    """What came out of a core, in order."""

    messages: list[Message] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    committed: list[Entry] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)
    reads_failed: list[int] = field(default_factory=list)
    snapshots: list[InstallSnapshot] = field(default_factory=list)
    installed: list[SnapshotMeta] = field(default_factory=list)

    def add(self, ready: Ready) -> None:
        self.messages += ready.messages
        self.entries += ready.entries
        self.committed += ready.committed
        self.reads += ready.reads
        self.reads_failed += ready.reads_failed
        self.snapshots += ready.snapshots_to_send
        if ready.install_snapshot is not None:
            self.installed.append(ready.install_snapshot)

    def of(self, kind: type[M], target: str | None = None) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind) and target in (None, message.target)]

    def one(self, kind: type[M], target: str | None = None) -> M:
        (message,) = self.of(kind, target)
        return message


def carry_out(core: Raft, *, install: bool = True) -> Outcome:
    """Does everything the core wants, the disk included, until it wants no more."""
    outcome = Outcome()
    while core.has_ready() and (ready := core.ready()) is not None:
        outcome.add(ready)
        if ready.write_id is not None:
            core.persisted(ready.write_id)
        outcome.messages += ready.messages_after_persist
        if ready.committed:
            core.applied(ready.committed[-1].index)
        if ready.install_snapshot is not None and install:
            core.snapshot_installed(ready.install_snapshot)
    return outcome


def step(core: Raft, *messages: Message) -> Outcome:
    """What comes of messages that arrive now."""
    for message in messages:
        core.step(message, core._now)
    return carry_out(core)


def terms_of(core: Raft) -> list[int]:
    """The terms of the log after its base."""
    return [core._log.entry(index).term for index in range(core.first_index, core.last_index + 1)]


# several


@dataclass
class Write:
    write_id: int
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    promises: list[Message]


class Member:
    """A server with its disk. What is durable outlives a crash; `held` disks finish a write only when told to."""

    def __init__(self, name: str, configuration: Configuration, terms: Sequence[int], term: int | None, options: Options) -> None:
        self.name = name
        self.options = options
        self.hard_state = HardState(max(terms, default=0) if term is None else term)
        self.entries = log_of(terms)
        self.snapshot = founding(configuration)
        self.image: tuple[bytes, ...] = ()
        self.writes: list[Write] = []
        self.held = False
        self.up = True
        self.life = 0
        self.start(0.0)
        self.raft._timer.last_contact = -math.inf

    def start(self, now: float) -> None:
        self.life += 1
        self.up = True
        self.applied = list(self.image)
        self.reads: list[tuple[int, int]] = []
        self.reads_failed: list[int] = []
        self.raft = Raft(
            server_id=self.name,
            options=self.options,
            hard_state=self.hard_state,
            snapshot=self.snapshot,
            entries=self.entries,
            rng=random.Random(f"{self.life}/{self.name}"),
            now=now,
        )

    def crash(self) -> None:
        self.up = False
        self.writes.clear()

    def sync(self) -> list[Message]:
        """The oldest write becomes durable; returns the promises that may leave now."""
        write = self.writes.pop(0)
        if write.entries:
            first = write.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first] + list(write.entries)
        self.hard_state = write.hard_state or self.hard_state
        self.raft.persisted(write.write_id)
        return write.promises

    def apply(self, entries: Sequence[Entry]) -> None:
        self.applied += [entry.data for entry in entries if entry.kind is EntryKind.COMMAND]
        self.raft.applied(entries[-1].index)

    def take_snapshot(self, trailing: int = 0) -> None:
        meta = self.raft.describe_snapshot(self.raft.applied_index)
        self.snapshot, self.image = meta, tuple(self.applied)
        up_to = self.raft.compact(meta, trailing)
        self.entries = [entry for entry in self.entries if entry.index > up_to]

    def install(self, meta: SnapshotMeta) -> None:
        self.applied = list(self.image)
        self.entries = []
        self.raft.snapshot_installed(meta)


def _ready(member: Member) -> Ready | None:
    write = not member.writes
    return member.raft.ready(write=write) if member.raft.has_ready(write=write) else None


class Cluster:
    """`spares` are servers that run but belong to nobody yet. `terms` and `term` give servers a past."""

    def __init__(
        self,
        voters: Sequence[str] | int = 3,
        learners: Sequence[str] = (),
        *,
        spares: Sequence[str] = (),
        terms: Mapping[str, Sequence[int]] | None = None,
        term: Mapping[str, int] | None = None,
        **changed: Any,
    ) -> None:
        names = NAMES[:voters] if isinstance(voters, int) else tuple(voters)
        configuration = members(names, learners)
        terms, term = terms or {}, term or {}
        self.now = 0.0
        self.servers = {
            name: Member(name, configuration, terms.get(name, ()), term.get(name), options(**changed))
            for name in (*names, *learners)
        }
        self.servers |= {name: Member(name, Configuration(), (), None, options(**changed)) for name in spares}
        self.queue: list[Message] = []
        self.streams: list[InstallSnapshot] = []
        self.streaming = True
        self.on_message: Callable[[Message], bool] = lambda message: True
        """Whether a message arrives."""
        self._cut: set[tuple[str, str]] = set()

    def __getitem__(self, name: str) -> Raft:
        return self.servers[name].raft

    # the network

    def cut(self, source: str, target: str) -> None:
        self._cut.add((source, target))

    def isolate(self, *names: str) -> None:
        """These reach nobody and are reached by nobody."""
        for name in names:
            for other in self.servers:
                self._cut |= {(name, other), (other, name)}

    def split(self, *sides: Sequence[str]) -> None:
        for side in sides:
            for name in side:
                self._cut |= {(name, other) for other in self.servers if other not in side}

    def heal(self) -> None:
        self._cut.clear()

    def deliver(self) -> None:
        """Everything on its way arrives, or is lost."""
        queue, self.queue = self.queue, []
        for message in queue:
            target = self.servers.get(message.target)
            passes = (message.sender, message.target) not in self._cut
            if target is not None and target.up and passes and self.on_message(message):
                target.raft.step(message, self.now)

    # carrying out

    def settle(self) -> None:
        """Until nobody has anything to say, as time stands still."""
        for _ in range(10_000):
            if not self.carry_out() and not self.queue and not (self.streaming and self.streams):
                return
            self.deliver()
            self._stream()
        raise AssertionError("the cluster does not come to rest")

    def carry_out(self) -> bool:
        """Does what the cores want; tells whether that was anything."""
        busy = False
        for member in self.servers.values():
            while member.up and (ready := _ready(member)) is not None:
                busy = True
                self._handle(member, ready)
        return busy

    def _handle(self, member: Member, ready: Ready) -> None:
        self.queue += ready.messages
        if ready.write_id is not None:
            member.writes.append(Write(ready.write_id, ready.hard_state, ready.entries, ready.messages_after_persist))
            if not member.held:
                self.queue += member.sync()
        member.reads += ready.reads
        member.reads_failed += ready.reads_failed
        if ready.committed:
            member.apply(ready.committed)
        self.streams += ready.snapshots_to_send
        if ready.install_snapshot is not None:
            member.install(ready.install_snapshot)

    def hold(self, name: str) -> None:
        """The disk of this server becomes slow: writes wait for `release`."""
        self.servers[name].held = True

    def release(self, name: str) -> None:
        member = self.servers[name]
        member.held = False
        while member.writes:
            self.queue += member.sync()

    def _stream(self) -> None:
        while self.streaming and self.streams:
            header = self.streams.pop(0)
            self.stream(header)

    def stream(self, header: InstallSnapshot, *, ok: bool = True) -> None:
        """A snapshot arrives as a whole, or not at all."""
        source, target = self.servers[header.sender], self.servers[header.target]
        ok = ok and target.up and (header.sender, header.target) not in self._cut
        if ok and header.meta.index > target.raft.applied_index:
            target.snapshot, target.image = header.meta, source.image
            target.raft.step(header, self.now)
        if source.up:
            source.raft.report_snapshot(header.target, ok)

    # time

    def pass_time(self, seconds: float, pace: float = 0.05) -> None:
        """Everybody ticks, and what comes of it is carried out."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + pace)
            for member in self.servers.values():
                if member.up:
                    member.raft.tick(self.now)
            self.settle()

    def expire(self, name: str) -> None:
        """The patience of this server ends now."""
        core = self[name]
        core._timer.deadline = self.now
        core.tick(self.now)

    def forget_leader(self, *names: str) -> None:
        """So much time passed for these that they support no leader any longer."""
        for name in names or tuple(self.servers):
            self[name]._timer.last_contact = -math.inf

    def elect(self, name: str) -> Raft:
        """Long after any leader was heard of, the patience of this server ends first."""
        self.forget_leader()
        self.expire(name)
        self.settle()
        assert self[name].role is Role.LEADER, self[name]
        return self[name]

    # what is asked of servers

    def propose(self, name: str, data: bytes = b"x") -> tuple[int, int]:
        proposed = self[name].propose(data)
        self.settle()
        return proposed

    def change(self, name: str, kind: ChangeKind, server: str) -> tuple[int, int]:
        changed = self[name].propose_configuration(ConfigurationChange(kind, server, f"{server}:1"))
        self.settle()
        return changed

    def crash(self, *names: str) -> None:
        for name in names:
            self.servers[name].crash()

    def restart(self, *names: str) -> None:
        for name in names:
            self.servers[name].start(self.now)

    # what became of them

    @property
    def leaders(self) -> list[str]:
        return [name for name, member in self.servers.items() if member.up and member.raft.role is Role.LEADER]

    def terms(self, name: str) -> list[int]:
        return terms_of(self[name])

    def applied(self, name: str) -> list[bytes]:
        return self.servers[name].applied

    def assert_equal(self, *names: str) -> None:
        """These servers hold the same log and have applied all of it."""
        chosen = [self.servers[name] for name in names or tuple(self.servers)]
        logs = {(member.raft.last_index, member.raft.last_term, member.raft.applied_index) for member in chosen}
        assert len(logs) == 1, [member.raft for member in chosen]
        assert len({tuple(member.applied) for member in chosen}) == 1
        assert all(member.raft.applied_index == member.raft.last_index for member in chosen)

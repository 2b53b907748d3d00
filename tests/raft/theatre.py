"""Text scenes: commands to servers on a bench, and below each what comes of it.

A scene is a text of blocks. A block is one or more commands, a line `----`, and what they print; blocks are separated by
blank lines, `#` begins a comment. Nothing happens by itself: time, disks and the network move when a command says so.

    cluster s1 s2 s3 [learners=s4] [spares=s5] [option=value ...]   servers; options are those of raft.options
    log s1 1 1 2 [term=4]            starts a server anew with a durable log of these terms, and a later term if given
    expire s1                        its patience ends now
    forget s1 ...                    it has not heard of any leader for long (all, if none is named)
    pass 0.1                         time passes for everybody, without anything else
    ready s1 [hold]                  carries out what it wants done; the write begins, unless held back
    sync s1                          its oldest write is durable; what was promised leaves
    apply s1                         what it was given is applied
    deliver s1 s2 [n]                messages from s1 to s2 arrive: all, or the first n
    drop s1 s2 [n]                   they are lost
    repeat s1 s2                     they arrive, and stay on their way
    settle [silent]                  everything until nobody has anything to say, disks included
    propose s1 text | read s1 | transfer s1 s2 | change s1 ADD_VOTER s4 | unreachable s1 s2
    snapshot s1 [trailing]           takes one of what is applied and compacts the log
    stream s1 s2 | break s1 s2       a snapshot to be sent arrives, or does not
    installed s1                     a received snapshot is restored
    crash s1 | restart s1
    state [s1 ...] | progress s1 | lease s1 | log? s1
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Raft, Ready
from discovery.raft.errors import InvariantViolated, MalformedMessage, RaftError
from discovery.raft.messages import (
    AppendEntries,
    AppendReply,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotMeta,
    TimeoutNow,
    VoteReply,
    decode_configuration,
)

from .rig import founding, log_of, members, options

DIVIDER = "----"


def play(text: str) -> str:
    """The scene with what its commands print now."""
    stage = Stage()
    return "\n\n".join(_played(stage, block) for block in text.strip("\n").split("\n\n")) + "\n"


def _played(stage: Stage, block: str) -> str:
    lines = block.split("\n")
    commands = lines[: lines.index(DIVIDER)] if DIVIDER in lines else lines
    printed: list[str] = []
    for line in commands:
        words = line.split("#")[0].split()
        if words:
            printed += stage.do(words[0], words[1:])
    if not any(line and not line.startswith("#") for line in commands):
        return block
    return "\n".join([*commands, DIVIDER, *(printed or ["ok"])])


@dataclass
class Actor:
    """A server with its disk; what is durable outlives a crash."""

    name: str
    hard_state: HardState
    entries: list[Entry]
    snapshot: SnapshotMeta
    raft: Raft = field(init=False)
    writes: list[Ready] = field(default_factory=list)
    to_apply: list[Entry] = field(default_factory=list)
    installing: SnapshotMeta | None = None
    up: bool = True


class Stage:
    """What is on the bench. Each command is a method; it returns the lines it prints."""

    def __init__(self) -> None:
        self.now = 0.0
        self.actors: dict[str, Actor] = {}
        self.queue: list[Message] = []
        self.streams: list[InstallSnapshot] = []
        self._options = options()
        self._commands: dict[str, Callable[[list[str]], list[str]]] = {
            "cluster": self._cluster,
            "log": self._log,
            "expire": self._expire,
            "forget": self._forget,
            "pass": self._pass,
            "ready": self._ready,
            "sync": self._sync,
            "apply": self._apply,
            "deliver": self._deliver,
            "drop": self._drop,
            "repeat": self._repeat,
            "settle": self._settle,
            "propose": self._propose,
            "read": self._read,
            "transfer": self._transfer,
            "change": self._change,
            "unreachable": self._unreachable,
            "snapshot": self._snapshot,
            "stream": self._stream,
            "break": self._break,
            "installed": self._installed,
            "crash": self._crash,
            "restart": self._restart,
            "state": self._state,
            "progress": self._progress,
            "lease": self._lease,
            "log?": self._show_log,
        }

    def do(self, command: str, words: list[str]) -> list[str]:
        """Refusals and faults are part of the play."""
        try:
            return self._commands[command](words)
        except (RaftError, InvariantViolated) as error:
            return [f"{type(error).__name__}: {error}"]

    def _raft(self, name: str) -> Raft:
        return self.actors[name].raft

    # who is there

    def _cluster(self, words: list[str]) -> list[str]:
        named = dict(word.split("=") for word in words if "=" in word)
        learners = [name for name in named.pop("learners", "").split(",") if name]
        spares = [name for name in named.pop("spares", "").split(",") if name]
        voters = [word for word in words if "=" not in word]
        self._options = options(**{name: float(value) if "." in value else int(value) for name, value in named.items()})
        for name in (*voters, *learners):
            self._enter(name, members(voters, learners))
        for name in spares:
            self._enter(name, Configuration())
        return []

    def _enter(self, name: str, configuration: Configuration) -> None:
        self.actors[name] = Actor(name, HardState(), [], founding(configuration))
        self._start(self.actors[name])
        self._raft(name)._timer.last_contact = -100.0

    def _start(self, actor: Actor) -> None:
        actor.up, actor.writes, actor.to_apply, actor.installing = True, [], [], None
        actor.raft = Raft(
            server_id=actor.name,
            options=self._options,
            hard_state=actor.hard_state,
            snapshot=actor.snapshot,
            entries=actor.entries,
            rng=random.Random(actor.name),
            now=self.now,
        )

    def _log(self, words: list[str]) -> list[str]:
        actor, terms = self.actors[words[0]], [int(word) for word in words[1:] if "=" not in word]
        term = [int(word.removeprefix("term=")) for word in words if "=" in word]
        actor.entries, actor.hard_state = log_of(terms), HardState(max(terms + term))
        self._start(actor)
        actor.raft._timer.last_contact = -100.0
        return []

    def _crash(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        actor.up = False
        lost = sum(len(write.entries) for write in actor.writes)
        return [f"{actor.name} loses {len(actor.writes)} writes with {lost} entries"] if actor.writes else []

    def _restart(self, words: list[str]) -> list[str]:
        self._start(self.actors[words[0]])
        return self._state(words)

    # time

    def _expire(self, words: list[str]) -> list[str]:
        core = self._raft(words[0])
        core._timer.deadline = self.now
        core.tick(self.now)
        return self._state(words)

    def _forget(self, words: list[str]) -> list[str]:
        for name in words or self.actors:
            self._raft(name)._timer.last_contact = -100.0
        return []

    def _pass(self, words: list[str]) -> list[str]:
        self.now += float(words[0])
        for actor in self.actors.values():
            if actor.up:
                actor.raft.tick(self.now)
        return []

    # what servers want done

    def _ready(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        printed = []
        while (ready := actor.raft.ready(write="hold" not in words)) is not None:
            printed += self._take(actor, ready)
        return printed or ["nothing"]

    def _take(self, actor: Actor, ready: Ready) -> list[str]:
        self.queue += ready.messages
        self.streams += ready.snapshots_to_send
        actor.to_apply += ready.committed
        printed = [f"sends {described(message)}" for message in ready.messages]
        printed += [f"sends {described(header)}" for header in ready.snapshots_to_send]
        if ready.write_id is not None:
            actor.writes.append(ready)
            printed.append(f"writes {_hard_state(ready.hard_state)}{_entries(ready.entries)}".rstrip())
            printed += [f"promises {described(message)}" for message in ready.messages_after_persist]
        printed += [f"commits {_entries(ready.committed)}"] if ready.committed else []
        printed += [f"may answer read {token} at {index}" for token, index in ready.reads]
        printed += [f"fails read {token}" for token in ready.reads_failed]
        if ready.install_snapshot is not None:
            actor.installing = ready.install_snapshot
            printed.append(f"installs the snapshot at {ready.install_snapshot.index}@{ready.install_snapshot.term}")
        return printed

    def _sync(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        if not actor.writes:
            return ["nothing to write"]
        write = actor.writes.pop(0)
        if write.entries:
            first = write.entries[0].index
            actor.entries = [entry for entry in actor.entries if entry.index < first] + list(write.entries)
        actor.hard_state = write.hard_state or actor.hard_state
        assert write.write_id is not None
        actor.raft.persisted(write.write_id)
        self.queue += write.messages_after_persist
        return [f"sends {described(message)}" for message in write.messages_after_persist] or [f"{actor.name} is done"]

    def _apply(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        entries, actor.to_apply = actor.to_apply, []
        if not entries:
            return ["nothing"]
        actor.raft.applied(entries[-1].index)
        return [f"applies {_entries(entries)}"]

    # the network

    def _between(self, words: list[str]) -> list[Message]:
        source, target = words[:2]
        found = [message for message in self.queue if (message.sender, message.target) == (source, target)]
        return found[: int(words[2])] if len(words) > 2 else found

    def _deliver(self, words: list[str]) -> list[str]:
        messages = self._between(words)
        for message in messages:
            self.queue.remove(message)
        return [line for message in messages for line in self._arrive(message)] or ["nothing"]

    def _repeat(self, words: list[str]) -> list[str]:
        return [line for message in self._between(words) for line in self._arrive(message)] or ["nothing"]

    def _arrive(self, message: Message) -> list[str]:
        actor = self.actors.get(message.target)
        if actor is None or not actor.up:
            return [f"{message.target} is not there: {described(message)}"]
        try:
            actor.raft.step(message, self.now)
        except MalformedMessage as error:
            return [f"{message.target} refuses {described(message)}: {error}"]
        return [f"{message.target} gets {described(message)}"]

    def _drop(self, words: list[str]) -> list[str]:
        messages = self._between(words)
        for message in messages:
            self.queue.remove(message)
        return [f"lost {described(message)}" for message in messages] or ["nothing"]

    def _settle(self, words: list[str]) -> list[str]:
        printed: list[str] = []
        for _ in range(1000):
            step = self._settle_once()
            if not step:
                break
            printed += step
        return self._state([]) if "silent" in words else printed

    def _settle_once(self) -> list[str]:
        printed: list[str] = []
        for actor in self.actors.values():
            if not actor.up:
                continue
            done = [] if (lines := self._ready([actor.name])) == ["nothing"] else lines
            while actor.writes:
                done += [line for line in self._sync([actor.name]) if not line.endswith("is done")]
            done += self._apply([actor.name]) if actor.to_apply else []
            done += self._installed([actor.name]) if actor.installing else []
            printed += [f"{actor.name} {line}" for line in done]
        queue, self.queue = self.queue, []
        for message in queue:
            printed += self._arrive(message)
        for header in list(self.streams):
            printed += self._stream([header.sender, header.target])
        return printed

    # what is asked of servers

    def _propose(self, words: list[str]) -> list[str]:
        index, term = self._raft(words[0]).propose(words[1].encode())
        return [f"{index}@{term}"]

    def _read(self, words: list[str]) -> list[str]:
        return [f"read {self._raft(words[0]).read_index(self.now)}"]

    def _transfer(self, words: list[str]) -> list[str]:
        self._raft(words[0]).transfer_leadership(words[1] if len(words) > 1 else None, self.now)
        return []

    def _change(self, words: list[str]) -> list[str]:
        wanted = ConfigurationChange(ChangeKind[words[1]], words[2], words[3] if len(words) > 3 else f"{words[2]}:1")
        index, term = self._raft(words[0]).propose_configuration(wanted)
        return [f"{index}@{term}"]

    def _unreachable(self, words: list[str]) -> list[str]:
        self._raft(words[0]).report_unreachable(words[1])
        return self._progress(words[:1])

    # snapshots

    def _snapshot(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        actor.snapshot = actor.raft.describe_snapshot(actor.raft.applied_index)
        up_to = actor.raft.compact(actor.snapshot, int(words[1]) if len(words) > 1 else 0)
        actor.entries = [entry for entry in actor.entries if entry.index > up_to]
        return [f"a snapshot at {actor.snapshot.index}@{actor.snapshot.term}, the log begins after {up_to}"]

    def _header(self, words: Sequence[str]) -> InstallSnapshot:
        header = next(header for header in self.streams if (header.sender, header.target) == tuple(words[:2]))
        self.streams.remove(header)
        return header

    def _stream(self, words: list[str]) -> list[str]:
        header = self._header(words)
        target = self.actors[header.target]
        if header.meta.index > target.raft.applied_index:
            target.snapshot = header.meta
        printed = self._arrive(header)
        self._raft(header.sender).report_snapshot(header.target, True)
        return printed

    def _break(self, words: list[str]) -> list[str]:
        header = self._header(words)
        self._raft(header.sender).report_snapshot(header.target, False)
        return [f"the stream to {header.target} breaks"]

    def _installed(self, words: list[str]) -> list[str]:
        actor = self.actors[words[0]]
        meta, actor.installing = actor.installing, None
        assert meta is not None
        actor.entries, actor.to_apply = [], []
        actor.raft.snapshot_installed(meta)
        return [f"the state is that of {meta.index}"]

    # what can be seen

    def _state(self, words: list[str]) -> list[str]:
        printed = []
        for name in words or self.actors:
            actor = self.actors[name]
            core = actor.raft
            leader = f", leader {core.leader_id}" if core.leader_id else ""
            vote = f", vote {core.vote}" if core.vote else ""
            printed.append(
                f"{name} {core.role} of term {core.term}{vote}{leader}, "
                f"log {core.first_index - 1}..{core.last_index}@{core.last_term}, commit {core.commit_index}"
                if actor.up
                else f"{name} is down"
            )
        return printed

    def _progress(self, words: list[str]) -> list[str]:
        progress = self._raft(words[0]).progress
        return [f"{peer} {follower!r}{' paused' if follower.paused() else ''}" for peer, follower in progress.items()]

    def _lease(self, words: list[str]) -> list[str]:
        return [f"{words[0]} may {'' if self._raft(words[0]).lease_valid(self.now) else 'not '}read alone"]

    def _show_log(self, words: list[str]) -> list[str]:
        core = self._raft(words[0])
        entries = [core._log.entry(index) for index in range(core.first_index, core.last_index + 1)]
        voters = ",".join(sorted(core.configuration.voters()))
        return [f"{_entries(entries) or 'empty'}; voters {voters} since {core.configuration_index}"]


def described(message: Message) -> str:
    """One line, without who sends it to whom twice."""
    way = f"{message.sender}->{message.target} term {message.term}"
    match message:
        case AppendEntries():
            text = f"append after {message.prev_index}@{message.prev_term} commit {message.commit} {_entries(message.entries)}"
        case AppendReply(success=True):
            text = f"has up to {message.index}"
        case AppendReply():
            text = f"refuses {message.index}, hint {message.hint_index}@{message.hint_term}"
        case Heartbeat():
            text = f"heartbeat {message.sequence} commit {message.commit}"
        case HeartbeatReply():
            text = f"heard {message.sequence}"
        case RequestVote():
            kind = "would you vote" if message.pre_vote else "vote"
            text = f"{kind} for {message.last_index}@{message.last_term}{' (sent)' if message.transfer else ''}"
        case VoteReply():
            text = f"{'would ' if message.pre_vote else ''}{'vote' if message.granted else 'not vote'}"
        case InstallSnapshot():
            text = f"snapshot at {message.meta.index}@{message.meta.term}"
        case TimeoutNow():
            text = "campaign now"
        case _:
            text = type(message).__name__
    return f"{way}: {text}".rstrip()


def _hard_state(state: HardState | None) -> str:
    return "" if state is None else f"term {state.term} vote {state.vote or 'none'} "


def _entries(entries: Sequence[Entry]) -> str:
    return " ".join(_entry(entry) for entry in entries)


def _entry(entry: Entry) -> str:
    place = f"{entry.index}@{entry.term}"
    if entry.kind is EntryKind.NOOP:
        return f"{place}(noop)"
    if entry.kind is EntryKind.CONFIGURATION:
        configuration = decode_configuration(entry.data)
        names = [server.id if server.voter else f"({server.id})" for server in configuration.servers]
        return f"{place}({' '.join(names)})"
    return f"{place}({entry.data.decode()})"

"""Recovery from the loss of a majority: which of the surviving servers knows most, what is lost, and how the others go on.

Only the best survivor's log gets a new last entry, the configuration of the survivors (`storage.forced`). The others need not be
touched: with the old configuration they can elect nobody but it, whose log is ahead of theirs, and learn the new one from it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from discovery.raft.messages import Configuration, Server
from discovery.storage.errors import StorageError
from discovery.storage.files import fsync_dir
from discovery.storage.forced import force_configuration, last_entry, latest_configuration
from discovery.storage.log import OWNER, LogStore
from discovery.storage.recovery import recover
from discovery.storage.snapshots import SnapshotStore

from .server import LOG_FILE, SNAPSHOTS

COPY_PREFIX: Final = "before-recovery-"
RAFT_DIRECTORY: Final = "raft"


class RecoveryRefused(Exception):
    """Nothing was changed; the text says why and what to do instead."""


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """What the data directory of a stopped server holds."""

    directory: Path
    """Where its log lies."""
    id: str
    term: int
    """The highest it has seen."""
    last_term: int
    last_index: int
    snapshot_term: int
    snapshot_index: int
    first_index: int
    terms: tuple[int, ...]
    """Of the entries of its log, from `first_index` on."""
    configuration: Configuration

    @property
    def order(self) -> tuple[int, int]:
        """By which Raft decides whose log is ahead."""
        return self.last_term, self.last_index

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        if 0 <= position < len(self.terms):
            return self.terms[position]
        return self.snapshot_term if index == self.snapshot_index else None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to happen."""

    best: Survivor
    """Whose log is kept."""
    survivors: tuple[Survivor, ...]
    former: Configuration
    configuration: Configuration
    lost: tuple[Server, ...]
    """Voters that do not survive. What only they have acknowledged is lost."""
    dropped: tuple[tuple[str, int], ...]
    """(server id, number of its log entries that are not in the best log and will be dropped)."""


# --- looking ---------------------------------------------------------------------------------------------------------


def survey(data_directory: Path) -> Survivor:
    """Read the data directory of a stopped server, or its `raft` folder. Raises RecoveryRefused."""
    directory = data_directory / RAFT_DIRECTORY if (data_directory / RAFT_DIRECTORY / LOG_FILE).exists() else data_directory
    if not (directory / LOG_FILE).exists():
        raise RecoveryRefused(f"{data_directory}: there is no {RAFT_DIRECTORY}/{LOG_FILE}, so this is no server's data directory")
    try:
        log = LogStore(directory / LOG_FILE)
        try:
            return _describe(directory, log)
        finally:
            log.close()
    except (StorageError, OSError) as error:
        raise RecoveryRefused(str(error)) from error


def _describe(directory: Path, log: LogStore) -> Survivor:
    owner = log.get_meta(OWNER)
    recovered = recover(log, SnapshotStore(directory / SNAPSHOTS))
    configuration = latest_configuration(recovered)
    if owner is None or not configuration.servers:
        raise RecoveryRefused(f"{directory}: this server was never part of a cluster")
    last_term, last_index = last_entry(recovered)
    snapshot = recovered.snapshot
    return Survivor(
        directory=directory,
        id=owner.decode(),
        term=recovered.hard_state.term,
        last_term=last_term,
        last_index=last_index,
        snapshot_term=snapshot.term if snapshot is not None else 0,
        snapshot_index=snapshot.index if snapshot is not None else 0,
        first_index=recovered.entries[0].index if recovered.entries else last_index + 1,
        terms=tuple(entry.term for entry in recovered.entries),
        configuration=configuration,
    )


# --- planning --------------------------------------------------------------------------------------------------------


def plan(
    survivors: Sequence[Survivor],
    *,
    elsewhere: Sequence[str] = (),
    addresses: Mapping[str, str] | None = None,
    answers: Callable[[Server], bool],
) -> Plan:
    """How to go on with these survivors. Raises RecoveryRefused, above all while a quorum could exist.

    `elsewhere` are ids of servers that survive on other machines with nothing newer than these; `addresses` are new ones by
    id; `answers` tries whether a server that counts as lost is alive.
    """
    best = _best(survivors)
    former = best.configuration
    ids = {survivor.id for survivor in survivors} | set(elsewhere)
    for server_id in ids:
        if former.get(server_id) is None:
            raise RecoveryRefused(f"server {server_id} is not in the configuration of {best.id}, which has the newest log")
    lost = tuple(server for server in former.servers if server.id not in ids)
    _refuse_quorum(former, ids, [server for server in lost if server.voter and answers(server)])
    moved = addresses or {}
    remaining = tuple(
        # The best one is the only one that knows of this configuration, so it has to be able to stand for election.
        Server(server.id, moved.get(server.id, server.address), voter=server.voter or server.id == best.id)
        for server in former.servers
        if server.id in ids
    )
    return Plan(
        best=best,
        survivors=tuple(survivors),
        former=former,
        configuration=Configuration(remaining),
        lost=tuple(server for server in lost if server.voter),
        dropped=tuple((other.id, count) for other in survivors if (count := _entries_beyond(other, best))),
    )


def _best(survivors: Sequence[Survivor]) -> Survivor:
    ids = [survivor.id for survivor in survivors]
    if len(set(ids)) != len(ids):
        raise RecoveryRefused(f"two of the directories belong to the same server: {', '.join(sorted(ids))}")
    best = max(survivors, key=lambda survivor: survivor.order)
    for survivor in survivors:
        known = best.term_at(survivor.snapshot_index)
        if survivor.snapshot_index > best.last_index or (known is not None and known != survivor.snapshot_term):
            raise RecoveryRefused(
                f"server {survivor.id} has applied up to {survivor.snapshot_index}, which is not in the newest log ({best.id}): "
                "one of the two directories is damaged or of another cluster"
            )
    return best


def _refuse_quorum(former: Configuration, survivors: set[str], answering: Sequence[Server]) -> None:
    voters = former.voters()
    needed = len(voters) // 2 + 1
    present = len(voters & survivors)
    if present >= needed:
        raise RecoveryRefused(f"{present} of {len(voters)} voters survive, which is a quorum: start them, nothing is lost")
    if present + len(answering) >= needed:
        alive = ", ".join(f"{server.id} ({server.address})" for server in answering)
        raise RecoveryRefused(
            f"{present} of {len(voters)} voters survive here, and these answer: {alive}. Together they are a quorum: "
            "start the stopped ones, nothing is lost"
        )


def _entries_beyond(other: Survivor, best: Survivor) -> int:
    """How many entries at the end of a log are not in the best one."""
    common = other.last_index
    while common >= other.first_index and best.term_at(common) != other.term_at(common):
        common -= 1
    return other.last_index - common


# --- doing -----------------------------------------------------------------------------------------------------------


def carry_out(planned: Plan, now: datetime) -> Path:
    """Write the new configuration; returns where the copy of the log as it was is. Raises RecoveryRefused.

    If the log has changed since it was surveyed, nothing is done.
    """
    best = planned.best
    copy = best.directory / f"{COPY_PREFIX}{now:%Y%m%dT%H%M%SZ}"
    try:
        log = LogStore(best.directory / LOG_FILE)
        try:
            recovered = recover(log, SnapshotStore(best.directory / SNAPSHOTS))
            if last_entry(recovered) != best.order or recovered.hard_state.term != best.term:
                raise RecoveryRefused(f"{best.directory} has changed meanwhile; look again")
            log.copy_to(copy)
            force_configuration(log, recovered, planned.configuration)
        finally:
            log.close()
    except (StorageError, OSError) as error:
        raise RecoveryRefused(str(error)) from error
    fsync_dir(best.directory)
    return copy

"""What the core wants done, and in which order it must happen.

* `messages` leave at once. A leader's appends are among them: it writes while its followers write, and counts itself only
  when its own write is reported (dissertation, 10.2.1).
* `messages_after_persist` are promises (votes, acknowledgements, the vote requests of a candidate): they leave after the
  Ready's own write and all earlier ones are durable.
* Writes become durable in the order of their `write_id`.
* `committed` entries are durable here already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .messages import Entry, HardState, InstallSnapshot, Message, SnapshotMeta


@dataclass(slots=True, kw_only=True)
class Ready:
    """Each part is to be carried out once."""

    write_id: int | None = None
    """To be given to `Raft.persisted` when everything to write here is durable; None when nothing waits for the disk.
    With an id but nothing to write (`must_sync` false) only the writes before it are waited for."""
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    """To be stored in one atomic write with `hard_state`, replacing everything from the first one's index on."""
    messages: list[Message] = field(default_factory=list)
    messages_after_persist: list[Message] = field(default_factory=list)
    committed: tuple[Entry, ...] = ()
    """To be applied in order, then reported by `Raft.applied`."""
    reads: list[tuple[int, int]] = field(default_factory=list)
    """(token, index): the read may be answered from a state that has applied `index`."""
    reads_failed: list[int] = field(default_factory=list)
    """Tokens of reads that a lost leadership leaves unanswered."""
    snapshots_to_send: list[InstallSnapshot] = field(default_factory=list)
    """Headers of snapshots to stream to their targets; each is answered by `Raft.report_snapshot`."""
    install_snapshot: SnapshotMeta | None = None
    """Restore this snapshot, restart the stored log after it, then call `Raft.snapshot_installed`. It covers every entry that
    was handed out and is not applied yet: those must not be applied on top of it."""

    @property
    def must_sync(self) -> bool:
        return self.hard_state is not None or bool(self.entries)

    @property
    def is_empty(self) -> bool:
        return (
            self.write_id is None
            and not self.messages
            and not self.committed
            and not self.reads
            and not self.reads_failed
            and not self.snapshots_to_send
            and self.install_snapshot is None
        )

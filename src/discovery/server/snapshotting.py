"""Snapshots of the state: taken so that the log can be cut, sent to followers that lag behind it, installed when received.

Capturing the state is a shallow copy on the event loop; encoding and writing it run in a thread while the loop goes on.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, Final

import msgspec

from discovery.model.errors import RequestFailed
from discovery.raft.messages import InstallSnapshot, SnapshotMeta, SnapshotProgress
from discovery.state.store import StateStore
from discovery.storage.errors import CorruptSnapshot
from discovery.storage.snapshots import Receiver, SnapshotStore
from discovery.telemetry import Metrics
from discovery.transport.raft_peers import RaftPeers
from discovery.transport.raft_snapshots import SnapshotRefused

from .addresses import ServerAddresses
from .replica import Replica

SEND_TIMEOUT: Final = 300.0
_REST: Final = 0.001
"""Seconds, about what a chunk takes to encode."""


class SnapshotPolicy(msgspec.Struct, frozen=True):
    """When to take one: after `threshold` commands, looked at every `interval` seconds; `trailing` commands stay in the log."""

    threshold: int = 16384
    interval: float = 30.0
    trailing: int = 10000


class Snapshotting:
    """Owns the snapshot files of this server."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: StateStore,
        files: SnapshotStore,
        peers: RaftPeers,
        addresses: ServerAddresses,
        policy: SnapshotPolicy,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._store = store
        self._files = files
        self._peers = peers
        self._addresses = addresses
        self.policy = policy
        self._metrics = metrics
        self._log = log
        self._taken_at = store.index
        self._taking = asyncio.Lock()
        self._installing = False
        self._broken_off: Receiver | None = None
        self._log_large = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        replica.hooks.send_snapshot = lambda header: self._spawn(self._send(header))
        replica.hooks.install_snapshot = self._begin_install
        replica.hooks.log_large = self._log_large.set

    def start(self) -> None:
        self._spawn(self._take_when_due())

    async def stop(self) -> None:
        """End everything under way; half a file is removed by the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._broken_off is not None:
            self._broken_off.abort()
            self._broken_off = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _take_when_due(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._log_large.wait(), self.policy.interval)
            except TimeoutError:
                pass
            if self._log_large.is_set() or self._store.index - self._taken_at >= self.policy.threshold:
                await self.take()
            self._log_large.clear()

    async def take(self) -> None:
        """Take a snapshot and cut the log. A failure is logged: the older snapshots and the log are as they were."""
        async with self._taking:
            if self._installing or self._replica.applied_index == 0:
                return
            try:
                await self._take()
            except OSError as error:
                self._log.error("failed to take a snapshot, the log is kept: %s", error)

    async def _take(self) -> None:
        clock = time.monotonic
        started = clock()
        meta, index, view = self._replica.describe_snapshot(), self._store.index, self._store.capture()
        captured = clock()
        finished = await asyncio.to_thread(self._files.save, meta, _unhurried(view.chunks()))
        self._metrics.raft_fsm_snapshot.observe(captured - started)
        self._metrics.fsm_persist.observe(clock() - captured)
        self._replica.compact(finished, self.policy.trailing)
        self._taken_at = index
        self._metrics.raft_snapshot_take.observe(clock() - started)
        self._log.info(
            "snapshot taken: index=%d bytes=%d seconds=%.3f capture=%.3f",
            *(finished.index, finished.size, clock() - started, captured - started),
        )

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _send(self, header: InstallSnapshot) -> None:
        started = time.monotonic()
        try:
            meta = msgspec.msgpack.encode(header)
            address = self._addresses.of(header.target)
            await self._peers.send_snapshot(address, meta, self._files.read_chunks(header.meta), timeout=SEND_TIMEOUT)
        except (FileNotFoundError, CorruptSnapshot) as error:
            self._log.error("taking another snapshot, the one to be sent is lost: index=%d error=%s", header.meta.index, error)
            await self.take()
            self._replica.snapshot_sent(header.target, False)
        except (OSError, SnapshotRefused) as error:
            self._log.warning("failed to send a snapshot: server=%s error=%s", header.target, error or type(error).__name__)
            self._replica.snapshot_sent(header.target, False)
        else:
            self._metrics.raft_replication_install_snapshot.observe(time.monotonic() - started)
            self._log.info("snapshot sent: server=%s index=%d", header.target, header.meta.index)
            self._replica.snapshot_sent(header.target, True)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, sender: str, meta: bytes) -> "_Intake":
        """A server wants to send a snapshot; see `transport.raft_snapshots.ReceiveSnapshot`."""
        try:
            header = msgspec.msgpack.decode(meta, type=InstallSnapshot)
        except msgspec.MsgspecError as error:
            raise SnapshotRefused(f"its description can't be read: {error}") from None
        if header.target != self._replica.server_id or header.term < self._replica.term:
            raise SnapshotRefused(f"it is for {header.target} in term {header.term}")
        if self._installing:
            raise SnapshotRefused("another one is being installed")
        if header.meta.index <= self._replica.applied_index:
            # The leader learns from Raft's answer how far we are.
            self._replica.receive([header])
            raise SnapshotRefused(f"everything up to {self._replica.applied_index} is applied already")
        self._log.info("receiving a snapshot: from=%s index=%d bytes=%d", sender, header.meta.index, header.meta.size)
        return _Intake(self, self._replica, self._receiver_of(header.meta), header)

    def _receiver_of(self, meta: SnapshotMeta) -> Receiver:
        """The one that was broken off if it was of the very same snapshot."""
        kept, self._broken_off = self._broken_off, None
        if kept is not None and kept.meta == meta:
            self._log.info("the snapshot goes on where it broke off: index=%d offset=%d", meta.index, kept.offset)
            return kept
        if kept is not None:
            kept.abort()
        return self._files.receive(meta)

    def keep(self, receiver: Receiver) -> None:
        """The connection was lost: its sender may come again."""
        if self._broken_off is not None:
            self._broken_off.abort()
        self._broken_off = receiver

    def _begin_install(self, meta: SnapshotMeta) -> None:
        """From here on the state and what Raft counts as applied differ: nothing may be captured until the end."""
        self._installing = True
        self._spawn(self._install(meta))

    async def _install(self, meta: SnapshotMeta) -> None:
        """Replace the state by the received snapshot, then let the log begin after it."""
        started = time.monotonic()
        try:
            self._store.adopt(await asyncio.to_thread(self._store.read, self._files.read_chunks(meta)))
        except Exception as error:
            self._log.critical("a verified snapshot can't be installed: index=%d error=%s", meta.index, error)
            self._replica.hooks.failed(error)
            return
        self._taken_at = self._store.index
        self._metrics.raft_fsm_restore.observe(time.monotonic() - started)

        def restarted() -> None:
            self._installing = False
            self._replica.snapshot_installed(meta)
            self._log.info("snapshot installed: index=%d", meta.index)

        self._replica.restart_log_after(meta, restarted)

    def chunks_for_archive(self) -> tuple[SnapshotMeta, int, Iterator[bytes]]:
        """What is needed to write the present state elsewhere: description, state index, bytes. Raises `RequestFailed`."""
        if self._installing:
            raise RequestFailed("a snapshot is being installed")
        return self._replica.describe_snapshot(), self._store.index, self._store.capture().chunks()


def _unhurried(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """With a rest after each: nobody waits for a snapshot, but all servers take theirs at about the same time."""
    for chunk in chunks:
        yield chunk
        time.sleep(_REST)


class _Intake:
    """A snapshot coming in; see `transport.raft_snapshots.SnapshotSink`."""

    def __init__(self, owner: Snapshotting, replica: Replica, receiver: Receiver, header: InstallSnapshot) -> None:
        self._owner = owner
        self._replica = replica
        self._receiver = receiver
        self._header = header
        self._busy = False

    @property
    def offset(self) -> int:
        return self._receiver.offset

    async def write(self, data: bytes) -> None:
        self._busy = True
        await asyncio.to_thread(self._receiver.write, self._receiver.offset, data)
        self._busy = False
        header = self._header
        self._replica.receive([SnapshotProgress(sender=header.sender, target=header.target, term=header.term)])

    async def finish(self) -> None:
        self._busy = True
        await asyncio.to_thread(self._receiver.finish)
        self._replica.receive([self._header])

    def pause(self) -> None:
        """What a thread is still at can't be gone on with."""
        if self._busy:
            self._receiver.abort()
        else:
            self._owner.keep(self._receiver)

    def abort(self) -> None:
        self._receiver.abort()

"""Snapshots of the state: taken so that the log can be cut, sent to followers that lag behind it, installed when received.

Capturing the state is a shallow copy on the event loop; encoding and writing it run in a thread while the loop goes on.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from discovery.raft.messages import InstallSnapshot, SnapshotMeta, SnapshotProgress
from discovery.state.store import StateStore
from discovery.storage.errors import StorageError
from discovery.storage.snapshots import Receiver, SnapshotStore
from discovery.telemetry import Metrics
from discovery.transport.raft_peers import RaftPeers
from discovery.transport.raft_snapshots import SnapshotRefused

from .replica import Replica

SEND_TIMEOUT: Final = 300.0


class SnapshotPolicy(msgspec.Struct, frozen=True):
    """When to take one: after `threshold` commands, looked at every `interval` seconds; `trailing` log entries are kept."""

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
        policy: SnapshotPolicy,
        metrics: Metrics,
        log: logging.Logger,
    ) -> None:
        self._replica = replica
        self._store = store
        self._files = files
        self._peers = peers
        self.policy = policy
        self._metrics = metrics
        self._log = log
        self._taken_at = store.index
        self._tasks: set[asyncio.Task[None]] = set()
        replica.hooks.send_snapshot = lambda header: self._spawn(self._send(header))
        replica.hooks.install_snapshot = lambda meta: self._spawn(self._install(meta))

    def start(self) -> None:
        self._spawn(self._take_when_due())

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- taking ------------------------------------------------------------------------------------------------------

    async def _take_when_due(self) -> None:
        while True:
            await asyncio.sleep(self.policy.interval)
            if self._store.index - self._taken_at >= self.policy.threshold:
                try:
                    await self._take()
                except OSError as error:
                    self._log.error("failed to take a snapshot, the log is kept: %s", error)

    async def _take(self) -> None:
        started = asyncio.get_running_loop().time()
        meta, index, view = self._replica.describe_snapshot(), self._store.index, self._store.capture()
        finished = await asyncio.to_thread(self._files.save, meta, view.chunks())
        self._replica.compact(finished, self.policy.trailing)
        self._taken_at = index
        took = asyncio.get_running_loop().time() - started
        self._log.info("snapshot taken: index=%d bytes=%d seconds=%.3f", finished.index, finished.size, took)

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _send(self, header: InstallSnapshot) -> None:
        server = self._replica.configuration.get(header.target)
        succeeded = False
        if server is not None:
            try:
                meta = msgspec.msgpack.encode(header)
                await self._peers.send_snapshot(server.address, meta, self._files.read_chunks(header.meta), timeout=SEND_TIMEOUT)
                succeeded = True
                self._log.info("snapshot sent: server=%s index=%d", server.id, header.meta.index)
            except (OSError, SnapshotRefused, StorageError) as error:
                self._log.warning("failed to send a snapshot: server=%s error=%s", server.id, error)
        self._replica.snapshot_sent(header.target, succeeded)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, sender: str, meta: bytes) -> "_Intake":
        """A server wants to send a snapshot; see `transport.raft_snapshots.ReceiveSnapshot`."""
        try:
            header = msgspec.msgpack.decode(meta, type=InstallSnapshot)
        except msgspec.MsgspecError as error:
            raise SnapshotRefused(f"its description can't be read: {error}") from None
        self._log.info("receiving a snapshot: from=%s index=%d bytes=%d", sender, header.meta.index, header.meta.size)
        return _Intake(self._replica, self._files.receive(header.meta), header)

    async def _install(self, meta: SnapshotMeta) -> None:
        """Replace the state by the received snapshot, then let the log begin after it."""
        self._store.restore(self._files.read_chunks(meta))
        self._taken_at = self._store.index
        self._replica.restart_log_after(meta, lambda: self._replica.snapshot_installed(meta))
        self._log.info("snapshot installed: index=%d", meta.index)


class _Intake:
    """A snapshot coming in; see `transport.raft_snapshots.SnapshotSink`."""

    def __init__(self, replica: Replica, receiver: Receiver, header: InstallSnapshot) -> None:
        self._replica = replica
        self._receiver = receiver
        self._header = header

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._receiver.write, self._receiver.offset, data)
        header = self._header
        self._replica.receive([SnapshotProgress(sender=header.sender, target=header.target, term=header.term)])

    async def finish(self) -> None:
        await asyncio.to_thread(self._receiver.finish)
        self._replica.receive([self._header])

    def abort(self) -> None:
        self._receiver.abort()

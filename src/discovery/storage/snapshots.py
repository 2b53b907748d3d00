"""Snapshot files: `<index>-<term>.snapshot`, the state followed by a trailer that describes it.

    state bytes | SnapshotMeta as msgpack | CRC-32 and length of that (4 bytes each, big-endian) | 8 bytes of magic

A file appears under its name only once it is whole and durable; until then it is a temporary one, which a crash leaves
behind and the next start removes.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from discovery.raft.messages import SnapshotMeta

from .errors import CorruptSnapshot
from .files import fsync_dir, make_directory

log = logging.getLogger(__name__)

CHUNK_SIZE = 256 * 1024
MAX_META_SIZE = 1 << 20
SUFFIX = ".snapshot"
TEMPORARY = ".partial"
TRAILER = struct.Struct(">II8s")
MAGIC = b"dscsnap1"


class SnapshotStore:
    """The snapshots of one server, of which the newest `retain` are kept. Methods may run in worker threads."""

    def __init__(self, directory: Path, retain: int = 2) -> None:
        self.directory = directory
        self._retain = retain
        self._numbers = itertools.count()
        make_directory(directory)
        for leftover in directory.glob("*" + TEMPORARY):
            leftover.unlink()

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> SnapshotMeta:
        """Writes the state at `meta.index` durably; returns the meta data with size and checksum.

        Raises OSError; older snapshots are untouched then.
        """
        file = _SnapshotFile(self._temporary(meta))
        try:
            for chunk in chunks:
                file.write(chunk)
            finished = msgspec.structs.replace(meta, size=file.size, checksum=file.checksum())
            self._publish(file, finished)
        except BaseException:
            file.discard()
            raise
        return finished

    def receive(self, meta: SnapshotMeta) -> Receiver:
        """Starts taking in a snapshot that another server announced as `meta`."""
        return Receiver(self, meta, _SnapshotFile(self._temporary(meta)))

    def list(self) -> list[SnapshotMeta]:
        """What is stored, newest first, without reading the states. Damaged files are left out and logged."""
        metas = []
        for path in sorted(self.directory.glob("*" + SUFFIX), reverse=True):
            try:
                metas.append(_read_meta(path))
            except CorruptSnapshot as error:
                log.error("%s", error)
        return metas

    def newest(self) -> SnapshotMeta | None:
        """The newest snapshot whose whole content is as it was written; damaged ones are passed over and logged."""
        for meta in self.list():
            try:
                for _ in self.read_chunks(meta):
                    pass
            except CorruptSnapshot as error:
                log.error("%s", error)
            else:
                return meta
        return None

    def read_chunks(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The state in pieces; once opened it may be read to its end even if the snapshot is retired meanwhile.

        Raises FileNotFoundError, and after the last piece CorruptSnapshot if size or checksum turn out wrong.
        """
        path = self._path(meta)
        digest, left = hashlib.sha256(), meta.size
        with path.open("rb") as file:
            while left and (chunk := file.read(min(CHUNK_SIZE, left))):
                digest.update(chunk)
                left -= len(chunk)
                yield chunk
        if left or digest.hexdigest() != meta.checksum:
            raise CorruptSnapshot(f"{path}: the content is not what was written")

    def _path(self, meta: SnapshotMeta) -> Path:
        return self.directory / f"{meta.index:020d}-{meta.term:020d}{SUFFIX}"

    def _temporary(self, meta: SnapshotMeta) -> Path:
        return self.directory / f"{meta.index:020d}-{meta.term:020d}-{next(self._numbers)}{TEMPORARY}"

    def _publish(self, file: _SnapshotFile, meta: SnapshotMeta) -> None:
        file.seal(meta)
        file.path.rename(self._path(meta))
        fsync_dir(self.directory)
        for retired in sorted(self.directory.glob("*" + SUFFIX), reverse=True)[self._retain :]:
            retired.unlink(missing_ok=True)


class Receiver:
    """A snapshot on its way in. Exactly one of `finish` and `abort` ends it."""

    def __init__(self, store: SnapshotStore, meta: SnapshotMeta, file: _SnapshotFile) -> None:
        self.meta = meta
        self._store = store
        self._file = file

    @property
    def offset(self) -> int:
        """Where the next piece must begin."""
        return self._file.size

    def write(self, offset: int, data: bytes) -> None:
        """Raises CorruptSnapshot when a piece is missing, repeated or more than was announced; OSError."""
        if offset != self._file.size or offset + len(data) > self.meta.size:
            raise CorruptSnapshot(f"{len(data)} bytes at {offset}: expected at {self._file.size} of {self.meta.size}")
        self._file.write(data)

    def finish(self) -> SnapshotMeta:
        """Verifies the whole and makes it durable. Raises CorruptSnapshot, OSError; the piece-work is gone then."""
        try:
            if self._file.size != self.meta.size or self._file.checksum() != self.meta.checksum:
                raise CorruptSnapshot(f"snapshot {self.meta.index} arrived damaged: {self._file.size} of {self.meta.size} bytes")
            self._store._publish(self._file, self.meta)
        except BaseException:
            self.abort()
            raise
        return self.meta

    def abort(self) -> None:
        self._file.discard()


class _SnapshotFile:
    """A file being written under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def checksum(self) -> str:
        return self._digest.hexdigest()

    def seal(self, meta: SnapshotMeta) -> None:
        encoded = msgspec.msgpack.encode(meta)
        self._file.write(encoded + TRAILER.pack(zlib.crc32(encoded), len(encoded), MAGIC))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def _read_meta(path: Path) -> SnapshotMeta:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        total = file.tell()
        file.seek(max(total - TRAILER.size, 0))
        trailer = file.read()
        crc, length, magic = TRAILER.unpack(trailer) if len(trailer) == TRAILER.size else (0, 0, b"")
        state_size = total - TRAILER.size - length
        if magic != MAGIC or length > MAX_META_SIZE or state_size < 0:
            raise CorruptSnapshot(f"{path}: the trailer is damaged")
        file.seek(state_size)
        encoded = file.read(length)
    if zlib.crc32(encoded) != crc:
        raise CorruptSnapshot(f"{path}: the description is damaged")
    meta = msgspec.msgpack.decode(encoded, type=SnapshotMeta)
    if meta.size != state_size:
        raise CorruptSnapshot(f"{path}: {state_size} bytes of state, {meta.size} expected")
    return meta

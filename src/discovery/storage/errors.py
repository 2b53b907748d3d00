"""What may go wrong with a data directory."""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """Base of all errors here."""


class CorruptLog(StorageError):
    """The stored log was damaged after it was written. Nothing is repaired silently: wipe the directory and rejoin."""

    def __init__(self, path: Path, index: int | None, reason: str) -> None:
        where = "" if index is None else f" at index {index}"
        super().__init__(f"{path} is damaged{where}: {reason}")
        self.path = path
        self.index = index


class CorruptSnapshot(StorageError):
    """A snapshot, stored or received, is not what its description says."""


class DataDirectoryLocked(StorageError):
    """Another process uses the data directory."""


class DataDirectoryOfAnother(StorageError):
    """The log was written by another server: its votes and acknowledgements are not ours to continue."""

    def __init__(self, directory: Path, owner: str, server_id: str) -> None:
        super().__init__(f"{directory} belongs to server {owner}, not to {server_id}")


class StorageFailed(StorageError):
    """A write failed. What is on disk is unknown, so the server must stop and never retry."""

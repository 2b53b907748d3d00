"""Registrations on disk, so that they outlive the process: one JSON file each, named after the MD5 of its id.

Layout and field names are Consul's, so a data directory may change hands; the folders `alive` and `draining` are ours. Files are
replaced as a whole; they are not fsynced, because a crash of the process loses nothing then and a write per TTL heartbeat must
be cheap. A file that a power failure has torn is set aside, named in the log, and never keeps the agent from starting.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from discovery.model.definitions import CheckSpec
from discovery.model.duration import Duration
from discovery.model.naming import always, nothing
from discovery.model.records import HealthCheck, NodeService, Record
from discovery.telemetry import fields

_log = logging.getLogger(__name__)

_SET_ASIDE: Final = ".corrupt"
_UNFINISHED: Final = ".tmp"


class SavedService(Record, frozen=True, kw_only=True):
    token: str = always(str)
    service: NodeService = always(NodeService)
    source: str = always(str)
    locally_registered_as_sidecar: bool = False


class SavedCheck(Record, frozen=True, kw_only=True):
    check: HealthCheck = always(HealthCheck)
    chk_type: CheckSpec | None = always(nothing)
    token: str = always(str)
    source: str = always(str)


class SavedState(Record, frozen=True, kw_only=True):
    """The last result of a check; `expires` is in seconds since the epoch, and 0 for those that are no TTL checks."""

    check_id: str = always(str)
    output: str = always(str)
    status: str = always(str)
    expires: int = always(int)


class SavedLife(Record, frozen=True, kw_only=True):
    """When the agent was alive, in seconds since the epoch, and since which start of the machine."""

    at: int = always(int)
    boot: str = always(str)


class SavedDrain(Record, frozen=True, kw_only=True):
    """A service that is to go; `until` is in seconds since the epoch."""

    service_id: str = always(str)
    until: float = always(float)


T = TypeVar("T", SavedService, SavedCheck, SavedState, SavedLife, SavedDrain)


class Store:
    """The registrations below a data directory; without one (`-dev`) nothing is kept and nothing is found."""

    def __init__(self, data_dir: Path | None) -> None:
        """Makes the folders; raises `OSError`."""
        self.services: Folder[SavedService] = Folder(data_dir and data_dir / "services", SavedService)
        self.checks: Folder[SavedCheck] = Folder(data_dir and data_dir / "checks", SavedCheck)
        self.states: Folder[SavedState] = Folder(data_dir and data_dir / "checks" / "state", SavedState)
        self.life: Folder[SavedLife] = Folder(data_dir and data_dir / "checks" / "alive", SavedLife)
        self.drains: Folder[SavedDrain] = Folder(data_dir and data_dir / "services" / "draining", SavedDrain)


class Folder(Generic[T]):
    """Records of one kind, each in a file of its own."""

    def __init__(self, path: Path | None, kind: type[T]) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder(enc_hook=_plain_duration)
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind, dec_hook=_read_duration)
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, key: str, record: T) -> None:
        """Raises `OSError`."""
        if self._path is None:
            return
        path = self._path / _file_name(key)
        unfinished = path.with_suffix(_UNFINISHED)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(self._encoder.encode(record))
        unfinished.replace(path)

    def remove(self, key: str) -> None:
        if self._path is not None:
            (self._path / _file_name(key)).unlink(missing_ok=True)

    def load(self, key: str) -> T | None:
        if self._path is None:
            return None
        path = self._path / _file_name(key)
        return self._read(path) if path.exists() else None

    def load_all(self) -> Iterator[T]:
        """Everything that can be read, in a fixed order."""
        if self._path is None:
            return
        for path in sorted(self._path.iterdir()):
            if path.is_file() and not path.suffix and (record := self._read(path)) is not None:
                yield record

    def _read(self, path: Path) -> T | None:
        try:
            return self._decoder.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError) as error:
            _log.error("Set aside a persisted file that can't be read", extra=fields(file=path, error=error))
            path.replace(path.with_suffix(_SET_ASIDE))
            return None


def _file_name(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _plain_duration(value: Any) -> int:
    if isinstance(value, Duration):
        return int(value)
    raise TypeError(f"{type(value).__name__} can't be written")


def _read_duration(kind: type, value: Any) -> Duration:
    if kind is Duration and isinstance(value, int):
        return Duration(value)
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"{value!r} is no {kind.__name__}")

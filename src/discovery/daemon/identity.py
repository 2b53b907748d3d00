"""Who this agent is: its node id, kept in the data directory, and the lock that keeps a second agent out of it."""

import fcntl
import os
import re
import uuid
from pathlib import Path
from typing import IO

_MACHINE_ID = Path("/etc/machine-id")
_HOST_NAMESPACE = uuid.UUID("8f6e1c1e-3a39-4d55-9c3e-6f0d1c0e7b52")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class IdentityError(Exception):
    """The agent can't start as who it claims to be; the text tells the operator why and what to do."""


class DataDirectory:
    """The agent's directory, held exclusively while the agent runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Create it if need be and lock it; raises `IdentityError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self.path / "agent.lock").open("w")
        except OSError as error:
            raise IdentityError(f"data_dir {self.path} can't be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IdentityError(
                f"data_dir {self.path} is in use by another running agent; stop it or give this one a data_dir of its own"
            ) from None

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def node_id(self, configured: str, *, of_host: bool = False) -> str:
        """The id kept here, or `configured`, or a new one: the same for all agents of this machine if `of_host`, else by chance.

        An id of another node is refused.
        """
        configured = configured.lower()
        if configured:
            _require_uuid(configured, "specified NodeID is invalid")
        file = self.path / "node-id"
        if file.exists():
            kept = file.read_text().strip().lower()
            _require_uuid(kept, f"{file} is damaged")
            if configured and kept != configured:
                raise IdentityError(
                    f"data_dir {self.path} belongs to node {kept}, not to the configured node_id {configured}; "
                    "use the data_dir of this node or remove node_id from the configuration"
                )
            return kept
        node_id = configured or (_host_id() if of_host else "") or str(uuid.uuid4())
        _write_private(file, node_id)
        return node_id


def _host_id() -> str:
    """Derived from the machine's id, which must not be told to the network as it is; empty if the machine has none."""
    try:
        machine_id = _MACHINE_ID.read_text().strip()
    except OSError:
        return ""
    return str(uuid.uuid5(_HOST_NAMESPACE, machine_id)) if machine_id else ""


def volatile_node_id(configured: str) -> str:
    """For an agent without a data directory."""
    if configured:
        _require_uuid(configured.lower(), "specified NodeID is invalid")
    return configured.lower() or str(uuid.uuid4())


def _require_uuid(text: str, what: str) -> None:
    if len(text) != 36:
        raise IdentityError(f"failed to setup node ID: {what}: uuid string is wrong length")
    if not _UUID.fullmatch(text):
        raise IdentityError(f"failed to setup node ID: {what}: invalid uuid")


def _write_private(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())

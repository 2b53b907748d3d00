"""`snapshot`: the whole state of the servers in one file."""

import os
import secrets
from pathlib import Path
from typing import Final

from discovery.model.errors import RequestFailed
from discovery.wire.archive import ArchiveMeta, unpack

from .action import Action, Group
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed, file_error
from .flags import Parsed
from .output import FORMAT, labelled, show
from .values import exactly, file_content

_MISSING: Final = "Missing FILE argument"
_GAP: Final = 6


def _save(given: Parsed) -> None:
    exactly(1, given.rest, _MISSING)
    path = Path(given.rest[0])
    with failing("Error saving snapshot"):
        archive = client_of(given).get("/v1/snapshot").body
    meta = _verified(archive)
    _replace(path, archive)
    show(given, f"Saved and verified snapshot to index {meta.index}", {"File": str(path), "Index": meta.index})


def _replace(path: Path, archive: bytes) -> None:
    """An earlier snapshot of that name stays whole until the new one is on disk."""
    temporary = path.with_name(f"{path.name}.unverified.tmp{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(archive)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Failed(f"Error writing unverified snapshot file: {file_error('open', error)}") from None


def _inspect(given: Parsed) -> None:
    exactly(1, given.rest, _MISSING)
    meta = _verified(file_content(given.rest[0], "Error opening snapshot file"))
    shown = {"ID": meta.id, "Size": meta.size, "Index": meta.index, "Term": meta.term, "Version": meta.version}
    show(given, labelled(((name, str(value)) for name, value in shown.items()), _GAP) + "\n", shown)


def _verified(archive: bytes) -> ArchiveMeta:
    try:
        return unpack(archive)[0]
    except RequestFailed as error:
        raise Failed(f"Error verifying snapshot: {error}") from None


def _restore(given: Parsed) -> None:
    exactly(1, given.rest, _MISSING)
    name = given.rest[0]
    archive = file_content(name, "Error opening snapshot file")
    with failing("Error restoring snapshot"):
        client_of(given).put("/v1/snapshot", archive)
    show(given, "Restored snapshot", {"File": name})


SNAPSHOT: Final = Group(
    "snapshot",
    "Saves, restores and inspects the state of the servers",
    {
        "save": Action(
            "snapshot save [options] FILE",
            "Saves the state of the servers to a file",
            _save,
            (*SERVER_FLAGS, FORMAT),
            "The file is written only after the snapshot's checksums have been found right.",
        ),
        "restore": Action(
            "snapshot restore [options] FILE",
            "Replaces the state of the servers by that of a file",
            _restore,
            (*SERVER_FLAGS, FORMAT),
        ),
        "inspect": Action(
            "snapshot inspect [options] FILE",
            "Verifies a file and shows what it holds, without an agent",
            _inspect,
            (FORMAT,),
        ),
    },
    examples=("snapshot save backup.snap", "snapshot inspect backup.snap", "snapshot restore backup.snap"),
)

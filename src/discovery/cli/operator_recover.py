"""`operator recover`: when most servers are lost for good, makes those that remain a cluster again."""

import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from discovery.server.recovery import Plan, RecoveryRefused, Survivor, carry_out, plan, survey

from .action import Action
from .failure import Failed, Misused
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show_json, table

_CONNECT_TIMEOUT: Final = 2.0
_YES: Final = "yes"


def _recover(given: Parsed) -> None:
    if not given.rest:
        raise Misused("At least one data directory of a surviving server is required")
    try:
        planned = _plan(given)
        document = _document(planned)
        if not as_json(given):
            print(_text(planned))
        if given.flag("dry-run"):
            document["Done"] = False
        else:
            _ask(given, planned)
            copy = carry_out(planned, datetime.now(UTC))
            document |= {"Done": True, "Copy": str(copy)}
            if not as_json(given):
                print(_done(planned, copy))
    except RecoveryRefused as refusal:
        raise Failed(f"Error recovering: {refusal}") from None
    if as_json(given):
        show_json(document)


def _plan(given: Parsed) -> Plan:
    survivors = [survey(Path(directory)) for directory in given.rest]
    return plan(
        survivors, elsewhere=given.texts("survivor"), addresses=given.pairs("address"), answers=lambda s: _answers(s.address)
    )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT):
            return True
    except (OSError, ValueError):
        return False


def _ask(given: Parsed, planned: Plan) -> None:
    if given.flag(_YES):
        return
    if as_json(given):
        raise Failed("Error recovering: with -format=json there is nobody to ask, so -yes is required")
    print(f'Type "{_YES}" to write this into {planned.best.directory}: ', end="", flush=True)
    if sys.stdin.readline().strip() != _YES:
        raise Failed("Nothing was changed")


# --- what it tells ---------------------------------------------------------------------------------------------------


def _text(planned: Plan) -> str:
    kept = f"The log of {planned.best.id} is the newest and will be kept."
    return "\n\n".join(
        (table(_survivor_rows(planned)), kept, _loss(planned), f"The cluster will be:\n{table(_server_rows(planned))}")
    )


def _survivor_rows(planned: Plan) -> list[list[str]]:
    rows = [["Survivor", "Term", "Last entry (term/index)", "Snapshot (term/index)", "Directory"]]
    for survivor in planned.survivors:
        last, snapshot = f"{survivor.last_term}/{survivor.last_index}", f"{survivor.snapshot_term}/{survivor.snapshot_index}"
        rows.append([survivor.id, str(survivor.term), last, snapshot, str(survivor.directory)])
    return rows


def _loss(planned: Plan) -> str:
    best = planned.best
    lost = "\n".join(f"  {server.id}  {server.address}" for server in planned.lost)
    text = (
        f"These voters are lost and must never be started again:\n{lost}\n"
        f"What they acknowledged after entry {best.last_index} of term {best.last_term} is lost with them."
    )
    for server_id, count in planned.dropped:
        text += f"\n{count} entries at the end of the log of {server_id} are not in the log that is kept, and will be dropped."
    return text


def _server_rows(planned: Plan) -> list[list[str]]:
    rows = [["ID", "Address", "Voter"]]
    return rows + [[server.id, server.address, str(server.voter).lower()] for server in planned.configuration.servers]


def _done(planned: Plan, copy: Path) -> str:
    return (
        f"Done. The log as it was is in {copy}.\n"
        f"Now start {planned.best.id} and the other survivors. The other survivors learn the new configuration from it."
    )


def _document(planned: Plan) -> dict[str, Any]:
    return {
        "Survivors": [_survivor_document(survivor) for survivor in planned.survivors],
        "Kept": planned.best.id,
        "Lost": [{"ID": server.id, "Address": server.address} for server in planned.lost],
        "Dropped": [{"ID": server_id, "Entries": count} for server_id, count in planned.dropped],
        "Servers": [{"ID": each.id, "Address": each.address, "Voter": each.voter} for each in planned.configuration.servers],
    }


def _survivor_document(survivor: Survivor) -> dict[str, Any]:
    return {
        "ID": survivor.id,
        "Directory": str(survivor.directory),
        "Term": survivor.term,
        "LastTerm": survivor.last_term,
        "LastIndex": survivor.last_index,
        "SnapshotTerm": survivor.snapshot_term,
        "SnapshotIndex": survivor.snapshot_index,
    }


RECOVER: Final = Action(
    "operator recover [options] DATA_DIR [DATA_DIR ...]",
    "Makes the servers that remain a cluster again when most servers are lost for good",
    _recover,
    (
        FORMAT,
        Flag("dry-run", Kind.BOOL, "Only show what would be done."),
        Flag(_YES, Kind.BOOL, "Do not ask."),
        Flag(
            "survivor",
            Kind.LIST,
            "ID of a server that survives on another machine and is stopped. Run this command on the machine whose log is the "
            "newest; -dry-run shows it on each. May be repeated.",
            metavar="id",
        ),
        Flag("address", Kind.PAIRS, "New address of a survivor. May be repeated.", metavar="id=host:port"),
    ),
    "Give the data directories of all stopped servers that remain. It refuses while a quorum could exist, and keeps a copy of "
    "what it changes.",
)

run: Final[Callable[[Sequence[str]], int]] = RECOVER

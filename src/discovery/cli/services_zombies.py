"""`services zombies`: asks for every service of the catalog and lists what `zombies` finds among its instances."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .action import Action
from .client import Client, client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed, file_error
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show_json, table
from .zombies import CriticalCheck, critical_checks, find, since

_KEYS: Final = ("Service", "ID", "Node", "Address", "Reason", "Why")


def _zombies(given: Parsed) -> None:
    client, limit = client_of(given), given.duration("critical-for").seconds
    entries = _entries(client)
    dead: set[CriticalCheck] = set()
    if limit > 0:
        dead = _critical_for(limit, entries, client, given.text("memory"))
    found = find(entries, dead=dead)
    if as_json(given):
        show_json([dict(zip(_KEYS, zombie, strict=True)) for zombie in found])
    elif found:
        print(table([("Service", "ID", "Node", "Address", "Why"), *((*zombie[:4], zombie.why) for zombie in found)]))


def _entries(client: Client) -> list[dict[str, Any]]:
    with failing("Error reading the catalog"):
        names = client.get("/v1/catalog/services").json()
        return [entry for name in sorted(names) for entry in client.get(f"/v1/health/service/{name}").json()]


def _critical_for(limit: float, entries: list[dict[str, Any]], client: Client, memory: str) -> set[CriticalCheck]:
    """Checks that have been critical for `limit` seconds.

    The catalog does not tell since when a check is critical. With a file as memory, what earlier calls have seen counts;
    without one, this looks on for that long.
    """
    now = time.time()
    if memory:
        first_seen = since(critical_checks(entries), _read(Path(memory)), now)
        _write(Path(memory), first_seen)
        return {check for check, at in first_seen.items() if now - at >= limit}
    lasting = critical_checks(entries)
    deadline = time.monotonic() + limit
    while lasting and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        lasting &= critical_checks(_entries(client))
    return lasting


def _read(path: Path) -> dict[CriticalCheck, float]:
    if not path.exists():
        return {}
    try:
        return {CriticalCheck(*each["Check"]): float(each["Since"]) for each in json.loads(path.read_text())}
    except OSError as error:
        raise Failed(file_error("open", error)) from None
    except (ValueError, TypeError, KeyError) as error:
        raise Failed(f"{path} holds no memory of checks: {error}") from None


def _write(path: Path, first_seen: Mapping[CriticalCheck, float]) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        unfinished.write_text(json.dumps([{"Check": list(check), "Since": at} for check, at in sorted(first_seen.items())]))
        unfinished.replace(path)
    except OSError as error:
        raise Failed(file_error("write", error)) from None


ZOMBIES: Final = Action(
    "services zombies [options]",
    "Lists instances on failed nodes, those that share address and port, and those that have been critical for long",
    _zombies,
    (
        *SERVER_FLAGS,
        FORMAT,
        Flag("critical-for", Kind.DURATION, "List instances with a check that has been critical for so long."),
        Flag(
            "memory",
            help="A file in which to remember since when checks are critical, for calls from time to time. Without it the "
            "command looks on for as long as -critical-for says.",
            metavar="file",
        ),
    ),
)

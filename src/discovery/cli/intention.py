"""`intention`: which service may talk to which."""

import datetime
import json
from collections.abc import Sequence
from typing import Any, Final

from .action import Action, Group
from .client import Client, client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, labelled, show, show_json
from .values import file_content

_PATH: Final = "/v1/connect/intentions"
_NAMESPACE: Final = "default/"
_GAP: Final = 2
_CHECK_FAILED: Final = 2


def _arrow(intention: dict[str, Any]) -> str:
    return f"{intention['SourceName']} => {intention['DestinationName']} ({intention['Action']})"


def _find(client: Client, arguments: Sequence[str], what: str) -> str:
    """The ID of the intention meant: given as it is, or by source and destination."""
    if len(arguments) not in (1, 2):
        raise Failed("Error: command requires exactly 1 or 2 arguments")
    if len(arguments) == 1:
        return arguments[0]
    source, destination = (argument.removeprefix(_NAMESPACE) for argument in arguments)
    found = _by_names(client, source, destination)
    if found is None:
        raise Failed(f'{what}: Intention with source "{source}" and destination "{destination}" not found.')
    return found


def _by_names(client: Client, source: str, destination: str) -> str | None:
    with failing("Error"):
        everything: list[dict[str, Any]] = client.get(_PATH).json() or []
    ids = [one["ID"] for one in everything if (one["SourceName"], one["DestinationName"]) == (source, destination)]
    return ids[0] if ids else None


# --- create ---------------------------------------------------------------------------------------------------------


def _create(given: Parsed) -> None:
    if given.flag("allow") and given.flag("deny"):
        raise Failed("Only one of -allow or -deny may be specified.")
    intentions = [_from_file(name) for name in given.rest] if given.flag("file") else [_from_arguments(given)]
    client = client_of(given)
    written = []
    for intention in intentions:
        held = _by_names(client, intention["SourceName"], intention["DestinationName"]) if given.flag("replace") else None
        if held is not None:
            with failing(f'Error replacing intention with source "{_arrow(intention)}"'):
                client.put(f"{_PATH}/{held}", intention)
            written.append({"ID": held, **intention})
            continue
        with failing(f'Error creating intention "{_arrow(intention)}"'):
            created = client.post(_PATH, intention).json()
        written.append({**created, **intention})
        if not as_json(given):
            print(f"Created: {_arrow(intention)}")
    if as_json(given):
        show_json(written)


def _from_arguments(given: Parsed) -> dict[str, Any]:
    if len(given.rest) != 2:
        raise Failed("Error: Must specify two arguments: source and destination")
    source, destination = (name.removeprefix(_NAMESPACE) for name in given.rest)
    action = "deny" if given.flag("deny") else "allow"
    intention = {"SourceName": source, "DestinationName": destination, "SourceType": "consul", "Action": action}
    return {**intention, **({"Meta": given.pairs("meta")} if given.pairs("meta") else {})}


def _from_file(name: str) -> dict[str, Any]:
    try:
        intention = json.loads(file_content(name, "Error"))
    except ValueError as error:
        raise Failed(f"Error: {name}: {error}") from None
    if not isinstance(intention, dict) or not all(
        isinstance(intention.get(field), str) for field in ("SourceName", "DestinationName", "Action")
    ):
        raise Failed(f"Error: {name}: an object with SourceName, DestinationName and Action is expected")
    return intention


# --- check and match ------------------------------------------------------------------------------------------------


def _check(given: Parsed) -> int:
    if len(given.rest) != 2:
        raise Failed("Error: command requires exactly two arguments: src and dst", _CHECK_FAILED)
    params = {"source": given.rest[0], "destination": given.rest[1], "source-type": "consul"}
    with failing("Error checking the connection", _CHECK_FAILED):
        answer = client_of(given).get(f"{_PATH}/check", params).json()
    show(given, "Allowed" if answer["Allowed"] else "Denied", answer)
    return 0 if answer["Allowed"] else 1


def _match(given: Parsed) -> None:
    if given.flag("source") and given.flag("destination"):
        raise Failed("Error: only one of -source or -destination may be specified")
    if len(given.rest) != 1:
        raise Failed("Error: command requires exactly one argument: src or dst")
    name = given.rest[0]
    params = {"by": "source" if given.flag("source") else "destination", "name": name}
    with failing("Error matching the connection"):
        matches: list[dict[str, Any]] = client_of(given).get(f"{_PATH}/match", params).json().get(name) or []
    show(given, "\n".join(map(_arrow, matches)), matches)


# --- get, list, delete ----------------------------------------------------------------------------------------------


def _get(given: Parsed) -> None:
    client = client_of(given)
    intention_id = _find(client, given.rest, "Error")
    with failing("Error reading the intention"):
        intention: dict[str, Any] = client.get(f"{_PATH}/{intention_id}").json()
    rows = [
        ("Source:", intention["SourceName"]),
        ("Destination:", intention["DestinationName"]),
        ("Action:", intention["Action"]),
        ("ID:", intention["ID"]),
    ]
    if intention.get("Description"):
        rows.append(("Description:", intention["Description"]))
    rows += [(f"Meta[{key}]:", value) for key, value in sorted((intention.get("Meta") or {}).items())]
    rows.append(("Created At:", _local_time(intention["CreatedAt"])))
    show(given, labelled(rows, _GAP), intention)


def _local_time(text: str) -> str:
    """RFC 850's form, in the time zone of this machine."""
    return datetime.datetime.fromisoformat(text).astimezone().strftime("%A, %d-%b-%y %H:%M:%S %Z")


def _list(given: Parsed) -> None:
    with failing("Error listing intentions"):
        everything: list[dict[str, Any]] = client_of(given).get(_PATH).json() or []
    show(given, "\n".join(map(_arrow, everything)), everything)


def _delete(given: Parsed) -> None:
    client = client_of(given)
    intention_id = _find(client, given.rest, "Error")
    with failing("Error deleting the intention"):
        client.delete(f"{_PATH}/{intention_id}")
    show(given, "Intention deleted.", {"ID": intention_id})


INTENTION: Final = Group(
    "intention",
    "Works with intentions: which service may talk to which",
    {
        "create": Action(
            "intention create [options] SRC DST",
            "Creates an intention",
            _create,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("allow", Kind.BOOL, "Let SRC talk to DST, as without options."),
                Flag("deny", Kind.BOOL, "Do not let SRC talk to DST."),
                Flag("file", Kind.BOOL, "The arguments are names of JSON files, one intention each."),
                Flag("meta", Kind.PAIRS, "Metadata. May be repeated."),
                Flag("replace", Kind.BOOL, "Replace an intention that there is for the same two."),
            ),
        ),
        "check": Action(
            "intention check [options] SRC DST",
            "Tells whether SRC may talk to DST",
            _check,
            (*SERVER_FLAGS, FORMAT),
            "The exit code is 0 if it may, 1 if not, 2 if that could not be found out.",
        ),
        "match": Action(
            "intention match [options] SRC|DST",
            "Lists the intentions that apply to a service, the strongest first",
            _match,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("source", Kind.BOOL, "The service is the source."),
                Flag("destination", Kind.BOOL, "The service is the destination, as without options."),
            ),
        ),
        "get": Action("intention get [options] SRC DST | ID", "Shows an intention", _get, (*SERVER_FLAGS, FORMAT)),
        "list": Action("intention list [options]", "Lists all intentions", _list, (*SERVER_FLAGS, FORMAT)),
        "delete": Action("intention delete [options] SRC DST | ID", "Deletes an intention", _delete, (*SERVER_FLAGS, FORMAT)),
    },
    examples=("intention create web db", "intention check web db", "intention match db"),
)

"""`config`: central configuration entries, kept by the servers for all."""

import sys
from typing import Any, Final

from discovery.config.read import HCL, Text, parse
from discovery.config.tree import ConfigError, plain

from .action import Action, Group
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, JSON_ANYWAY, show, show_json
from .values import file_content

_CAS: Final = Flag("cas", Kind.BOOL, "Only if the entry's ModifyIndex is the one given with -modify-index.")
_MODIFY_INDEX: Final = Flag("modify-index", Kind.UINT, "The ModifyIndex that -cas demands; 0 demands that there is no entry.")
_KIND: Final = Flag("kind", help="Kind of the entry, such as service-defaults.")
_NAME: Final = Flag("name", help="Name of the entry.")


def _write(given: Parsed) -> None:
    if len(given.rest) != 1:
        raise Failed("Must provide exactly one positional argument to specify the config entry to write")
    entry = _entry(given.rest[0])
    kind = entry.get("Kind", entry.get("kind"))
    if not isinstance(kind, str):
        raise Failed("Failed to decode config entry input: Payload does not contain a kind/Kind key at the top level")
    name = entry.get("Name", entry.get("name", ""))
    params = {"cas": str(given.number("modify-index"))} if given.flag("cas") else {}
    with failing(f"Error writing config entry {kind}/{name}"):
        done = client_of(given).put("/v1/config", entry, params).json()
    if not done:
        raise Failed(f"Config entry not updated: {kind}/{name}")
    show(given, f"Config entry written: {kind}/{name}", {"Kind": kind, "Name": name})


def _entry(source: str) -> dict[str, Any]:
    data = sys.stdin.buffer.read() if source == "-" else file_content(source, "Failed to load data: Failed to read file")
    name = "stdin" if source == "-" else source
    try:
        entry = plain(parse(Text(name, HCL, data.decode())).root)
    except (ConfigError, UnicodeDecodeError) as error:
        raise Failed(f"Failed to decode config entry input: {error}") from None
    assert isinstance(entry, dict)
    return entry


def _kind(given: Parsed) -> str:
    if not given.text("kind"):
        raise Failed("Must specify the -kind parameter")
    return given.text("kind")


def _kind_and_name(given: Parsed) -> tuple[str, str]:
    kind = _kind(given)
    if not given.text("name"):
        raise Failed("Must specify the -name parameter")
    return kind, given.text("name")


def _read(given: Parsed) -> None:
    kind, name = _kind_and_name(given)
    with failing(f"Error reading config entry {kind}/{name}"):
        show_json(client_of(given).get(f"/v1/config/{kind}/{name}").json())


def _list(given: Parsed) -> None:
    kind = _kind(given)
    with failing(f'Error listing config entries for kind "{kind}"'):
        entries: list[dict[str, Any]] = client_of(given).get(f"/v1/config/{kind}").json() or []
    show(given, "\n".join(entry["Name"] for entry in entries), entries)


def _delete(given: Parsed) -> None:
    kind, name = _kind_and_name(given)
    params = {"cas": str(given.number("modify-index"))} if given.flag("cas") else {}
    with failing(f"Error deleting config entry {kind}/{name}"):
        done = client_of(given).delete(f"/v1/config/{kind}/{name}", params=params).json()
    if done is False:
        raise Failed(f"Config entry not deleted: {kind}/{name}")
    show(given, f"Config entry deleted: {kind}/{name}", {"Kind": kind, "Name": name})


CONFIG: Final = Group(
    "config",
    "Works with central configuration entries",
    {
        "write": Action(
            "config write [options] FILE",
            "Creates or replaces an entry",
            _write,
            (*SERVER_FLAGS, FORMAT, _CAS, _MODIFY_INDEX),
            "FILE is HCL or JSON; - stands for what comes on stdin.",
        ),
        "read": Action(
            "config read [options] -kind=KIND -name=NAME",
            "Shows an entry as JSON",
            _read,
            (*SERVER_FLAGS, JSON_ANYWAY, _KIND, _NAME),
        ),
        "list": Action("config list [options] -kind=KIND", "Lists the entries of a kind", _list, (*SERVER_FLAGS, FORMAT, _KIND)),
        "delete": Action(
            "config delete [options] -kind=KIND -name=NAME",
            "Deletes an entry",
            _delete,
            (*SERVER_FLAGS, FORMAT, _KIND, _NAME, _CAS, _MODIFY_INDEX),
        ),
    },
    examples=("config write web.hcl", "config read -kind=service-defaults -name=web", "config list -kind=service-defaults"),
)

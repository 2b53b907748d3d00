"""`members`, `join`, `leave`, `force-leave`: the gossip pool as one agent sees it."""

import sys
from typing import Any, Final

from .action import Action
from .client import RequestError, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed, Misused
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show, show_json, table
from .patterns import compile_pattern

_STATUSES: Final = ("none", "alive", "leaving", "left", "failed")
_TYPES: Final = {"consul": "server", "node": "client"}
_NOTHING_TO_SHOW: Final = 2

_WAN: Final = Flag("wan", Kind.BOOL, "The pool of servers across datacenters instead of this datacenter's.")


def _members(given: Parsed) -> int:
    wanted = compile_pattern("status", given.text("status"))
    params = {"segment": given.text("segment"), "wan": "1" if given.flag("wan") else ""}
    with failing("Error retrieving members"):
        everyone: list[dict[str, Any]] = client_of(given).get("/v1/agent/members", params).json() or []
    members = sorted((_with_segment(one) for one in everyone if wanted.search(_status(one))), key=_order)
    if as_json(given):
        show_json(members)
    elif members:
        print(table(_detailed(members) if given.flag("detailed") else _overview(members)))
    return 0 if members else _NOTHING_TO_SHOW


def _status(member: dict[str, Any]) -> str:
    number: int = member["Status"]
    return _STATUSES[number] if number < len(_STATUSES) else _STATUSES[0]


def _with_segment(member: dict[str, Any]) -> dict[str, Any]:
    """Servers belong to all segments, a client without one to the default segment."""
    tags = member["Tags"]
    segment = "<all>" if tags.get("role") == "consul" else tags.get("segment") or "<default>"
    return {**member, "Tags": {**tags, "segment": segment}}


def _order(member: dict[str, Any]) -> tuple[str, str]:
    return member["Tags"]["segment"], member["Name"]


def _address(member: dict[str, Any]) -> str:
    host = member["Addr"]
    return f"[{host}]:{member['Port']}" if ":" in host else f"{host}:{member['Port']}"


def _overview(members: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"]]
    for member in members:
        tags = member["Tags"]
        build = tags.get("build", "").partition(":")[0]
        kind = _TYPES.get(tags.get("role", ""), "unknown")
        columns = [build, tags.get("vsn", ""), tags.get("dc", ""), tags["segment"]]
        rows.append([member["Name"], _address(member), _status(member), kind, *columns])
    return rows


def _detailed(members: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["Node", "Address", "Status", "Tags"]]
    for member in members:
        tags = ",".join(f"{key}={value}" for key, value in sorted(member["Tags"].items()))
        rows.append([member["Name"], _address(member), _status(member), tags])
    return rows


def _join(given: Parsed) -> None:
    if not given.rest:
        raise Misused("At least one address to join must be specified.")
    client, joined = client_of(given), []
    for address in given.rest:
        try:
            client.put(f"/v1/agent/join/{address}", params={"wan": "1" if given.flag("wan") else ""})
            joined.append(address)
        except RequestError as error:
            print(f"Error joining address '{address}': {error}", file=sys.stderr)
    if not joined:
        raise Failed("Failed to join any nodes.")
    show(given, f"Successfully joined cluster by contacting {len(joined)} nodes.", {"Joined": joined})


def _leave(given: Parsed) -> None:
    if given.rest:
        raise Misused(f"Unexpected extra arguments: [{' '.join(given.rest)}]")
    with failing("Error leaving"):
        client_of(given).put("/v1/agent/leave")
    show(given, "Graceful leave complete", {"Left": True})


def _force_leave(given: Parsed) -> None:
    if len(given.rest) != 1:
        raise Misused("A single node name must be specified to force leave.")
    name = given.rest[0]
    params = {"prune": "1" if given.flag("prune") else "", "wan": "1" if given.flag("wan") else ""}
    with failing("Error force leaving"):
        client_of(given).put(f"/v1/agent/force-leave/{name}", params=params)
    show(given, "", {"Node": name})


MEMBERS: Final = Action(
    "members [options]",
    "Lists the members of the gossip pool",
    _members,
    (
        *AGENT_FLAGS,
        FORMAT,
        _WAN,
        Flag("detailed", Kind.BOOL, "Show all tags of each member."),
        Flag("status", help="Only members whose status matches this regular expression.", default=".*"),
        Flag("segment", help="Only members of this network segment.", default="_all"),
    ),
)

JOIN: Final = Action(
    "join [options] address ...", "Makes an agent join the pool that the addresses belong to", _join, (*AGENT_FLAGS, FORMAT, _WAN)
)

LEAVE: Final = Action("leave [options]", "Makes an agent leave its cluster gracefully and end", _leave, (*AGENT_FLAGS, FORMAT))

FORCE_LEAVE: Final = Action(
    "force-leave [options] name",
    "Declares a failed member to have left, so that nobody waits for its return",
    _force_leave,
    (
        *AGENT_FLAGS,
        FORMAT,
        _WAN,
        Flag("prune", Kind.BOOL, "Also remove it from the list of members at once."),
    ),
    "A member that is alive after all comes back by itself.",
)

"""`rtt`: the round-trip time between two nodes, estimated from their network coordinates."""

from typing import Any, Final

import msgspec

from discovery.model.distance import distance
from discovery.model.records import Coordinate

from .action import Action
from .client import Client, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed, Misused
from .flags import Flag, Kind, Parsed
from .output import FORMAT, show


def _rtt(given: Parsed) -> None:
    if len(given.rest) not in (1, 2):
        raise Misused("One or two node names must be specified")
    client, wan = client_of(given), given.flag("wan")
    names = given.rest if len(given.rest) == 2 else (given.rest[0], _own_name(client, wan=wan))
    if wan and not all(name.rpartition(".")[1] for name in names):
        raise Failed("Node names must be specified as <node name>.<datacenter> with -wan")
    places = _places(client, wan=wan)
    for name in names:
        if name not in places:
            raise Failed(f'Could not find a coordinate for node "{name}"')
    first, second = (places[name] for name in names)
    milliseconds = distance(first, second) * 1000
    text = f"Estimated {names[0]} <-> {names[1]} rtt: {milliseconds:.3f} ms (using {'WAN' if wan else 'LAN'} coordinates)"
    show(given, text, {"Nodes": list(names), "Milliseconds": round(milliseconds, 3), "WAN": wan})


def _own_name(client: Client, *, wan: bool) -> str:
    with failing("Unable to look up agent info"):
        config = client.get("/v1/agent/self").json()["Config"]
    return f"{config['NodeName']}.{config['Datacenter']}" if wan else str(config["NodeName"])


def _places(client: Client, *, wan: bool) -> dict[str, Coordinate]:
    """Coordinates by node name; in the WAN pool the name ends in the datacenter."""
    with failing("Error getting coordinates"):
        if not wan:
            entries: list[dict[str, Any]] = client.get("/v1/coordinate/nodes").json() or []
            return {entry["Node"]: _place(entry) for entry in entries}
        areas: list[dict[str, Any]] = client.get("/v1/coordinate/datacenters").json() or []
    return {f"{entry['Node']}.{area['Datacenter']}": _place(entry) for area in areas for entry in area["Coordinates"] or ()}


def _place(entry: dict[str, Any]) -> Coordinate:
    return msgspec.convert(entry["Coord"], Coordinate)


RTT: Final = Action(
    "rtt [options] node1 [node2]",
    "Estimates the round-trip time between two nodes, or between a node and the agent",
    _rtt,
    (
        *AGENT_FLAGS,
        FORMAT,
        Flag("wan", Kind.BOOL, "The nodes are servers in the WAN pool, named <node name>.<datacenter>."),
    ),
)

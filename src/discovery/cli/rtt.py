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
    first, second = (_coordinate(client, name, wan=wan) for name in names)
    milliseconds = distance(first, second) * 1000
    text = f"Estimated {names[0]} <-> {names[1]} rtt: {milliseconds:.3f} ms (using {'WAN' if wan else 'LAN'} coordinates)"
    show(given, text, {"Nodes": list(names), "Milliseconds": round(milliseconds, 3), "WAN": wan})


def _own_name(client: Client, *, wan: bool) -> str:
    with failing("Unable to look up agent info"):
        config = client.get("/v1/agent/self").json()["Config"]
    return f"{config['NodeName']}.{config['Datacenter']}" if wan else str(config["NodeName"])


def _coordinate(client: Client, name: str, *, wan: bool) -> Coordinate:
    with failing("Error getting coordinates"):
        entries = _wan_entries(client, name) if wan else client.get("/v1/coordinate/nodes").json() or []
    for entry in entries:
        if entry["Node"] == (name.rpartition(".")[0] if wan else name):
            return msgspec.convert(entry["Coord"], Coordinate)
    raise Failed(f'Could not find a coordinate for node "{name}"')


def _wan_entries(client: Client, name: str) -> list[dict[str, Any]]:
    datacenter = name.rpartition(".")[2]
    areas = client.get("/v1/coordinate/datacenters").json() or []
    return [entry for area in areas if area["Datacenter"] == datacenter for entry in area["Coordinates"] or ()]


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

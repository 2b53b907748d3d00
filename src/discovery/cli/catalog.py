"""`catalog`: the datacenters, nodes and services that the servers know."""

import sys
from typing import Any, Final

from .action import Action, Group
from .client import Client, client_of, failing
from .endpoint import SERVER_FLAGS
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, pairs_text, show, show_json, table
from .values import exactly

_NODE_META: Final = Flag("node-meta", Kind.PAIRS, "Only nodes with this metadata. May be repeated; all must match.")
_SHORT_ID: Final = 8
_TAG_GAP: Final = " " * 6


def _node_meta(given: Parsed) -> list[str]:
    return [f"{key}:{value}" for key, value in given.pairs("node-meta").items()]


def _datacenters(given: Parsed) -> None:
    exactly(0, given.rest)
    with failing("Error listing datacenters"):
        names: list[str] = client_of(given).get("/v1/catalog/datacenters").json()
    show(given, "\n".join(names), names)


# --- nodes ----------------------------------------------------------------------------------------------------------


def _nodes(given: Parsed) -> None:
    exactly(0, given.rest)
    service = given.text("service")
    path = f"/v1/catalog/service/{service}" if service else "/v1/catalog/nodes"
    params = {"near": given.text("near"), "filter": given.text("filter"), "node-meta": _node_meta(given)}
    with failing("Error listing nodes"):
        nodes: list[dict[str, Any]] = client_of(given).get(path, params).json() or []
    if as_json(given):
        show_json(nodes)
    elif nodes:
        print(table(_detailed(nodes) if given.flag("detailed") else _overview(nodes)))
    else:
        print("No nodes match the given query - try expanding your search.", file=sys.stderr)


def _overview(nodes: list[dict[str, Any]]) -> list[list[str]]:
    rows = [[node["Node"], node["ID"][:_SHORT_ID], node["Address"], node["Datacenter"]] for node in nodes]
    return [["Node", "ID", "Address", "DC"], *rows]


def _detailed(nodes: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]]
    for node in nodes:
        meta = node["NodeMeta"] if "NodeMeta" in node else node["Meta"]
        columns = [pairs_text(node["TaggedAddresses"]), pairs_text(meta)]
        rows.append([node["Node"], node["ID"], node["Address"], node["Datacenter"], *columns])
    return rows


# --- services -------------------------------------------------------------------------------------------------------


def _services(given: Parsed) -> None:
    exactly(0, given.rest)
    with failing("Error listing services"):
        found = _tags_by_service(given, client_of(given))
    tags_by_name = {name: sorted(tags) for name, tags in sorted(found.items())}
    if as_json(given):
        show_json(tags_by_name)
    elif not tags_by_name:
        print("No services match the given query - try expanding your search.", file=sys.stderr)
    elif given.flag("tags"):
        width = max(map(len, tags_by_name))
        lines = [f"{name.ljust(width)}{_TAG_GAP}{','.join(tags)}" for name, tags in tags_by_name.items()]
        print("\n".join(lines).rstrip())
    else:
        print("\n".join(tags_by_name))


def _tags_by_service(given: Parsed, client: Client) -> dict[str, set[str]]:
    if not given.text("node"):
        everything: dict[str, list[str]] = client.get("/v1/catalog/services", {"node-meta": _node_meta(given)}).json()
        return {name: set(tags) for name, tags in everything.items()}
    found: dict[str, set[str]] = {}
    node = client.get(f"/v1/catalog/node/{given.text('node')}", {"node-meta": _node_meta(given)}).json()
    for service in ((node or {}).get("Services") or {}).values():
        found.setdefault(service["Service"], set()).update(service["Tags"] or ())
    return found


CATALOG: Final = Group(
    "catalog",
    "Shows what the servers know of the whole cluster; for the services of one agent see `services`",
    {
        "datacenters": Action(
            "catalog datacenters [options]", "Lists the datacenters, nearest first", _datacenters, (*SERVER_FLAGS, FORMAT)
        ),
        "nodes": Action(
            "catalog nodes [options]",
            "Lists the nodes of a datacenter",
            _nodes,
            (
                *SERVER_FLAGS,
                FORMAT,
                _NODE_META,
                Flag("detailed", Kind.BOOL, "Show whole IDs, tagged addresses and metadata."),
                Flag("filter", help="Only nodes that this filter expression fits."),
                Flag("near", help="Sort by round-trip time from this node; `_agent` is the agent that is asked."),
                Flag("service", help="Only nodes that have this service, a row for each instance.", metavar="name"),
            ),
        ),
        "services": Action(
            "catalog services [options]",
            "Lists the services of a datacenter",
            _services,
            (
                *SERVER_FLAGS,
                FORMAT,
                _NODE_META,
                Flag("node", help="Only services of this node.", metavar="id or name"),
                Flag("tags", Kind.BOOL, "Show the tags of each service too."),
            ),
        ),
    },
    examples=("catalog datacenters", "catalog nodes -service=web", "catalog services -tags"),
)

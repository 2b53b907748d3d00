"""`operator`: the servers as a cluster."""

from collections.abc import Mapping
from typing import Any, Final

from discovery.model.duration import Duration

from .action import Action, Entry, Group
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, show, table

_AUTOPILOT: Final = "/v1/operator/autopilot"
_UNHEALTHY: Final = 429

# --- Raft -----------------------------------------------------------------------------------------------------------


def _list_peers(given: Parsed) -> None:
    with failing("Error getting peers: Failed to retrieve raft configuration"):
        configuration = client_of(given).get("/v1/operator/raft/configuration").json()
    rows = [["Node", "ID", "Address", "State", "Voter", "RaftProtocol"]]
    for server in configuration["Servers"]:
        state, voter = "leader" if server["Leader"] else "follower", str(server["Voter"]).lower()
        protocol = server["ProtocolVersion"] or "<=1"
        rows.append([server["Node"], server["ID"], server["Address"], state, voter, protocol])
    show(given, table(rows), configuration)


def _remove_peer(given: Parsed) -> None:
    address, peer_id = given.text("address"), given.text("id")
    if not address and not peer_id:
        raise Failed("Error removing peer: an address or id is required for the peer to remove")
    if address and peer_id:
        raise Failed("Error removing peer: cannot give both an address and id")
    with failing("Error removing peer"):
        client_of(given).delete("/v1/operator/raft/peer", params={"address": address, "id": peer_id})
    kind = "address" if address else "id"
    show(given, f'Removed peer with {kind} "{address or peer_id}"', {"Address": address, "ID": peer_id})


def _transfer_leader(given: Parsed) -> None:
    with failing("Error transferring leadership"):
        answer = client_of(given).post("/v1/operator/raft/transfer-leader", params={"id": given.text("id")}).json()
    if not answer["Success"]:
        raise Failed("Error transferring leadership: the leader could not hand over")
    show(given, "Success", answer)


# --- autopilot ------------------------------------------------------------------------------------------------------

_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup-dead-servers": "CleanupDeadServers",
    "last-contact-threshold": "LastContactThreshold",
    "max-trailing-logs": "MaxTrailingLogs",
    "min-quorum": "MinQuorum",
    "server-stabilization-time": "ServerStabilizationTime",
    "redundancy-zone-tag": "RedundancyZoneTag",
    "disable-upgrade-migration": "DisableUpgradeMigration",
    "upgrade-version-tag": "UpgradeVersionTag",
}
"""Flag -> field, in the order in which they are shown."""

_QUOTED: Final = frozenset({"RedundancyZoneTag", "UpgradeVersionTag"})


def _get_config(given: Parsed) -> None:
    with failing("Error querying Autopilot configuration"):
        config = client_of(given).get(f"{_AUTOPILOT}/configuration").json()
    show(given, "\n".join(f"{name} = {_setting(name, config.get(name, ''))}" for name in _SETTINGS.values()), config)


def _setting(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if name in _QUOTED else str(value)


def _set_config(given: Parsed) -> None:
    client = client_of(given)
    with failing("Error querying Autopilot configuration"):
        config: dict[str, Any] = client.get(f"{_AUTOPILOT}/configuration").json()
    changes = {field: _given_setting(given, flag) for flag, field in _SETTINGS.items() if flag in given.given}
    with failing("Error setting Autopilot configuration"):
        done = client.put(f"{_AUTOPILOT}/configuration", {**config, **changes}, {"cas": str(config.get("ModifyIndex", 0))}).json()
    if not done:
        raise Failed("Configuration could not be atomically updated, please try again")
    show(given, "Configuration updated!", {**config, **changes})


def _given_setting(given: Parsed, flag: str) -> object:
    value = given.values[flag]
    return str(value) if isinstance(value, Duration) else value


def _state(given: Parsed) -> None:
    with failing("Error querying Autopilot state"):
        state: dict[str, Any] = client_of(given).get(f"{_AUTOPILOT}/state").json()
    lines = [
        f"Healthy:           {str(state['Healthy']).lower()}",
        f"Failure Tolerance: {state['FailureTolerance']}",
        f"Leader:            {state['Leader']}",
        "Voters:",
        *(f"   {voter}" for voter in state["Voters"] or ()),
        "Servers:",
    ]
    for server_id, server in sorted(state["Servers"].items()):
        lines += [f"   {server_id}", *(f"      {label.ljust(13)} {value}" for label, value in _server_rows(server))]
    show(given, "\n".join(lines), state)


def _server_rows(server: dict[str, Any]) -> list[tuple[str, object]]:
    fields = {
        "Name": "Name",
        "Address": "Address",
        "Version": "Version",
        "Status": "Status",
        "Node Type": "NodeType",
        "Node Status": "NodeStatus",
        "Healthy": "Healthy",
        "Last Contact": "LastContact",
        "Last Term": "LastTerm",
        "Last Index": "LastIndex",
    }
    values = {label: server.get(field, "") for label, field in fields.items()}
    return [(f"{label}:", str(value).lower() if isinstance(value, bool) else value) for label, value in values.items()]


def _health(given: Parsed) -> int:
    with failing("Error querying Autopilot health"):
        health: dict[str, Any] = client_of(given).get(f"{_AUTOPILOT}/health", accept=(200, _UNHEALTHY)).json()
    rows = [["Node", "ID", "Address", "SerfStatus", "Version", "Leader", "LastContact", "LastIndex", "Healthy", "Voter"]]
    for server in health["Servers"] or ():
        flags = [str(server[name]).lower() for name in ("Leader", "Healthy", "Voter")]
        names = [server["Name"], server["ID"], server["Address"], server["SerfStatus"], server["Version"]]
        rows.append([*names, flags[0], server["LastContact"], str(server["LastIndex"]), *flags[1:]])
    head = f"Healthy: {str(health['Healthy']).lower()}\nFailure Tolerance: {health['FailureTolerance']}\n"
    show(given, f"{head}\n{table(rows)}", health)
    return 0 if health["Healthy"] else 1


_RAFT: Final = Group(
    "operator raft",
    "Works with the servers' consensus group",
    {
        "list-peers": Action(
            "operator raft list-peers [options]", "Lists the servers of the group", _list_peers, (*SERVER_FLAGS, FORMAT)
        ),
        "remove-peer": Action(
            "operator raft remove-peer [options]",
            "Removes a server that will not come back from the group",
            _remove_peer,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("address", help="Address and port of the server."),
                Flag("id", help="ID of the server."),
            ),
        ),
        "transfer-leader": Action(
            "operator raft transfer-leader [options]",
            "Makes the leader hand over to another server",
            _transfer_leader,
            (*SERVER_FLAGS, FORMAT, Flag("id", help="ID of the server to hand over to; otherwise the leader chooses.")),
        ),
    },
)

_AUTOPILOT_GROUP: Final = Group(
    "operator autopilot",
    "Works with autopilot, which keeps the group of servers in order",
    {
        "get-config": Action(
            "operator autopilot get-config [options]", "Shows the settings", _get_config, (*SERVER_FLAGS, FORMAT)
        ),
        "set-config": Action(
            "operator autopilot set-config [options]",
            "Changes the settings that are given",
            _set_config,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("cleanup-dead-servers", Kind.BOOL, "Remove dead servers when others take their place."),
                Flag("last-contact-threshold", Kind.DURATION, "A server is unhealthy after this time without its leader."),
                Flag("max-trailing-logs", Kind.UINT, "A server is unhealthy when it is this many entries behind."),
                Flag("min-quorum", Kind.UINT, "Never remove dead servers below this many."),
                Flag("server-stabilization-time", Kind.DURATION, "How long a new server must be healthy before it votes."),
                Flag("redundancy-zone-tag", help="Name of the node metadata that holds a server's zone."),
                Flag("disable-upgrade-migration", Kind.BOOL, "Do not move to servers of a newer version by itself."),
                Flag("upgrade-version-tag", help="Name of the node metadata that holds a server's version."),
            ),
        ),
        "state": Action("operator autopilot state [options]", "Shows the state", _state, (*SERVER_FLAGS, FORMAT)),
        "health": Action(
            "operator autopilot health [options]",
            "Shows the health of each server",
            _health,
            (*SERVER_FLAGS, FORMAT),
            "The exit code is 1 if a server is unhealthy.",
        ),
    },
)

OPERATOR: Final = Group(
    "operator",
    "Works with the servers as a cluster; some of it can do harm",
    {
        "raft": _RAFT,
        "autopilot": _AUTOPILOT_GROUP,
        "recover": Entry(
            "operator_recover:RECOVER",
            "Makes the servers that remain a cluster again when most servers are lost for good",
        ),
    },
    examples=("operator raft list-peers", "operator autopilot get-config"),
)

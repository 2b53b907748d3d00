"""`maint`: a node or a service marked as under maintenance, which takes it out of DNS and health answers."""

from typing import Any, Final

from .action import Action
from .client import Client, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show, show_json

_NODE_CHECK: Final = "_node_maintenance"
_SERVICE_CHECK: Final = "_service_maintenance:"


def _maint(given: Parsed) -> None:
    if given.flag("enable") and given.flag("disable"):
        raise Failed("Only one of -enable or -disable may be provided")
    if given.text("reason") and not given.flag("enable"):
        raise Failed("Reason may only be provided with -enable")
    changes = given.flag("enable") or given.flag("disable")
    if given.text("service") and not changes:
        raise Failed("Service requires either -enable or -disable")
    client = client_of(given)
    if changes:
        _change(given, client)
    else:
        _show_status(given, client)


def _change(given: Parsed, client: Client) -> None:
    enable, service = given.flag("enable"), given.text("service")
    params = {"enable": "true", "reason": given.text("reason")} if enable else {"enable": "false"}
    verb, kind = "enabling" if enable else "disabling", "service" if service else "node"
    path = f"/v1/agent/service/maintenance/{service}" if service else "/v1/agent/maintenance"
    with failing(f"Error {verb} {kind} maintenance"):
        client.put(path, params=params)
    target = f' for "{service}"' if service else ""
    text = f"{kind.capitalize()} maintenance is now {'enabled' if enable else 'disabled'}{target}"
    show(given, text, {kind.capitalize(): service or True, "Maintenance": enable, "Reason": given.text("reason")})


def _show_status(given: Parsed, client: Client) -> None:
    with failing("Error querying Consul agent"):
        node = client.get("/v1/agent/self").json()["Config"]["NodeName"]
        checks: dict[str, dict[str, Any]] = client.get("/v1/agent/checks").json()
    reasons = {check_id: check["Notes"] for check_id, check in sorted(checks.items())}
    services = {
        check_id.removeprefix(_SERVICE_CHECK): reason
        for check_id, reason in reasons.items()
        if check_id.startswith(_SERVICE_CHECK)
    }
    if as_json(given):
        show_json({"Node": node, "NodeReason": reasons.get(_NODE_CHECK), "ServiceReasons": services})
        return
    if _NODE_CHECK in reasons:
        print(f"Node:\n  Name:   {node}\n  Reason: {reasons[_NODE_CHECK]}\n")
    for service, reason in services.items():
        print(f"Service:\n  ID:     {service}\n  Reason: {reason}\n")


MAINT: Final = Action(
    "maint [options]",
    "Puts the agent's node or one of its services into maintenance, and back; without options shows what is in maintenance",
    _maint,
    (
        *AGENT_FLAGS,
        FORMAT,
        Flag("enable", Kind.BOOL, "Begin maintenance."),
        Flag("disable", Kind.BOOL, "End maintenance."),
        Flag("reason", help="Why, for others to read."),
        Flag("service", help="ID of the service; otherwise the whole node is meant."),
    ),
)

"""`keygen` and `keyring`: the keys of gossip encryption."""

import base64
import secrets
from typing import Any, Final

from .action import Action
from .client import Client, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed, Misused
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show, show_json

_KEY_BYTES: Final = 32
_MAX_RELAYS: Final = 5
_PATH: Final = "/v1/operator/keyring"
_ACTIONS: Final = ("list", "list-primary", "install", "use", "remove")
_ANNOUNCEMENTS: Final = {
    "list": "==> Gathering installed encryption keys...",
    "list-primary": "==> Gathering installed primary encryption keys...",
    "install": "==> Installing new gossip encryption key...",
    "use": "==> Changing primary gossip encryption key...",
    "remove": "==> Removing gossip encryption key...",
}


def _keygen(given: Parsed) -> None:
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    show(given, key, {"Key": key})


def _keyring(given: Parsed) -> None:
    action = _chosen(given)
    params = _params(given, action)
    client = client_of(given)
    if not as_json(given):
        print(_ANNOUNCEMENTS[action])
    with failing("error"):
        if action.startswith("list"):
            _show_keys(given, client.get(_PATH, params).json(), "PrimaryKeys" if action == "list-primary" else "Keys")
        else:
            _change(client, action, given.text(action), params)
            show(given, "", {"Action": action, "Key": given.text(action)})


def _chosen(given: Parsed) -> str:
    chosen = [action for action in _ACTIONS if given.values[action]]
    if not chosen:
        raise Misused("One of -list, -list-primary, -install, -use and -remove must be given")
    if len(chosen) > 1:
        raise Failed("Only a single action is allowed")
    return chosen[0]


def _params(given: Parsed, action: str) -> dict[str, str]:
    relays = given.number("relay-factor")
    if not 0 <= relays <= _MAX_RELAYS:
        raise Failed(f"Error parsing relay factor: Relay factor must be in range: [0, {_MAX_RELAYS}]")
    if given.flag("local-only") and not action.startswith("list"):
        raise Failed("Error validating local-only: local-only can only be set for list requests")
    return {"relay-factor": str(relays or ""), "local-only": "true" if given.flag("local-only") else ""}


def _change(client: Client, action: str, key: str, params: dict[str, str]) -> None:
    send = {"install": client.post, "use": client.put, "remove": client.delete}[action]
    send(_PATH, {"Key": key}, params)


def _show_keys(given: Parsed, pools: list[dict[str, Any]], keys: str) -> None:
    if as_json(given):
        show_json(pools)
        return
    for pool in pools:
        segment = f" [{pool['Segment']}]" if pool.get("Segment") else ""
        print(f"\n{'WAN' if pool['WAN'] else pool['Datacenter'] + ' (LAN)' + segment}:")
        for node, message in sorted((pool.get("Messages") or {}).items()):
            print(f" ===> {node}: {message}")
        for key, holders in sorted((pool.get(keys) or {}).items()):
            print(f"  {key} [{holders}/{pool['NumNodes']}]")


KEYGEN: Final = Action("keygen [options]", "Makes a new key for gossip encryption", _keygen, (FORMAT,))

KEYRING: Final = Action(
    "keyring [options]",
    "Lists and changes the keys of gossip encryption, on all agents of the LAN and WAN pools at once",
    _keyring,
    (
        *AGENT_FLAGS,
        FORMAT,
        Flag("list", Kind.BOOL, "List the installed keys and how many nodes have each."),
        Flag("list-primary", Kind.BOOL, "List the primary keys and how many nodes use each."),
        Flag("install", help="Add this key; it is not used for sending yet."),
        Flag("use", help="Make this installed key the one that is used for sending."),
        Flag("remove", help="Remove this key, which must not be the primary one."),
        Flag("relay-factor", Kind.INT, "Send answers also by way of this many other nodes, 0 to 5."),
        Flag("local-only", Kind.BOOL, "With -list: ask this agent's own keyring only."),
    ),
)

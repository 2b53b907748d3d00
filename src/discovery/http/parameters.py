"""The query parameters of the API: what each means, for `/v1/openapi.json`."""

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_WHOLE: Final = {"type": "integer"}
_BOOLEAN: Final = {"type": "boolean"}
_DURATION: Final = {"type": "string", "examples": ["10s", "1m30s", "300ms"]}
_LIST: Final = {"type": "array", "items": _TEXT}


def _parameter(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"schema": schema, "description": description}


def _flag(description: str) -> dict[str, Any]:
    return {"schema": _TEXT, "description": f"{description} Present with any value.", "allowEmptyValue": True}


PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "acquire": _parameter(_TEXT, "The session that takes the lock on the key."),
    "address": _parameter(_TEXT, "IP address and port of the server."),
    "by": _parameter({"type": "string", "enum": ["source", "destination"]}, "Which side of an intention `name` is."),
    "cached": _flag("The agent's cache may answer."),
    "cas": _parameter(_NUMBER, "Only if this is the index of the last change; 0: only if there is none yet."),
    "compile-dc": _parameter(_TEXT, "The datacenter from where the chain is seen."),
    "connect": _flag("Only instances that the mesh reaches."),
    "consistent": _flag("The leader makes sure that it still leads."),
    "dc": _parameter(_TEXT, "The datacenter that is asked; the agent's own if none is given."),
    "destination": _parameter(_TEXT, "A service, or `*`."),
    "enable": _parameter(_BOOLEAN, "Whether to begin or to end it."),
    "filter": _parameter(_TEXT, "An expression in Consul's filter language; what it does not match is left out."),
    "flags": _parameter(_NUMBER, "A number that is kept with the key."),
    "format": _parameter({"type": "string", "enum": ["json", "prometheus", "text"]}, "The form of the answer."),
    "hash": _parameter(_TEXT, "Wait until the service has another hash than this."),
    "id": _parameter(_TEXT, "The id of a server."),
    "index": _parameter(_NUMBER, "Wait until the index is higher than this."),
    "keys": _flag("Only the names of the keys below this one."),
    "kind": _parameter(_LIST, "Changes of these kinds only: key, node, service, check."),
    "leader": _flag("The leader answers; as without, and against `discovery_max_stale`."),
    "limit": _parameter(_WHOLE, "At most this many instances."),
    "local-only": _parameter(_BOOLEAN, "Only the LAN pool of this datacenter."),
    "logjson": _flag("Lines as JSON."),
    "loglevel": _parameter(
        {"type": "string", "enum": ["trace", "debug", "info", "warn", "err", "error"]}, "The least important lines to show."
    ),
    "max_stale": _parameter(_DURATION, "Any server answers whose data is no older than this."),
    "name": _parameter(_TEXT, "A name to look for."),
    "near": _parameter(_TEXT, "The nearest to this node first; `_agent` is the answering agent's node."),
    "node": _parameter(_TEXT, "A node."),
    "node-meta": _parameter(_LIST, "Only nodes that have this metadata, as `key:value`."),
    "note": _parameter(_TEXT, "Becomes the check's output."),
    "passing": _parameter({"anyOf": [_BOOLEAN, {"const": ""}]}, "Only instances all of whose checks pass."),
    "prefix": _parameter(_TEXT, "Only keys that begin so."),
    "pretty": _flag("Indented."),
    "prune": _flag("Forget the member altogether."),
    "raw": _flag("The value alone, as it was stored."),
    "reason": _parameter(_TEXT, "Why, for those who look."),
    "recurse": _flag("All keys that begin with this one."),
    "relay-factor": _parameter({"type": "integer", "minimum": 0, "maximum": 5}, "How many nodes repeat each answer."),
    "release": _parameter(_TEXT, "The session that gives up the lock on the key."),
    "replace-existing-checks": _parameter(_TEXT, "`true`: checks of the service that are not given go."),
    "segment": _parameter(_TEXT, "A network segment."),
    "separator": _parameter(_TEXT, "Cut names after its first occurrence."),
    "service": _parameter(_TEXT, "A service."),
    "source": _parameter(_TEXT, "A service, or `*`."),
    "stale": _flag("Any server answers, from what it knows."),
    "tag": _parameter(_LIST, "Only instances that have this tag, in any case."),
    "token": _parameter(_TEXT, "An ACL token; better in the header `X-Consul-Token`."),
    "wait": _parameter(_DURATION, "How long to wait for a higher index, at most 10m; 5m if none is given."),
    "wan": _parameter(_TEXT, "Anything but empty: the pool of all datacenters' servers."),
}

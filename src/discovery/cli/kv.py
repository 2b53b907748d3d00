"""`kv`: the key-value store."""

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from discovery.model import base64_text

from .action import Action, Group
from .client import Answer, Client, client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, JSON_ANYWAY, as_json, labelled, show, show_json, write_bytes
from .values import exactly, value_of

_ASKING: Final = "Error querying Consul agent"
_NO_KEY: Final = "Error! Missing KEY argument"
_LABEL_GAP: Final = 6


def _path(key: str) -> str:
    return f"/v1/kv/{key}"


def _value(pair: dict[str, Any]) -> bytes:
    return base64.b64decode(pair["Value"] or "")


def _pairs_below(client: Client, prefix: str) -> list[dict[str, Any]]:
    answer = client.get(_path(prefix), {"recurse": True}, accept=(200, 404))
    return _found(answer)


def _found(answer: Answer) -> list[dict[str, Any]]:
    pairs: list[dict[str, Any]] = answer.json() if answer.status == 200 else []
    return pairs


# --- get ------------------------------------------------------------------------------------------------------------


def _get(given: Parsed) -> None:
    many = given.flag("keys") or given.flag("recurse")
    if many and not given.rest:
        key = ""
    else:
        exactly(1, given.rest, _NO_KEY)
        key = given.rest[0].removeprefix("/")
    if not key and not many:
        raise Failed(_NO_KEY)
    client = client_of(given)
    with failing(_ASKING):
        if given.flag("keys"):
            _show_keys(given, client, key)
        elif given.flag("recurse"):
            _show_pairs(given, _pairs_below(client, key))
        else:
            _show_pair(given, key, _found(client.get(_path(key), accept=(200, 404))))


def _show_keys(given: Parsed, client: Client, prefix: str) -> None:
    keys = _found(client.get(_path(prefix), {"keys": True, "separator": given.text("separator")}, accept=(200, 404)))
    show(given, "\n".join(map(str, keys)), keys)


def _show_pairs(given: Parsed, pairs: list[dict[str, Any]]) -> None:
    if as_json(given):
        show_json(pairs)
    elif given.flag("detailed"):
        write_bytes(b"\n".join(_detailed(pair, encode=given.flag("base64")) for pair in pairs))
    else:
        for pair in pairs:
            write_bytes(f"{pair['Key']}:".encode() + _shown(pair, encode=given.flag("base64")) + b"\n")


def _show_pair(given: Parsed, key: str, pairs: list[dict[str, Any]]) -> None:
    if not pairs:
        raise Failed(f"Error! No key exists at: {key}")
    pair = pairs[0]
    if as_json(given):
        show_json(pair)
    elif given.flag("detailed"):
        write_bytes(_detailed(pair, encode=given.flag("base64")))
    else:
        write_bytes(_shown(pair, encode=given.flag("base64")) + b"\n")


def _shown(pair: dict[str, Any], *, encode: bool) -> bytes:
    value = _value(pair)
    return base64.b64encode(value) if encode else value


def _detailed(pair: dict[str, Any], *, encode: bool) -> bytes:
    names = ("CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex")
    rows = [*((name, str(pair[name])) for name in names), ("Session", pair.get("Session") or "-")]
    # The value may be any bytes, so it joins the row of its label only here.
    label = "Value".ljust(max(map(len, names)) + _LABEL_GAP).encode()
    return labelled(rows, _LABEL_GAP).encode() + b"\n" + (label + _shown(pair, encode=encode)).rstrip(b" ") + b"\n"


# --- put and delete -------------------------------------------------------------------------------------------------


def _put(given: Parsed) -> None:
    key, data = _key_and_data(given)
    params = _write_conditions(given)
    if given.flag("acquire") or given.flag("release"):
        if not given.text("session"):
            raise Failed("Error! Missing -session (required with -acquire and -release)")
        params["acquire" if given.flag("acquire") else "release"] = given.text("session")
    if given.number("flags"):
        params["flags"] = given.number("flags")
    with failing("Error! Failed writing data"):
        done = client_of(given).put(_path(key), data, params).json()
    if given.flag("acquire"):
        success, failure = f"Success! Lock acquired on: {key}", "Error! Did not acquire lock"
    elif given.flag("release"):
        success, failure = f"Success! Lock released on: {key}", "Error! Did not release lock"
    else:
        success, failure = f"Success! Data written to: {key}", f"Error! Did not write to {key}: CAS failed"
    if not done:
        raise Failed(failure)
    show(given, success, {"Key": key})


def _key_and_data(given: Parsed) -> tuple[str, bytes]:
    if not given.rest or not given.rest[0]:
        raise Failed(_NO_KEY)
    if len(given.rest) > 2:
        raise Failed(f"Error! Too many arguments (expected 1 or 2, got {len(given.rest)})")
    key = given.rest[0]
    if key.startswith("/"):
        raise Failed(f"Error! Failed writing data: Invalid key. Key must not begin with a '/': {key}")
    data = value_of(given.rest[1]) if len(given.rest) == 2 else b""
    return key, _decoded(data) if given.flag("base64") else data


def _decoded(data: bytes) -> bytes:
    try:
        return base64_text.decode(data.decode("latin-1").strip())
    except base64_text.NotBase64 as error:
        raise Failed(f"Error! Cannot base 64 decode data: {error}") from None


def _write_conditions(given: Parsed) -> dict[str, str | bool | int]:
    if not given.flag("cas"):
        return {}
    if not given.number("modify-index"):
        raise Failed("Must specify -modify-index with -cas!")
    return {"cas": given.number("modify-index")}


def _delete(given: Parsed) -> None:
    exactly(1, given.rest, _NO_KEY)
    key = given.rest[0].removeprefix("/")
    if not key and not given.flag("recurse"):
        raise Failed(_NO_KEY)
    params = _write_conditions(given)
    if given.flag("recurse") and given.flag("cas"):
        raise Failed("Cannot specify both -cas and -recurse!")
    client = client_of(given)
    if given.flag("recurse"):
        with failing(f"Error! Did not delete prefix {key}"):
            client.delete(_path(key), params={"recurse": True})
        show(given, f"Success! Deleted keys with prefix: {key}", {"Prefix": key})
        return
    with failing(f"Error deleting key {key}"):
        done = client.delete(_path(key), params=params).json()
    if not done:
        raise Failed(f"Error! Did not delete key {key}: CAS failed")
    show(given, f"Success! Deleted key: {key}", {"Key": key})


# --- export and import ----------------------------------------------------------------------------------------------


def _export(given: Parsed) -> None:
    if len(given.rest) > 1:
        raise Failed(f"Too many arguments (expected 1, got {len(given.rest)})")
    prefix = given.rest[0].removeprefix("/") if given.rest else ""
    with failing(_ASKING):
        pairs = _pairs_below(client_of(given), prefix)
    entries = [{"key": pair["Key"], "flags": pair["Flags"], "value": pair["Value"] or ""} for pair in pairs]
    print(json.dumps(entries, indent="\t", ensure_ascii=False))


def _import(given: Parsed) -> None:
    exactly(1, given.rest, "Error! Missing DATA argument")
    entries = _entries(value_of(given.rest[0]))
    client, prefix = client_of(given), given.text("prefix")
    done = []
    for key, flags, value in entries:
        name = f"{prefix.rstrip('/')}/{key}" if prefix else key
        with failing(f"Error! Failed writing data for key {name}"):
            client.put(_path(name), value, {"flags": flags or None})
        done.append({"Key": name})
        if not as_json(given):
            print(f"Imported: {name}")
    if as_json(given):
        show_json(done)


def _entries(data: bytes) -> Sequence[tuple[str, int, bytes]]:
    """Everything is checked before the first key is written."""
    try:
        document = json.loads(data)
        if not isinstance(document, list):
            raise ValueError("an array is expected")
        return [_entry(number, item) for number, item in enumerate(document)]
    except ValueError as error:
        raise Failed(f"Cannot unmarshal data: {error}") from None


def _entry(number: int, item: object) -> tuple[str, int, bytes]:
    """Raises `ValueError`."""
    if not isinstance(item, dict):
        raise ValueError(f"entry {number} is no object")
    key, flags, value = item.get("key"), item.get("flags", 0), item.get("value", "")
    if not isinstance(key, str) or not key:
        raise ValueError(f"entry {number} has no key")
    if not isinstance(flags, int) or not isinstance(value, str | None):
        raise ValueError(f"entry {number} ({key}): flags must be a number and value base64 text")
    try:
        return key, flags, base64_text.decode(value or "")
    except base64_text.NotBase64 as error:
        raise ValueError(f"entry {number} ({key}): the value is not base64: {error}") from None


_CAS_FLAGS: Final = (
    Flag("cas", Kind.BOOL, "Check-and-set: only if the key's ModifyIndex is the one given with -modify-index."),
    Flag("modify-index", Kind.UINT, "The ModifyIndex that -cas demands."),
)

KV: Final = Group(
    "kv",
    "Works with the key-value store",
    {
        "get": Action(
            "kv get [options] [KEY_OR_PREFIX]",
            "Shows the value of a key, or what is below a prefix",
            _get,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("base64", Kind.BOOL, "Show values in base64."),
                Flag("detailed", Kind.BOOL, "Show flags, indexes and session too."),
                Flag("keys", Kind.BOOL, "List the keys that begin with the prefix, without values."),
                Flag("recurse", Kind.BOOL, "Show all pairs whose key begins with the prefix."),
                Flag("separator", help="With -keys: fold keys after the next separator; empty for none.", default="/"),
            ),
        ),
        "put": Action(
            "kv put [options] KEY [DATA]",
            "Sets the value of a key",
            _put,
            (
                *SERVER_FLAGS,
                FORMAT,
                *_CAS_FLAGS,
                Flag("acquire", Kind.BOOL, "Acquire the key as a lock for the session given with -session."),
                Flag("release", Kind.BOOL, "Release the lock that the session given with -session holds on the key."),
                Flag("session", help="ID of the session, for -acquire and -release."),
                Flag("base64", Kind.BOOL, "DATA is base64; what it encodes is stored."),
                Flag("flags", Kind.UINT, "A number to store with the value."),
            ),
            "DATA is taken as it stands; @FILE stands for a file's content, - for what comes on stdin.",
        ),
        "delete": Action(
            "kv delete [options] KEY_OR_PREFIX",
            "Deletes a key, or all keys below a prefix",
            _delete,
            (*SERVER_FLAGS, FORMAT, *_CAS_FLAGS, Flag("recurse", Kind.BOOL, "Delete all keys that begin with the prefix.")),
        ),
        "export": Action(
            "kv export [options] [PREFIX]",
            "Writes the pairs below a prefix as JSON",
            _export,
            (*SERVER_FLAGS, JSON_ANYWAY),
        ),
        "import": Action(
            "kv import [options] DATA",
            "Stores pairs that kv export wrote",
            _import,
            (*SERVER_FLAGS, FORMAT, Flag("prefix", help="Store all keys below this prefix.")),
            "DATA is JSON; @FILE stands for a file's content, - for what comes on stdin.",
        ),
    },
    examples=("kv put config/port 8080", "kv get config/port", "kv get -recurse config/", "kv delete config/port"),
)

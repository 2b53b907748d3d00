"""`watch`: a part of the data, shown once, or handed to a program at every change."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from . import child
from .action import Action
from .client import Answer, Client, RequestError, client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed, Misused
from .flags import Flag, Kind, Parsed
from .output import JSON_ANYWAY, show_json

_NOT_FOUND: Final = 404
_FIRST_RETRY_SECONDS: Final = 5.0
_LONGEST_RETRY_SECONDS: Final = 180.0
_PAIR_FIELDS: Final = ("Key", "CreateIndex", "ModifyIndex", "LockIndex", "Flags", "Value", "Session")

_Params: TypeAlias = dict[str, str | bool | tuple[str, ...]]
_Target: TypeAlias = tuple[str, _Params]
"""Path and parameters."""


@dataclass(frozen=True, slots=True)
class _Type:
    target: Callable[[Parsed], _Target]
    options: frozenset[str] = frozenset()
    """The flags that mean something to this type."""
    shape: Callable[[Answer], Any] = Answer.json
    may_be_missing: bool = False
    """Whether 404 is an answer like any other."""
    opaque_index: bool = False
    """Whether the index is a mark that does not grow."""


# --- what can be watched --------------------------------------------------------------------------------------------


def _needed(given: Parsed, flag: str) -> str:
    if not given.text(flag):
        raise Failed(f"Must specify a single {flag} to watch")
    return given.text(flag)


def _service(given: Parsed) -> _Target:
    name, params = _needed(given, "service"), _Params(tag=given.texts("tag"))
    if _passing_only(given):
        params["passing"] = "1"
    return f"/v1/health/service/{name}", params


def _passing_only(given: Parsed) -> bool:
    text = given.text("passingonly")
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Failed(f'Failed to parse passingonly flag: strconv.ParseBool: parsing "{text}": invalid syntax')


def _checks(given: Parsed) -> _Target:
    service, state = given.text("service"), given.text("state")
    if service and state:
        raise Failed("Cannot specify service and state")
    return (f"/v1/health/checks/{service}" if service else f"/v1/health/state/{state or 'any'}"), {}


def _pairs(answer: Answer) -> list[dict[str, Any]] | None:
    if answer.status == _NOT_FOUND:
        return None
    return [{field: pair.get(field, "") for field in _PAIR_FIELDS} for pair in answer.json()]


def _pair(answer: Answer) -> dict[str, Any] | None:
    pairs = _pairs(answer)
    return pairs[0] if pairs else None


_TYPES: Final[Mapping[str, _Type]] = {
    "key": _Type(lambda given: (f"/v1/kv/{_needed(given, 'key')}", {}), frozenset({"key"}), _pair, may_be_missing=True),
    "keyprefix": _Type(
        lambda given: (f"/v1/kv/{_needed(given, 'prefix')}", {"recurse": True}),
        frozenset({"prefix"}),
        _pairs,
        may_be_missing=True,
    ),
    "services": _Type(lambda _: ("/v1/catalog/services", {})),
    "nodes": _Type(lambda _: ("/v1/catalog/nodes", {})),
    "service": _Type(_service, frozenset({"service", "tag", "passingonly"})),
    "checks": _Type(_checks, frozenset({"service", "state"})),
    "event": _Type(lambda given: ("/v1/event/list", {"name": given.text("name")}), frozenset({"name"}), opaque_index=True),
}
_OPTIONS: Final = ("key", "name", "passingonly", "prefix", "service", "state", "tag")


def _chosen(given: Parsed) -> tuple[_Type, _Target]:
    name = given.text("type")
    if not name:
        raise Misused("Watch type must be specified")
    if name not in _TYPES:
        raise Failed(f"Unsupported watch type: {name}")
    chosen = _TYPES[name]
    target = chosen.target(given)
    useless = [option for option in _OPTIONS if given.values[option] and option not in chosen.options]
    if useless:
        raise Failed(f"Invalid parameters: [{' '.join(useless)}]")
    return chosen, target


# --- watching -------------------------------------------------------------------------------------------------------


def _watch(given: Parsed) -> None:
    chosen, target = _chosen(given)
    client = client_of(given)
    with failing("Error querying Consul agent"):
        client.get("/v1/agent/self")
    with contextlib.suppress(KeyboardInterrupt), child.interruptible():
        for index, result in _results(given.text("type"), chosen, target, client):
            if not given.rest:
                show_json(result)
                return
            _hand_over(given, index, result)


def _results(name: str, chosen: _Type, target: _Target, client: Client) -> Iterator[tuple[int, Any]]:
    """Index and result, now and at every change. A read that fails is told and tried again, after longer and longer pauses."""
    accept = (200, _NOT_FOUND) if chosen.may_be_missing else (200,)
    index, failures, last, first = 0, 0, None, True
    while True:
        path, params = target
        try:
            answer = client.get(path, {**params, "index": str(index or "")}, accept=accept)
            result = chosen.shape(answer)
        except RequestError as error:
            failures += 1
            pause = min(_FIRST_RETRY_SECONDS * failures**2, _LONGEST_RETRY_SECONDS)
            print(f"Watch (type: {name}) errored: {error}, retry in {pause:.0f}s", file=sys.stderr, flush=True)
            index = 0
            time.sleep(pause)
            continue
        failures = 0
        # Never 0, which would ask without waiting.
        before, index = index, max(answer.index, 1)
        if first or (index != before and result != last):
            yield index, _new_events(result, before) if chosen.opaque_index else result
        if index < before and not chosen.opaque_index:
            # The servers were restored to an earlier state; an index of the future would wait for ever.
            index = 0
        first, last = False, result


def _new_events(events: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    """Those after the event that `index` marks; all if it is not among them any more."""
    for position, event in enumerate(events):
        if index and event_mark(event["ID"]) == index:
            return events[position + 1 :]
    return events


def event_mark(event_id: str) -> int:
    """The index that stands for an event: both halves of its UUID, one XOR the other."""
    number = int(event_id.replace("-", ""), 16)
    return (number >> 64) ^ (number & (2**64 - 1))


def _hand_over(given: Parsed, index: int, result: object) -> None:
    """Run the program with the result on its stdin; raises `Failed` if it fails."""
    process: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        if process is not None:
            child.send(process, signal.SIGTERM, own_group=True)

    text = json.dumps(result, separators=(",", ":"), ensure_ascii=False) + "\n"
    variables = {"CONSUL_INDEX": str(index)}
    with child.on_interrupt(stop):
        process = child.start(given.rest, shell=given.flag("shell"), stdin=subprocess.PIPE, variables=variables, own_group=True)
        if stopped:
            stop()
        # A program need not read what it is given; communicate passes over that.
        process.communicate(text.encode(errors="surrogateescape"))
    if stopped:
        raise KeyboardInterrupt
    if process.returncode:
        raise Failed(f"Error executing handler: {child.ending(process.returncode)}")


WATCH: Final = Action(
    "watch [options] -type=TYPE [child...]",
    "Shows a part of the data, or runs a program now and at every change, with the data as JSON on its stdin",
    _watch,
    (
        *SERVER_FLAGS,
        JSON_ANYWAY,
        Flag("type", help=f"What to watch: {', '.join(_TYPES)}."),
        Flag("key", help="With -type=key: the key."),
        Flag("prefix", help="With -type=keyprefix: the prefix."),
        Flag("service", help="With -type=service, and possibly with -type=checks: the service."),
        Flag("tag", Kind.LIST, "With -type=service: only instances with this tag. May be repeated."),
        Flag("passingonly", help="With -type=service: only instances whose checks all pass.", metavar="true|false"),
        Flag("state", help="With -type=checks: only checks in this state."),
        Flag("name", help="With -type=event: only events of this name."),
        Flag("shell", Kind.BOOL, "Run the program by a shell.", default=True),
    ),
    "CONSUL_INDEX tells the program the index of the data.",
)

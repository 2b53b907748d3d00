"""`services drain`: takes instances out of use so that nobody notices: out of health and DNS first, deregistered later."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from discovery.model.duration import Duration

from .action import Action
from .client import Client, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show_json
from .values import exactly

_LOOK_EVERY: Final = 0.25
"""Seconds."""


def _drain(given: Parsed) -> None:
    exactly(1, given.rest, "The name of a service, or the ID of an instance, is needed")
    client, wait = client_of(given), given.duration("wait")
    ids = _instances(client, given.rest[0])
    for service_id in ids:
        with failing(f'Error draining "{service_id}"'):
            client.put(f"/v1/agent/service/drain/{service_id}", params={"wait": f"{wait}", "reason": given.text("reason")})
        if not as_json(given):
            print(f"Draining: {service_id} (deregistered in {wait})", flush=True)
    if not given.flag("detach"):
        _await_end(client, ids)
    if as_json(given):
        show_json([{"ID": service_id, "Deregistered": not given.flag("detach")} for service_id in ids])
    elif not given.flag("detach"):
        print("\n".join(f"Deregistered service: {service_id}" for service_id in ids))


def _instances(client: Client, name: str) -> list[str]:
    """The agent's instances of that service, or the one with that ID."""
    with failing("Error reading the agent's services"):
        services = client.get("/v1/agent/services").json()
    ids = sorted(service_id for service_id, service in services.items() if name in (service["Service"], service_id))
    if not ids:
        raise Failed(f'The agent has no service "{name}"')
    return ids


def _await_end(client: Client, ids: Sequence[str]) -> None:
    while True:
        with failing("Error reading the agent's services"):
            present = client.get("/v1/agent/services").json()
        if not any(service_id in present for service_id in ids):
            return
        time.sleep(_LOOK_EVERY)


@dataclass(frozen=True, slots=True)
class _NameFirst(Action):
    """The one argument may also come before the flags."""

    def __call__(self, arguments: Sequence[str]) -> int:
        if arguments and not arguments[0].startswith("-"):
            arguments = [*arguments[1:], arguments[0]]
        return Action.__call__(self, arguments)


DRAIN: Final = _NameFirst(
    "services drain [options] SERVICE",
    "Takes the agent's instances of a service out of health and DNS at once, and deregisters them after a while",
    _drain,
    (
        *AGENT_FLAGS,
        FORMAT,
        Flag("wait", Kind.DURATION, "How long those who know the address may go on.", Duration.from_seconds(30)),
        Flag("reason", help="Why, for others to read."),
        Flag("detach", Kind.BOOL, "Do not wait for the end. The agent goes on by itself in either case."),
    ),
    "Ending the service's maintenance (`maint -disable`) ends the draining.",
)

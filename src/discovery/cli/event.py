"""`event`: user events, sent to all agents of a datacenter."""

from typing import Final

from .action import Action
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed, Misused
from .flags import Flag, Parsed
from .output import FORMAT, show
from .patterns import compile_pattern


def _event(given: Parsed) -> None:
    name = given.text("name")
    if not name:
        raise Misused("Event name must be specified")
    if len(given.rest) > 1:
        raise Misused("Too many command line arguments.")
    filters = {kind: given.text(kind) for kind in ("node", "service", "tag")}
    for kind, text in filters.items():
        compile_pattern(f"{kind} filter", text)
    if filters["tag"] and not filters["service"]:
        raise Failed("Cannot provide tag filter without service filter.")
    payload = given.rest[0].encode(errors="surrogateescape") if given.rest else b""
    with failing("Error firing event"):
        fired = client_of(given).put(f"/v1/event/fire/{name}", payload, filters).json()
    show(given, f"Event ID: {fired['ID']}", fired)


EVENT: Final = Action(
    "event [options] -name=NAME [payload]",
    "Fires a user event",
    _event,
    (
        *SERVER_FLAGS,
        FORMAT,
        Flag("name", help="Name of the event."),
        Flag("node", help="Only agents whose node name matches this regular expression."),
        Flag("service", help="Only agents with a service whose name matches this regular expression."),
        Flag("tag", help="With -service: and that has a tag that matches this one."),
    ),
)

"""`monitor`: the log of an agent as it is written."""

import http.client
import sys
from typing import Final

from . import child
from .action import Action
from .client import Client, Params, client_of, failing
from .endpoint import AGENT_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json

_ENDED: Final = "The agent ended the stream: it has stopped, or is no longer reachable."


def _monitor(given: Parsed) -> int:
    params = {"loglevel": given.text("log-level"), "logjson": "true" if given.flag("log-json") or as_json(given) else ""}
    try:
        with child.interruptible(), failing("Error starting monitor"):
            _copy(client_of(given), params)
    except KeyboardInterrupt:
        return 0
    raise Failed(_ENDED)


def _copy(client: Client, params: Params) -> None:
    with client.stream("/v1/agent/monitor", params) as lines:
        while line := _next_line(lines):
            sys.stdout.write(line.decode(errors="replace"))
            sys.stdout.flush()


def _next_line(lines: http.client.HTTPResponse) -> bytes:
    """Empty at the end, of whatever kind."""
    try:
        return lines.readline()
    except (OSError, http.client.HTTPException):
        return b""


MONITOR: Final = Action(
    "monitor [options]",
    "Streams the log of an agent until interrupted",
    _monitor,
    (
        *AGENT_FLAGS,
        FORMAT,
        Flag("log-level", help="The least level shown: trace, debug, info, warn, err.", default="INFO"),
        Flag("log-json", Kind.BOOL, "Show each line as a JSON object."),
    ),
)

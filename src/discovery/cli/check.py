"""`check`: the checks of one agent."""

from typing import Final

from .action import Action, Group
from .client import client_of, failing
from .endpoint import AGENT_FLAGS
from .flags import Parsed
from .output import FORMAT, show
from .values import exactly


def _run(given: Parsed) -> int:
    exactly(1, given.rest, "The ID of a check is needed")
    with failing(f'Error running check "{given.rest[0]}"'):
        found = client_of(given).put(f"/v1/agent/check/run/{given.rest[0]}").json()
    text = f"{found['CheckID']}: {found['Status']}"
    if found["Published"] != found["Status"]:
        text += f" (shown as {found['Published']}: see the check's thresholds)"
    show(given, f"{text}\n{found['Output']}".rstrip(), found)
    return 2 if found["Status"] == "critical" else 0


CHECK: Final = Group(
    "check",
    "Works with the checks of an agent",
    {
        "run": Action(
            "check run [options] CHECK_ID",
            "Runs a check now, besides its schedule, and shows what it finds",
            _run,
            (*AGENT_FLAGS, FORMAT),
            "The exit code is 2 if the check is critical.",
        ),
    },
    examples=("check run service:web",),
)

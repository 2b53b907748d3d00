"""`info` and `reload`: an agent's own figures, and its configuration read again."""

from typing import Any, Final

from .action import Action
from .client import client_of, failing
from .endpoint import AGENT_FLAGS
from .flags import Parsed
from .output import FORMAT, show


def _info(given: Parsed) -> None:
    with failing("Error querying agent"):
        sections: dict[str, dict[str, Any]] = client_of(given).get("/v1/agent/self").json()["Stats"]
    lines = []
    for name, section in sorted(sections.items()):
        lines += [f"{name}:", *(f"\t{key} = {value}" for key, value in sorted(section.items()))]
    show(given, "\n".join(lines), sections)


def _reload(given: Parsed) -> None:
    with failing("Error reloading"):
        client_of(given).put("/v1/agent/reload")
    show(given, "Configuration reload triggered", {"Reloaded": True})


INFO: Final = Action("info [options]", "Shows what an agent tells about itself", _info, (*AGENT_FLAGS, FORMAT))

RELOAD: Final = Action("reload [options]", "Makes an agent read its configuration files again", _reload, (*AGENT_FLAGS, FORMAT))

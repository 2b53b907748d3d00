"""`version`."""

from typing import Final

from discovery import __version__
from discovery.daemon.info import COMPATIBLE_VERSION

from .action import Action
from .flags import Parsed, program
from .output import FORMAT, as_json, json_text

_PROTOCOL: Final = {"Default": 2, "Min": 2, "Max": 3}
_JSON_INDENT: Final = 3


def _version(given: Parsed) -> None:
    if as_json(given):
        document = {"Version": COMPATIBLE_VERSION, "Revision": __version__, "Prerelease": "", "RPC": _PROTOCOL}
        print(json_text(document, _JSON_INDENT))
        return
    if program() == "consul":
        print(f"Consul v{COMPATIBLE_VERSION}\nRevision {__version__} (discovery)")
    else:
        print(f"Discovery v{__version__}\nCompatible with Consul v{COMPATIBLE_VERSION}")
    print(
        f"Protocol {_PROTOCOL['Default']} spoken by default, understands {_PROTOCOL['Min']} to {_PROTOCOL['Max']} "
        f"(agent will automatically use protocol >{_PROTOCOL['Default']} when speaking to compatible agents)\n"
    )


VERSION: Final = Action(
    "version [options]",
    "Shows the version of this program and of the Consul release that it behaves like",
    _version,
    (FORMAT,),
)

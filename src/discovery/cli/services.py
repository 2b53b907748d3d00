"""`services`: what this agent says it runs."""

import sys
from pathlib import Path
from typing import Any, Final

from discovery.config.load import read_services
from discovery.config.read import FORMATS
from discovery.config.tree import ConfigError

from .action import Action, Group
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show_json
from .services_drain import DRAIN
from .services_zombies import ZOMBIES


def _register(given: Parsed) -> None:
    if not given.rest and not given.text("name"):
        raise Failed("Service registration requires at least one argument or flags.")
    if given.rest and given.text("name"):
        raise Failed("Service registration requires arguments or -id, not both.")
    services = _from_files(given.rest) if given.rest else [_from_flags(given)]
    client, done = client_of(given), []
    for service in services:
        name = service.get("Name", "")
        with failing(f'Error registering service "{name}"'):
            client.put("/v1/agent/service/register", service)
        done.append({"ID": service.get("ID") or name, "Service": name})
        if not as_json(given):
            print(f"Registered service: {name}")
    if as_json(given):
        show_json(done)


def _deregister(given: Parsed) -> None:
    if not given.rest and not given.text("id"):
        raise Failed("Service deregistration requires at least one argument or -id.")
    if given.rest and given.text("id"):
        raise Failed("Service deregistration requires arguments or -id, not both.")
    services = _from_files(given.rest) if given.rest else [{"ID": given.text("id")}]
    client, done = client_of(given), []
    for service in services:
        service_id = service.get("ID") or service.get("Name", "")
        with failing(f'Error deregistering service "{service_id}"'):
            if node := given.text("node"):
                client.put("/v1/catalog/deregister-everywhere", {"Node": node, "ServiceID": service_id})
            else:
                client.put(f"/v1/agent/service/deregister/{service_id}")
        done.append({"ID": service_id})
        if not as_json(given):
            print(f"Deregistered service: {service_id}")
    if as_json(given):
        show_json(done)


# --- definitions ----------------------------------------------------------------------------------------------------


def _from_files(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The service definitions of all files; what is wrong in any of them ends the command before a request is made."""
    return [service for name in names for service in _read(Path(name))]


def _read(path: Path) -> list[dict[str, Any]]:
    if path.is_file() and path.suffix.removeprefix(".") not in FORMATS:
        print(f"skipping file {path}, extension must be .hcl or .json", file=sys.stderr)
    try:
        return read_services(path)
    except ConfigError as error:
        raise Failed(f"Error: {error}") from None


def _from_flags(given: Parsed) -> dict[str, Any]:
    fields = {
        "Kind": given.text("kind"),
        "ID": given.text("id"),
        "Name": given.text("name"),
        "Tags": list(given.texts("tag")),
        "Port": given.number("port"),
        "Address": given.text("address"),
        "TaggedAddresses": {tag: _tagged_address(address) for tag, address in given.pairs("tagged-address").items()},
        "Meta": given.pairs("meta"),
    }
    return {name: value for name, value in fields.items() if value}


def _tagged_address(text: str) -> dict[str, str | int]:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise Failed(f"Invalid Tagged Address: address {text}: missing port in address")
    if not port.isdecimal():
        raise Failed(f'Invalid Tagged Address: address {text}: "{port}" is no port')
    return {"Address": host.strip("[]"), "Port": int(port)}


SERVICES: Final = Group(
    "services",
    "Registers, drains and deregisters services of one agent; for those of the whole cluster see `catalog`",
    {
        "register": Action(
            "services register [options] [FILE...]",
            "Registers services with the agent",
            _register,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("name", help="Name of the service."),
                Flag("id", help="ID of the instance; otherwise its name."),
                Flag("address", help="Address of the instance; otherwise that of the node."),
                Flag("port", Kind.INT, "Port of the instance."),
                Flag("tag", Kind.LIST, "A tag. May be repeated."),
                Flag("meta", Kind.PAIRS, "Metadata. May be repeated."),
                Flag("kind", help="Kind of the service, for proxies and gateways."),
                Flag(
                    "tagged-address",
                    Kind.PAIRS,
                    "Another address by name, with its port. May be repeated.",
                    metavar="name=address:port",
                ),
            ),
            "The services come from files in configuration syntax (HCL or JSON), or from the options.",
        ),
        "deregister": Action(
            "services deregister [options] [FILE...]",
            "Deregisters services from the agent",
            _deregister,
            (
                *SERVER_FLAGS,
                FORMAT,
                Flag("id", help="ID of the instance."),
                Flag(
                    "node",
                    help="Node whose agent has it, if that is not the agent asked. That agent removes it, too, now or "
                    "when it comes back.",
                ),
            ),
        ),
        "drain": DRAIN,
        "zombies": ZOMBIES,
    },
    examples=("services register -name=web -port=8080", "services register web.hcl", "services deregister -id=web"),
)

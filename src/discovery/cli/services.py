"""`services`: what this agent says it runs."""

import sys
from pathlib import Path
from typing import Any, Final

from discovery.config import decode, hcl, json_text
from discovery.config.tree import ConfigError, Document

from .action import Action, Group
from .client import client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed, file_error
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show_json

_READERS: Final = {".hcl": hcl.parse, ".json": json_text.parse}


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
            client.put(f"/v1/agent/service/deregister/{service_id}")
        done.append({"ID": service_id})
        if not as_json(given):
            print(f"Deregistered service: {service_id}")
    if as_json(given):
        show_json(done)


# --- definitions ----------------------------------------------------------------------------------------------------


def _from_files(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The service definitions of all files; what is wrong in any of them ends the command before a request is made."""
    return [service for name in names for path in _files(Path(name)) for service in _read(path)]


def _files(path: Path) -> list[Path]:
    candidates = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    chosen = [one for one in candidates if one.suffix in _READERS or not one.exists()]
    for one in candidates:
        if one not in chosen:
            print(f"{one} is left out: its name must end in .hcl or .json", file=sys.stderr)
    return chosen


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text()
        document = Document(str(path), text, _READERS[path.suffix](str(path), text))
        decoded = decode.decode(document)
    except OSError as error:
        raise Failed(f"Error: config: Open failed on {path}. {file_error('open', error)}") from None
    except (ConfigError, UnicodeDecodeError) as error:
        raise Failed(f"Error: {error}") from None
    for warning in decoded.warnings:
        print(warning, file=sys.stderr)
    services = decoded.settings.get("services")
    return list(services.value) if services is not None and isinstance(services.value, list) else []


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
    "Registers and deregisters services of one agent; for those of the whole cluster see `catalog`",
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
            (*SERVER_FLAGS, FORMAT, Flag("id", help="ID of the instance.")),
        ),
    },
    examples=("services register -name=web -port=8080", "services register web.hcl", "services deregister -id=web"),
)

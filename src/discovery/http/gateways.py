"""Which services a gateway stands for: read out of its central configuration entry."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from discovery.model.naming import always
from discovery.model.records import CONSUL_SERVICE, Record
from discovery.model.requests import (
    ConfigEntryQuery,
    IndexedCheckServiceNodes,
    IndexedConfigEntries,
    QueryMeta,
    ServiceDumpRequest,
)

from .call import Call

INGRESS: Final = "ingress-gateway"
TERMINATING: Final = "terminating-gateway"
_WILDCARD: Final = "*"


class Named(Record, frozen=True):
    name: str


class GatewayService(Record, frozen=True, kw_only=True):
    """One service behind a gateway, in Consul's order."""

    gateway: Named
    service: Named
    gateway_kind: str
    port: int = 0
    protocol: str = ""
    hosts: list[str] | None = None
    ca_file: str = msgspec.field(name="CAFile", default="")
    cert_file: str = ""
    key_file: str = ""
    sni: str = msgspec.field(name="SNI", default="")
    from_wildcard: bool = False
    create_index: int = always(int)
    modify_index: int = always(int)


async def services_of(call: Call, gateway: str) -> tuple[list[GatewayService] | None, QueryMeta]:
    """The services behind `gateway` by name; None where no entry says what it is."""
    reply = await _entry_of(call, gateway)
    if not reply.entries:
        return None, reply
    entry: dict[str, Any] = reply.entries[0]
    found = list(_behind(entry))
    if any(service.service.name == _WILDCARD for service in found):
        found = list(_spread(found, await _all_services(call)))
    return sorted(found, key=lambda service: (service.service.name, service.port)), reply


async def _entry_of(call: Call, gateway: str) -> IndexedConfigEntries:
    """The entry of either kind. Waits for the one that is there, else for an ingress gateway to appear."""
    for kind in (INGRESS, TERMINATING):
        present = await _ask(call, kind, gateway, call.scope())
        if present.entries:
            return await _ask(call, kind, gateway, call.read())
    return await _ask(call, INGRESS, gateway, call.read())


async def _ask(call: Call, kind: str, name: str, options: dict[str, Any]) -> IndexedConfigEntries:
    reply: IndexedConfigEntries = await call.ask("ConfigEntry.Get", ConfigEntryQuery(kind=kind, name=name, **options))
    return reply


async def _all_services(call: Call) -> list[str]:
    """Those that a wildcard stands for: neither proxies nor gateways."""
    request = ServiceDumpRequest(use_service_kind=True, **call.scope())
    reply: IndexedCheckServiceNodes = await call.ask("Internal.ServiceDump", request)
    return sorted({instance.service.service for instance in reply.nodes} - {CONSUL_SERVICE})


def _behind(entry: dict[str, Any]) -> Iterator[GatewayService]:
    indexes = {"create_index": entry["CreateIndex"], "modify_index": entry["ModifyIndex"]}
    gateway = Named(entry["Name"])
    if entry["Kind"] == TERMINATING:
        for linked in entry.get("Services") or ():
            yield GatewayService(
                gateway=gateway,
                service=Named(linked["Name"]),
                gateway_kind=TERMINATING,
                ca_file=linked.get("CAFile", ""),
                cert_file=linked.get("CertFile", ""),
                key_file=linked.get("KeyFile", ""),
                sni=linked.get("SNI", ""),
                **indexes,
            )
        return
    for listener in entry.get("Listeners") or ():
        for service in listener.get("Services") or ():
            yield GatewayService(
                gateway=gateway,
                service=Named(service["Name"]),
                gateway_kind=INGRESS,
                port=listener["Port"],
                protocol=listener["Protocol"],
                hosts=service.get("Hosts") or None,
                **indexes,
            )


def _spread(found: Iterable[GatewayService], names: Iterable[str]) -> Iterator[GatewayService]:
    """With a wildcard replaced by the services that are not named themselves."""
    found = list(found)
    named = {service.service.name for service in found}
    for service in found:
        if service.service.name != _WILDCARD:
            yield service
            continue
        for name in names:
            if name not in named:
                yield msgspec.structs.replace(service, service=Named(name), from_wildcard=True)

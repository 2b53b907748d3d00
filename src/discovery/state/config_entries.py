"""Central configuration documents, kept as they were given: what they mean is up to proxies and gateways."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from discovery.model.discovery_chain import Chain, ChainOverrides
from discovery.model.errors import RequestFailed
from discovery.model.query import Read, Topic
from discovery.model.requests import ConfigEntryRequest
from discovery.model.service_rules import INGRESS_GATEWAY, TERMINATING_GATEWAY

from .chains import CHAIN_KINDS, PROTOCOL_KINDS, Entry, affected_services, check_chain, compile_chain, protocol_of
from .lookup import fold
from .tables import Changes, Table, Topics

CONFIG_ENTRIES: Final = ("config-entries",)

WILDCARD: Final = "*"

_INDEXES: Final = ("CreateIndex", "ModifyIndex")


def kind_topic(kind: str) -> Topic:
    return ("config-kind", kind)


def entry_topic(kind: str, name: str) -> Topic:
    return ("config-entry", kind, name)


class ConfigEntries:
    """By kind and name."""

    def __init__(self, changes: Changes, topics: Topics) -> None:
        self.table: Table[tuple[str, str], Entry] = Table(changes)
        self._changes = changes
        self._topics = topics

    def apply(self, request: ConfigEntryRequest) -> bool:
        """Whether the condition of a `cas` held; else true."""
        key = (request.kind, fold(request.name))
        if request.op == "delete":
            self._delete(key, request.datacenter)
            return True
        if request.op not in ("upsert", "upsert-cas", "delete-cas"):
            raise RequestFailed(f"Invalid config entry operation '{request.op}'")
        known = self.table.rows.get(key)
        if request.op == "delete-cas":
            met = known is not None and known["ModifyIndex"] == request.cas
            if met:
                self._delete(key, request.datacenter)
            return met
        if request.op == "upsert-cas" and (known["ModifyIndex"] if known is not None else 0) != request.cas:
            return False
        content = {"Kind": request.kind, "Name": request.name, **(request.entry or {})}
        self._put(key, {name: value for name, value in content.items() if name not in _INDEXES}, known)
        self._check(key, request.datacenter)
        return True

    def _put(self, key: tuple[str, str], content: dict[str, Any], known: Entry | None) -> None:
        index = self._changes.index
        if known is not None and content == {name: value for name, value in known.items() if name not in _INDEXES}:
            return
        created = known["CreateIndex"] if known is not None else index
        self.table.put(key, {**content, "CreateIndex": created, "ModifyIndex": index})
        self._topics.touch(CONFIG_ENTRIES, kind_topic(key[0]), entry_topic(*key))

    def _delete(self, key: tuple[str, str], datacenter: str) -> None:
        if key in self.table.rows:
            self.table.remove(key)
            self._topics.touch(CONFIG_ENTRIES, kind_topic(key[0]))
            self._topics.end(entry_topic(*key))
            self._check(key, datacenter)

    def _check(self, key: tuple[str, str], datacenter: str) -> None:
        """Refuse a change after which documents contradict each other, or could not be understood."""
        try:
            self._check_chains(key, datacenter)
            self._check_gateway(key)
        except (AttributeError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            # The leader lets no malformed document into the log; if one gets there all the same, it must not stop the servers.
            raise RequestFailed(f"malformed configuration entry: {error!r}") from None

    def _check_chains(self, key: tuple[str, str], datacenter: str) -> None:
        """Refuse a change after which some service's documents contradict each other."""
        kind, name = key
        if kind not in CHAIN_KINDS and kind not in PROTOCOL_KINDS:
            return
        entries = (entry for (other, _), entry in self.table.rows.items() if other in CHAIN_KINDS)
        for service in affected_services(kind, name, entries):
            check_chain(self._find, service, datacenter)

    def _check_gateway(self, key: tuple[str, str]) -> None:
        """Refuse an ingress gateway that would speak otherwise than the services behind it; these may change later."""
        gateway = self.table.rows.get(key)
        if gateway is None or key[0] not in (INGRESS_GATEWAY, TERMINATING_GATEWAY) or not list(_linked(gateway)):
            return
        for listener in gateway.get("Listeners") or ():
            for service in (service["Name"] for service in listener.get("Services") or ()):
                spoken = protocol_of(self._find, service)
                if service != WILDCARD and spoken != listener["Protocol"]:
                    raise RequestFailed(
                        f'service "{service}" has protocol "{spoken}", which does not match defined listener protocol '
                        f'"{listener["Protocol"]}"'
                    )

    def _find(self, kind: str, name: str) -> Entry | None:
        return self.table.rows.get((kind, fold(name)))

    def get(self, kind: str, name: str) -> Read[Entry | None]:
        return self._topics.read(self._find(kind, name), entry_topic(kind, fold(name)))

    def chain(self, service: str, datacenter: str, overrides: ChainOverrides) -> Read[Chain]:
        """The discovery chain of a service as seen from a datacenter."""
        return self._topics.read(compile_chain(self._find, service, datacenter, overrides), CONFIG_ENTRIES)

    def list_kind(self, kind: str) -> Read[list[Entry]]:
        """Those of a kind; all for an empty one."""
        found = [entry for key, entry in sorted(self.table.rows.items(), key=lambda row: row[0]) if kind in ("", key[0])]
        return self._topics.read(found, kind_topic(kind) if kind else CONFIG_ENTRIES)

    def gateways_of(self, kind: str, service: str) -> list[str]:
        """Names of the gateways of a kind that stand for a service (or the wildcard) by its name. All names are folded."""
        entries = sorted((name, entry) for (other, name), entry in self.table.rows.items() if other == kind)
        return [name for name, entry in entries if any(fold(given) == service for given in _linked(entry))]

    def load(self, rows: Iterable[Entry]) -> None:
        """`ValueError` if an entry lacks what all have."""
        for entry in rows:
            if not {"Kind", "Name", "CreateIndex", "ModifyIndex"} <= entry.keys():
                raise ValueError("an entry is incomplete")
            self.table.load({(entry["Kind"], fold(entry["Name"])): entry})


def _linked(gateway: Entry) -> Iterable[str]:
    """Names of the services behind a gateway: an ingress gateway has them by listener."""
    for listener in gateway.get("Listeners") or () if gateway["Kind"] == INGRESS_GATEWAY else (gateway,):
        for service in listener.get("Services") or ():
            yield str(service.get("Name", ""))

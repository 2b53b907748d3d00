"""Central configuration documents, kept as they were given: what they mean is up to proxies and gateways."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from discovery.model.errors import RequestFailed
from discovery.model.query import Read
from discovery.model.requests import ConfigEntryRequest

from .lookup import fold
from .tables import Changes, Indexes, Table

CONFIG_ENTRIES: Final = "config-entries"

Entry = Mapping[str, Any]
"""A document with Go's field names."""

_HTTP_PROTOCOLS: Final = frozenset({"http", "http2", "grpc"})
_ROUTING_KINDS: Final = frozenset({"service-router", "service-splitter"})


class ConfigEntries:
    """By kind and name."""

    def __init__(self, changes: Changes, indexes: Indexes) -> None:
        self.table: Table[tuple[str, str], Entry] = Table(changes)
        self._changes = changes
        self._indexes = indexes

    def apply(self, request: ConfigEntryRequest) -> bool:
        """Whether the condition of `upsert-cas` held; else true."""
        key = (request.kind, request.name)
        if request.op == "delete":
            self._delete(key)
            return True
        if request.op not in ("upsert", "upsert-cas"):
            raise RequestFailed(f"Invalid config entry operation '{request.op}'")
        known = self.table.rows.get(key)
        if request.op == "upsert-cas" and (known["ModifyIndex"] if known is not None else 0) != request.cas:
            return False
        self._put(key, request.entry or {}, known)
        return True

    def _put(self, key: tuple[str, str], entry: Entry, known: Entry | None) -> None:
        if key[0] in _ROUTING_KINDS and self._protocol(key[1]) not in _HTTP_PROTOCOLS:
            protocol = self._protocol(key[1])
            raise RequestFailed(
                f'discovery chain "{key[1]}" uses a protocol "{protocol}" that does not permit '
                "advanced routing or splitting behavior"
            )
        index = self._changes.index
        document = {name: value for name, value in entry.items() if name not in ("CreateIndex", "ModifyIndex")}
        document["CreateIndex"] = known["CreateIndex"] if known is not None else index
        document["ModifyIndex"] = index
        self.table.put(key, document)
        self._touch(key)

    def _delete(self, key: tuple[str, str]) -> None:
        if key in self.table.rows:
            self.table.remove(key)
            self._touch(key)

    def _touch(self, key: tuple[str, str]) -> None:
        self._indexes.move(CONFIG_ENTRIES)
        self._changes.topics += [(CONFIG_ENTRIES,), ("config-entry", *key)]

    def _protocol(self, service: str) -> str:
        """What a service speaks: its own setting, else that of all proxies, else plain TCP."""
        own = self.table.rows.get(("service-defaults", service), {}).get("Protocol")
        common = self.table.rows.get(("proxy-defaults", "global"), {}).get("Config")
        return str(own or (common or {}).get("protocol") or "tcp")

    def get(self, kind: str, name: str) -> Read[Entry | None]:
        key = (kind, name)
        return Read(self._indexes.newest(CONFIG_ENTRIES), self.table.rows.get(key), (("config-entry", *key),))

    def list_kind(self, kind: str) -> Read[list[Entry]]:
        """Those of a kind; all for an empty one."""
        found = [entry for key, entry in sorted(self.table.rows.items(), key=lambda row: row[0]) if kind in ("", key[0])]
        return Read(self._indexes.newest(CONFIG_ENTRIES), found, ((CONFIG_ENTRIES,),))

    def ingress_gateways_of(self, service: str) -> list[str]:
        """Names of the ingress gateways that expose a service; `service` is folded."""
        entries = sorted((name, entry) for (kind, name), entry in self.table.rows.items() if kind == "ingress-gateway")
        return [name for name, entry in entries if any(fold(given) in (service, "*") for given in _exposed(entry))]

    def load(self, rows: Iterable[Entry]) -> None:
        self.table.load({(entry["Kind"], entry["Name"]): entry for entry in rows})


def _exposed(gateway: Entry) -> Iterable[str]:
    for listener in gateway.get("Listeners") or ():
        for service in listener.get("Services") or ():
            yield str(service.get("Name", ""))

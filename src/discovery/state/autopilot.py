"""Autopilot's settings: one record."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from discovery.model.query import Read
from discovery.model.records import AutopilotConfig

from .tables import Changes, Table, Topics

AUTOPILOT: Final = ("autopilot",)
_KEY: Final = "autopilot"


class Autopilot:
    def __init__(self, changes: Changes, topics: Topics) -> None:
        self.table: Table[str, AutopilotConfig] = Table(changes)
        self._changes = changes
        self._topics = topics

    @property
    def _known(self) -> AutopilotConfig | None:
        return self.table.rows.get(_KEY)

    def set(self, config: AutopilotConfig, *, cas: bool) -> bool:
        """With `cas` only if `config.modify_index` is that of the stored settings; whether it was."""
        known = self._known
        if cas and (known is None or known.modify_index != config.modify_index):
            return False
        index = self._changes.index
        created = known.create_index if known is not None else index
        self.table.put(_KEY, replace(config, create_index=created, modify_index=index))
        self._topics.touch(AUTOPILOT)
        return True

    def get(self) -> Read[AutopilotConfig | None]:
        return self._topics.read(self._known, AUTOPILOT)

    def load(self, rows: Iterable[AutopilotConfig]) -> None:
        for row in rows:
            self.table.load({_KEY: row})

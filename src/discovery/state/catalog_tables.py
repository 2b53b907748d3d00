"""The tables of the catalog, with what is derived from their rows."""

from collections.abc import Collection

from discovery.model.records import PASSING, HealthCheck, Node, NodeService

from .lookup import fold
from .ordered import OrderedRows
from .services import connect_name
from .tables import Changes, Group, Table

Key = tuple[str, str]
"""Folded node name, then folded service id or check id."""


class NodeTable(Table[str, Node]):
    """Nodes by folded name, and the names by folded id."""

    def __init__(self, changes: Changes) -> None:
        self._names_of_id: OrderedRows[tuple[str, ...]] = OrderedRows()
        super().__init__(changes)

    def _place(self, key: str, old: Node | None, new: Node | None) -> None:
        super()._place(key, old, new)
        was, now = fold(old.id) if old is not None else "", fold(new.id) if new is not None else ""
        if was == now:
            return
        if was:
            self._set_names(was, tuple(name for name in self._names_of_id.rows[was] if name != key))
        if now:
            self._set_names(now, (*(self._names_of_id.rows.get(now) or ()), key))

    def _set_names(self, node_id: str, names: tuple[str, ...]) -> None:
        if names:
            self._names_of_id.put(node_id, names)
        else:
            self._names_of_id.remove(node_id)

    def with_id(self, node_id: str) -> Node | None:
        names = self._names_of_id.rows.get(fold(node_id)) if node_id else None
        return self.rows[min(names)] if names else None

    def with_id_from(self, start: str) -> Node | None:
        """The only node whose id begins with `start`, folded; None if there are several."""
        ids = self._names_of_id.under(start)
        first, second = next(ids, None), next(ids, None)
        return self.with_id(first) if first is not None and second is None else None


class ServiceTable(Table[Key, NodeService]):
    """`tags` counts by service name, as spelt, how many instances have a tag; None stands for the name itself."""

    def __init__(self, changes: Changes) -> None:
        self.on_node: Group[str, Key, NodeService] = Group(lambda key, _service: (key[0],), by_key=True)
        self.named: Group[str, Key, NodeService] = Group(lambda _key, service: (fold(service.service),))
        self.connect: Group[str, Key, NodeService] = Group(_connect_names)
        self.tags: dict[str, dict[str | None, int]] = {}
        self.turned: dict[tuple[str, str | None], int] = {}
        """Names and tags that have come (1) or gone (-1) since this was last emptied, and not gone or come again."""
        super().__init__(changes, self.on_node, self.named, self.connect)

    def _place(self, key: Key, old: NodeService | None, new: NodeService | None) -> None:
        super()._place(key, old, new)
        if old is not None and new is not None and old.service == new.service:
            if old.tags != new.tags:
                self._count(new.service, set(new.tags) - set(old.tags), 1)
                self._count(new.service, set(old.tags) - set(new.tags), -1)
            return
        if new is not None:
            self._count(new.service, {None, *new.tags}, 1)
        if old is not None:
            self._count(old.service, {None, *old.tags}, -1)

    def any_named(self, name: str) -> NodeService | None:
        """Some instance of a service; `name` is folded."""
        key = next(iter(self.named[name]), None)
        return None if key is None else self.rows[key]

    def _count(self, name: str, tags: Collection[str | None], change: int) -> None:
        """One instance more or less has `tags`."""
        counts = self.tags.setdefault(name, {})
        for tag in tags:
            count = counts.get(tag, 0) + change
            if count:
                counts[tag] = count
            else:
                del counts[tag]
            if count == max(change, 0):
                self._turn((name, tag), change)
        if not counts:
            del self.tags[name]

    def _turn(self, what: tuple[str, str | None], change: int) -> None:
        if self.turned.pop(what, 0) != -change:
            self.turned[what] = change


def _connect_names(_key: Key, service: NodeService) -> tuple[str, ...]:
    name = connect_name(service)
    return () if name is None else (name,)


class CheckTable(Table[Key, HealthCheck]):
    """`of_instance` has the checks of a service instance under its key, those of a whole node under (node, ""). `of_service` goes
    by the service name that the instance had when the check was registered."""

    def __init__(self, changes: Changes) -> None:
        self.on_node: Group[str, Key, HealthCheck] = Group(lambda key, _check: (key[0],), by_key=True)
        self.of_instance: Group[Key, Key, HealthCheck] = Group(lambda key, check: ((key[0], fold(check.service_id)),))
        self.of_service: Group[str, Key, HealthCheck] = Group(_checked_service)
        self.not_passing: Group[str, Key, HealthCheck] = Group(
            lambda _key, check: (check.status,) if check.status != PASSING else ()
        )
        super().__init__(changes, self.on_node, self.of_instance, self.of_service, self.not_passing)


def _checked_service(_key: Key, check: HealthCheck) -> tuple[str, ...]:
    return (fold(check.service_name),) if check.service_id else ()

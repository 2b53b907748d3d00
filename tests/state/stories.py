"""Short words for telling stories to a store."""

from collections.abc import Mapping
from typing import Any

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.errors import RequestFailed
from discovery.model.query import Topic
from discovery.state.store import Result, StateStore
from discovery.state.watches import Watch


def uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


class Story:
    """A store, and commands given to it one block each."""

    def __init__(self, store: StateStore | None = None) -> None:
        self.store = store or StateStore()

    def do(self, command: c.Command) -> Result:
        return self.store.apply([command])[0]

    def refused(self, command: c.Command) -> str:
        """The text of the refusal that `command` must meet."""
        result = self.do(command)
        assert isinstance(result, RequestFailed), result
        return result.text

    # --- keys --------------------------------------------------------------------------------------------------------

    def set(self, key: str, value: bytes = b"v", flags: int = 0) -> None:
        assert self.do(c.KV("set", key, value, flags)) is True

    def delete(self, key: str) -> None:
        assert self.do(c.KV("delete", key)) is True

    def delete_tree(self, prefix: str) -> None:
        assert self.do(c.KV("delete-tree", prefix)) is True

    def lock(self, key: str, session: str, value: bytes = b"v") -> Result:
        return self.do(c.KV("lock", key, value, session=session))

    def unlock(self, key: str, session: str, value: bytes = b"v") -> Result:
        return self.do(c.KV("unlock", key, value, session=session))

    def entry(self, key: str) -> m.DirEntry:
        found = self.store.kv_get(key).value
        assert found is not None
        return found

    # --- catalog -----------------------------------------------------------------------------------------------------

    def register(self, node: str = "n1", address: str = "10.0.0.1", **fields: Any) -> None:
        assert self.do(registration(node, address, **fields)) is None

    def deregister(self, node: str, *, service: str = "", check: str = "") -> None:
        assert self.do(deregistration(node, service=service, check=check)) is None

    def instances(self, name: str) -> list[tuple[str, str]]:
        return [(row.node.node, row.service.id) for row in self.store.check_service_nodes(name).value]

    def statuses(self, node: str) -> dict[str, str]:
        return {check.check_id: check.status for check in self.store.node_checks(node).value}

    # --- sessions ----------------------------------------------------------------------------------------------------

    def session(self, number: int = 1, node: str = "n1", **fields: Any) -> str:
        assert self.do(session(number, node, **fields)) == uuid(number)
        return uuid(number)

    def destroy(self, session_id: str) -> None:
        assert self.do(c.SessionChange(r.SessionRequest(op="destroy", session=m.Session(id=session_id)))) == session_id

    def sessions(self) -> list[str]:
        return [found.id for found in self.store.session_list().value]

    # --- transactions and watches ------------------------------------------------------------------------------------

    def txn(self, *ops: r.TxnOp) -> r.TxnResponse:
        result = self.do(c.Txn(r.TxnRequest(datacenter="dc1", ops=list(ops))))
        assert isinstance(result, r.TxnResponse)
        return result

    def watch(self, *topics: Topic) -> Watch:
        return self.store.watches.watch(topics)


def registration(node: str = "n1", address: str = "10.0.0.1", **fields: Any) -> c.Register:
    return c.Register(r.RegisterRequest(datacenter="dc1", node=node, address=address, **fields))


def service(name: str = "web", **fields: Any) -> m.NodeService:
    return m.NodeService(**{"id": name, "service": name, "port": 80, **fields})


def check(check_id: str = "c", status: str = m.PASSING, **fields: Any) -> m.HealthCheck:
    return m.HealthCheck(check_id=check_id, name=check_id, status=status, **fields)


def serf(status: str = m.PASSING) -> m.HealthCheck:
    return check(m.SERF_CHECK_ID, status)


def session(number: int = 1, node: str = "n1", **fields: Any) -> c.SessionChange:
    given = m.Session(**{"id": uuid(number), "node": node, "behavior": "release", "node_checks": [], **fields})
    return c.SessionChange(r.SessionRequest(op="create", session=given))


def coordinates(**heights: float) -> c.CoordinateBatch:
    """A coordinate for each node, told apart by its height."""
    return c.CoordinateBatch([(node, "", m.Coordinate(vec=[0.0] * 8, height=height)) for node, height in heights.items()])


def query(number: int, name: str, *, op: str = "create", service: str = "web", **fields: Any) -> c.PreparedQueryChange:
    given = m.PreparedQuery(id=uuid(number), name=name, service=m.QueryService(service=service), **fields)
    return c.PreparedQueryChange(r.PreparedQueryRequest(op=op, query=given))


def intention(number: int, source: str, destination: str, *, op: str = "create", **fields: Any) -> c.IntentionChange:
    given = m.Intention(
        **{"id": uuid(number), "source_name": source, "destination_name": destination, "action": "allow", **fields}
    )
    return c.IntentionChange(r.IntentionRequest(op=op, intention=given))


def config_entry(kind: str, name: str, *, op: str = "upsert", cas: int = 0, **fields: Any) -> c.ConfigEntryChange:
    """A document; `fields` have Go's names."""
    return c.ConfigEntryChange(r.ConfigEntryRequest(datacenter="dc1", op=op, kind=kind, name=name, cas=cas, entry=fields))


def deregistration(node: str, *, service: str = "", check: str = "") -> c.Deregister:
    return c.Deregister(r.DeregisterRequest(node=node, service_id=service, check_id=check))


def kv_op(verb: str, key: str, value: bytes | None = None, *, index: int = 0, session: str = "", flags: int = 0) -> r.TxnOp:
    entry = m.DirEntry(key=key, value=value, flags=flags, session=session, modify_index=index)
    return r.TxnOp(kv=r.TxnKVOp(verb=verb, dir_ent=entry))


def node_op(verb: str, name: str, address: str = "10.0.0.1", **fields: Any) -> r.TxnOp:
    return r.TxnOp(node=r.TxnNodeOp(verb=verb, node=m.Node(node=name, address=address, **fields)))


def service_op(verb: str, node: str, name: str = "web", **fields: Any) -> r.TxnOp:
    return r.TxnOp(service=r.TxnServiceOp(verb=verb, node=node, service=service(name, **fields)))


def check_op(verb: str, node: str, check_id: str = "c", status: str = m.PASSING, **fields: Any) -> r.TxnOp:
    return r.TxnOp(check=r.TxnCheckOp(verb=verb, check=check(check_id, status, node=node, **fields)))


def whats(response: r.TxnResponse) -> Mapping[int, str]:
    """The errors of a transaction by the number of the operation."""
    assert response.results is None
    return {error.op_index: error.what for error in response.errors or ()}


def encoded(store: StateStore) -> bytes:
    return b"".join(store.capture().chunks())

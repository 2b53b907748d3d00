"""Transactions: operations of several kinds that happen together or not at all.

Every operation is tried, so that the caller learns of all that fail; if any does, the store takes the others back. Verbs, results
and texts as of Consul 1.8.7.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.records import DirEntry, HealthCheck, Node, NodeService
from discovery.model.requests import (
    TxnCheckOp,
    TxnError,
    TxnKVOp,
    TxnNodeOp,
    TxnOp,
    TxnResponse,
    TxnResult,
    TxnServiceOp,
)

from .catalog import Catalog
from .kv import KVStore
from .lookup import check_node_id
from .services import require_address, require_name

R = TypeVar("R", Node, NodeService, HealthCheck)
T = TypeVar("T")

_KV_READS: Final = frozenset({"get", "get-or-empty", "get-tree", "check-index", "check-session", "check-not-exists"})


class Txn(msgspec.Struct, frozen=True):
    """Runs operations against the store. `datacenter` is that of nodes which don't say theirs."""

    kv: KVStore
    catalog: Catalog
    datacenter: str = ""

    def write(self, ops: Sequence[TxnOp]) -> TxnResponse:
        """If the response has errors, the caller must undo what was changed."""
        return self._run(ops, self._operate)

    def read(self, ops: Sequence[TxnOp]) -> TxnResponse:
        """Writing verbs are unknown here."""
        return self._run(ops, self._look)

    def _run(self, ops: Sequence[TxnOp], operate: Callable[[TxnOp], Sequence[TxnResult]]) -> TxnResponse:
        results, errors = _each(ops, _check)
        if not errors:
            results, errors = _each(ops, operate)
        return TxnResponse(errors=errors) if errors else TxnResponse(results=results)

    def _look(self, op: TxnOp) -> list[TxnResult]:
        for noun, part in (("Node", op.node), ("Service", op.service), ("Check", op.check)):
            if part is not None and part.verb != "get":
                raise RequestFailed(f'unknown {noun} verb "{part.verb}"')
        if op.kv is not None and op.kv.verb not in _KV_READS:
            raise RequestFailed(f'unknown KV verb "{op.kv.verb}"')
        return self._operate(op)

    def _operate(self, op: TxnOp) -> list[TxnResult]:
        if op.kv is not None:
            return [TxnResult(kv=entry) for entry in self._kv(op.kv)]
        if op.node is not None:
            return [TxnResult(node=node) for node in self._node(op.node)]
        if op.service is not None:
            return [TxnResult(service=service) for service in self._service(op.service)]
        if op.check is not None:
            return [TxnResult(check=check) for check in self._check(op.check)]
        return []

    # --- keys --------------------------------------------------------------------------------------------------------

    def _kv(self, op: TxnKVOp) -> list[DirEntry]:
        verb, given, kv = op.verb, op.dir_ent, self.kv
        if verb == "set":
            return _without_value(kv.set(given.key, given.value, given.flags))
        if verb == "cas":
            entry = kv.cas(given.key, given.value, given.flags, given.modify_index)
            return _without_value(_held(entry, f'failed to set key "{given.key}", index is stale'))
        if verb == "lock":
            entry = kv.lock(given.key, given.value, given.flags, given.session)
            return _without_value(_held(entry, f'failed to lock key "{given.key}", lock is already held'))
        if verb == "unlock":
            entry = kv.unlock(given.key, given.value, given.flags, given.session)
            problem = f'failed to unlock key "{given.key}", lock isn\'t held, or is held by another session'
            return _without_value(_held(entry, problem))
        if verb in _KV_READS:
            return self._kv_read(verb, given)
        return self._kv_delete(verb, given)

    def _kv_delete(self, verb: str, given: DirEntry) -> list[DirEntry]:
        if verb == "delete":
            self.kv.delete(given.key)
        elif verb == "delete-tree":
            self.kv.delete_tree(given.key)
        elif verb == "delete-cas":
            _require(self.kv.delete_cas(given.key, given.modify_index), f'failed to delete key "{given.key}", index is stale')
        else:
            raise RequestFailed(f'unknown KV verb "{verb}"')
        return []

    def _kv_read(self, verb: str, given: DirEntry) -> list[DirEntry]:
        key = given.key
        if verb == "get-tree":
            return self.kv.entries(key)
        entry = self.kv.rows.get(key)
        if verb == "check-not-exists":
            _require(entry is None, f'key "{key}" exists')
            return []
        if verb == "get":
            return [_held(entry, f'key "{key}" doesn\'t exist')]
        if verb == "get-or-empty":
            return [entry if entry is not None else DirEntry(key=key)]
        if verb == "check-index":
            entry = _held(entry, f'failed to check index, key "{key}" doesn\'t exist')
            numbers = f"current modify index {entry.modify_index} != {given.modify_index}"
            _require(entry.modify_index == given.modify_index, f'failed index check for key "{key}", {numbers}')
        else:
            entry = _held(entry, f'failed to check session, key "{key}" doesn\'t exist')
            sessions = f'current session "{entry.session}" != "{given.session}"'
            _require(entry.session == given.session, f'failed session check for key "{key}", {sessions}')
        return _without_value(entry)

    # --- catalog -----------------------------------------------------------------------------------------------------

    def _node(self, op: TxnNodeOp) -> list[Node]:
        given = replace(op.node, datacenter=op.node.datacenter or self.datacenter)
        known = self.catalog.find_node(given.node)
        if op.verb == "get":
            found = self.catalog.nodes.with_id(given.id) if given.id else known
            return [_held(found, f'node "{given.node}" doesn\'t exist')]
        problem = f'node "{given.node}", index is stale'
        return _write(op.verb, "Node", given, known, problem, self._put_node, lambda: self.catalog.remove_node(given.node))

    def _put_node(self, node: Node) -> Node:
        self.catalog.put_node(node)
        return _held(self.catalog.find_node(node.node), f'node "{node.node}" doesn\'t exist')

    def _service(self, op: TxnServiceOp) -> list[NodeService]:
        given = op.service if op.verb == "get" else replace(op.service, id=op.service.id or op.service.service)
        known = self.catalog.find_service(op.node, given.id)
        if op.verb == "get":
            return [_held(known, f'service "{given.id}" on node "{op.node}" doesn\'t exist')]

        def put(service: NodeService) -> NodeService:
            self.catalog.put_service(op.node, service)
            return _held(self.catalog.find_service(op.node, service.id), f'service "{service.id}" was not stored')

        problem = f'service "{given.id}" on node "{op.node}", index is stale'
        return _write(op.verb, "Service", given, known, problem, put, lambda: self.catalog.remove_service(op.node, given.id))

    def _check(self, op: TxnCheckOp) -> list[HealthCheck]:
        given = op.check if op.verb == "get" else replace(op.check, check_id=op.check.check_id or op.check.name)
        known = self.catalog.find_check(given.node, given.check_id)
        if op.verb == "get":
            return [_held(known, f'check "{given.check_id}" on node "{given.node}" doesn\'t exist')]
        problem = f'check "{given.check_id}" on node "{given.node}", index is stale'
        return _write(
            op.verb,
            "Check",
            given,
            known,
            problem,
            lambda check: self.catalog.put_check(check, check.node),
            lambda: self.catalog.remove_check(given.node, given.check_id),
        )


def _write(
    verb: str,
    noun: str,
    given: R,
    known: R | None,
    problem: str,
    put: Callable[[R], R],
    remove: Callable[[], None],
) -> list[R]:
    """The writing verbs that nodes, services and checks share."""
    index = known.modify_index if known is not None else 0
    if verb == "set":
        return [put(given)]
    if verb == "cas":
        _require(index == given.modify_index, f"failed to set {problem}")
        return [put(given)]
    if verb == "delete-cas":
        _require(known is not None and index == given.modify_index, f"failed to delete {problem}")
    elif verb != "delete":
        raise RequestFailed(f'unknown {noun} verb "{verb}"')
    remove()
    return []


def _each(ops: Sequence[TxnOp], operate: Callable[[TxnOp], Sequence[TxnResult]]) -> tuple[list[TxnResult], list[TxnError]]:
    """Try all of `ops`, gather what comes of them."""
    results: list[TxnResult] = []
    errors: list[TxnError] = []
    for number, op in enumerate(ops):
        try:
            results += operate(op)
        except RequestFailed as refusal:
            errors.append(TxnError(op_index=number, what=refusal.text))
    return results, errors


def _check(op: TxnOp) -> Sequence[TxnResult]:
    """What Consul refuses before it tries anything."""
    if op.kv is not None:
        _require(bool(op.kv.dir_ent.key) or op.kv.verb == "delete-tree", "Must provide key")
    elif op.node is not None and op.node.verb != "get":
        _require(bool(op.node.node.node), "Must provide node")
        check_node_id(op.node.node.id)
    elif op.service is not None and op.service.verb != "get":
        require_name(op.service.service)
        require_address(op.service.service)
    return ()


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise RequestFailed(problem)


def _held(found: T | None, problem: str) -> T:
    if found is None:
        raise RequestFailed(problem)
    return found


def _without_value(entry: DirEntry) -> list[DirEntry]:
    return [replace(entry, value=None)]

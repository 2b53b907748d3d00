"""The KV store with sessions and locks against a model that keeps everything in plain dicts and looks at all of it.

The model also says which index every key and prefix has, and thereby which watches must fire and which must not. Lock-delay is
decided before the log, by a leader's clock, as in the server.
"""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.query import Read
from discovery.state.tables import NEVER
from discovery.state.watches import Watch

from .commands import KEYS, keys, values
from .stories import Story, check, kv_op, session, uuid

PREFIXES = ["", "d", "d/", "d/a", "e/", "zz", "\U0010ffff"]
IDS = [uuid(number) for number in range(1, 6)]
NODES = ["n1", "n2"]

ids = st.sampled_from(IDS)


class Entry(msgspec.Struct):
    value: bytes | None
    flags: int
    lock_index: int
    session: str
    created: int
    modified: int


class Held(msgspec.Struct):
    node: str
    behavior: str
    delay: int
    checked: bool


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.entries: dict[str, Entry] = {}
        self.deleted: dict[str, int] = {}
        """When keys that are not there were deleted."""
        self.newest = NEVER
        self.sessions: dict[str, Held] = {}
        self.used: set[str] = set()
        self.critical: set[str] = set()
        self.now = 0
        self.locked_until: dict[str, int] = {}
        self.released: list[tuple[str, int]] = []
        self.watched: list[tuple[Any, Read[Any], Watch]] = []

    @initialize()
    def nodes(self) -> None:
        for node in NODES:
            self.story.register(node, checks=[check("c")])

    # --- what the model says ---------------------------------------------------------------------------------------

    @property
    def index(self) -> int:
        return self.story.store.index

    def write(self, key: str, value: bytes | None, flags: int, lock_index: int, holder: str) -> None:
        old = self.entries.get(key)
        if old is not None and (old.value, old.flags, old.lock_index, old.session) == (value, flags, lock_index, holder):
            return
        self.entries[key] = Entry(value, flags, lock_index, holder, old.created if old is not None else self.index, self.index)
        self.deleted.pop(key, None)
        self.newest = self.index

    def forget(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            self.deleted[key] = self.newest = self.index

    def forget_under(self, prefix: str) -> None:
        for key in [key for key in self.entries if key.startswith(prefix)]:
            self.forget(key)

    def end(self, session_id: str) -> None:
        held = self.sessions.pop(session_id)
        for key in sorted(key for key, entry in self.entries.items() if entry.session == session_id):
            entry = self.entries[key]
            if held.behavior == "delete":
                self.forget(key)
            else:
                self.write(key, entry.value, entry.flags, entry.lock_index, "")
            if held.delay:
                self.released.append((key, held.delay))
                self.locked_until[key] = self.now + held.delay

    def index_of(self, key: str) -> int:
        entry = self.entries.get(key)
        return entry.modified if entry is not None else self.deleted.get(key, NEVER)

    def index_under(self, prefix: str) -> int:
        if not prefix:
            return self.newest
        modified = [entry.modified for key, entry in self.entries.items() if key.startswith(prefix)]
        return max([NEVER, *modified, *(index for key, index in self.deleted.items() if key.startswith(prefix))])

    # --- what happens ----------------------------------------------------------------------------------------------

    @rule(key=keys, value=values, flags=st.integers(0, 1))
    def set(self, key: str, value: bytes | None, flags: int) -> None:
        assert self.story.do(c.KV("set", key, value, flags)) is True
        old = self.entries.get(key)
        self.write(key, value, flags, 0, old.session if old is not None else "")

    @rule(key=keys, value=values, guess=st.sampled_from(["right", "zero", "wrong"]))
    def cas(self, key: str, value: bytes | None, guess: str) -> None:
        old = self.entries.get(key)
        current = old.modified if old is not None else 0
        index = {"right": current, "zero": 0, "wrong": current + 1}[guess]
        held = index == current
        assert self.story.do(c.KV("cas", key, value, index=index)) is held
        if held:
            self.write(key, value, 0, 0, old.session if old is not None else "")

    @rule(key=keys, value=values, session_id=ids)
    def lock(self, key: str, value: bytes | None, session_id: str) -> None:
        if self.locked_until.get(key, 0) > self.now:
            return  # The leader refuses this before the log.
        old = self.entries.get(key)
        result = self.story.do(c.KV("lock", key, value, session=session_id))
        if session_id not in self.sessions:
            assert str(result) == f'invalid session "{session_id}"'
        elif old is not None and old.session not in ("", session_id):
            assert result is False
        else:
            assert result is True
            times = old.lock_index if old is not None else 0
            self.write(key, value, 0, times if old is not None and old.session else times + 1, session_id)

    @rule(key=keys, value=values, session_id=ids)
    def unlock(self, key: str, value: bytes | None, session_id: str) -> None:
        old = self.entries.get(key)
        held = old is not None and old.session == session_id
        assert self.story.do(c.KV("unlock", key, value, session=session_id)) is held
        if held and old is not None:
            self.write(key, value, 0, old.lock_index, "")

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert self.story.do(c.KV("delete", key)) is True
        self.forget(key)

    @rule(key=keys, guess=st.sampled_from(["right", "wrong"]))
    def delete_cas(self, key: str, guess: str) -> None:
        old = self.entries.get(key)
        held = old is None or guess == "right"
        index = old.modified if old is not None and held else 999
        assert self.story.do(c.KV("delete-cas", key, index=index)) is held
        if held:
            self.forget(key)

    @rule(prefix=st.sampled_from(PREFIXES))
    def delete_tree(self, prefix: str) -> None:
        assert self.story.do(c.KV("delete-tree", prefix)) is True
        self.forget_under(prefix)

    @rule(key=st.sampled_from(KEYS[1:]), tree=st.sampled_from(PREFIXES), value=values, probe=st.sampled_from(KEYS[1:]))
    def transaction(self, key: str, tree: str, value: bytes | None, probe: str) -> None:
        """Writes and deletes, and fails as a whole if `probe` is there then."""
        ops = [kv_op("set", key, value), kv_op("delete-tree", tree), kv_op("check-not-exists", probe)]
        response = self.story.do(c.Txn(r.TxnRequest(ops=ops)))
        there = (probe in self.entries or probe == key) and not probe.startswith(tree)
        assert bool(response.errors) is there
        if not there:
            old = self.entries.get(key)
            self.write(key, value, 0, 0, old.session if old is not None else "")
            self.forget_under(tree)

    @rule(
        session_id=ids,
        node=st.sampled_from(NODES),
        behavior=st.sampled_from(["release", "delete"]),
        delay=st.sampled_from([0, 3]),
    )
    def create(self, session_id: str, node: str, behavior: str, delay: int) -> None:
        if session_id in self.used:
            return
        checked = node not in self.critical
        command = session(int(session_id[-2:]), node, behavior=behavior, lock_delay=delay, node_checks=["c"] if checked else [])
        assert self.story.do(command) == session_id
        self.used.add(session_id)
        self.sessions[session_id] = Held(node, behavior, delay, checked)

    @rule(session_id=ids)
    def destroy(self, session_id: str) -> None:
        command = c.SessionChange(r.SessionRequest(op="destroy", session=m.Session(id=session_id)))
        assert self.story.do(command) == session_id
        if session_id in self.sessions:
            self.end(session_id)

    @rule(node=st.sampled_from(NODES), critical=st.booleans())
    def turn_check(self, node: str, critical: bool) -> None:
        self.story.register(node, checks=[check("c", m.CRITICAL if critical else m.PASSING)])
        (self.critical.add if critical else self.critical.discard)(node)
        if critical:
            self.end_all(lambda held: held.node == node and held.checked)

    @rule(node=st.sampled_from(NODES))
    def rebuild_node(self, node: str) -> None:
        self.story.deregister(node)
        self.end_all(lambda held: held.node == node)
        self.story.register(node, checks=[check("c")])
        self.critical.discard(node)

    def end_all(self, chosen: Any) -> None:
        for session_id in sorted(session_id for session_id, held in self.sessions.items() if chosen(held)):
            self.end(session_id)

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(back=st.integers(0, 20))
    def reap(self, back: int) -> None:
        index = max(0, self.index - back)
        assert self.story.store.has_tombstones(index) or not any(deleted <= index for deleted in self.deleted.values())
        self.story.do(c.ReapTombstones(index))
        self.deleted = {key: deleted for key, deleted in self.deleted.items() if deleted > index}
        self.watched = []

    @precondition(lambda self: len(self.watched) < 40)
    @rule(key=keys, prefix=st.sampled_from(PREFIXES))
    def watch(self, key: str, prefix: str) -> None:
        store = self.story.store
        questions = (
            lambda: store.kv_get(key),
            lambda: store.kv_list(prefix),
            lambda: store.kv_keys(prefix, "/"),
            lambda: store.session_list(),
        )
        for ask in questions:
            read: Read[Any] = ask()
            self.watched.append((ask, read, store.watches.watch(read.topics)))

    @rule()
    def restart_from_a_snapshot(self) -> None:
        chunks = list(self.story.store.capture().chunks())
        self.story = Story()
        self.story.store.restore(chunks)
        self.watched = []

    # --- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def entries_are_the_same(self) -> None:
        for key in KEYS:
            found, entry = self.story.store.kv_get(key), self.entries.get(key)
            if entry is None:
                assert found.value is None
            else:
                assert found.value == m.DirEntry(
                    entry.lock_index, key, entry.flags, entry.value, entry.session, entry.created, entry.modified
                )
            assert found.index == self.index_of(key), key

    @invariant()
    def lists_are_the_same(self) -> None:
        for prefix in PREFIXES:
            found = self.story.store.kv_list(prefix)
            assert [entry.key for entry in found.value] == sorted(key for key in self.entries if key.startswith(prefix))
            assert found.index == self.story.store.kv_keys(prefix, "").index == self.index_under(prefix), prefix

    @invariant()
    def sessions_are_the_same(self) -> None:
        assert self.story.sessions() == sorted(self.sessions)

    @invariant()
    def lock_delays_are_the_same(self) -> None:
        assert self.story.store.take_released_locks() == self.released
        self.released = []

    @invariant()
    def watches_tell_the_truth(self) -> None:
        kept = []
        for ask, before, watch in self.watched:
            now = ask()
            if watch.fired:
                assert now.index > before.index
            else:
                assert now == before
                kept.append((ask, before, watch))
        self.watched = kept


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=40, max_examples=80, deadline=None)

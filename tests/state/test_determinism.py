"""The same log gives the same bytes: on every server, in any blocks, after a snapshot, whatever Python's hash seed."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model.errors import RequestFailed
from discovery.state.store import StateStore

from .commands import commands
from .stories import check, coordinates, deregistration, encoded, query, registration, service, session, uuid

logs = st.lists(commands, min_size=1, max_size=40)


def applied(log: Sequence[c.Command], store: StateStore | None = None) -> StateStore:
    store = store or StateStore()
    store.apply(log)
    return store


@given(logs, st.integers(1, 10))
def test_blocks_mean_nothing(log: list[c.Command], size: int) -> None:
    whole, parts = StateStore(), StateStore()
    results = whole.apply(log)
    by_parts = [result for start in range(0, len(log), size) for result in parts.apply(log[start : start + size])]
    assert [repr(result) for result in results] == [repr(result) for result in by_parts]
    assert encoded(whole) == encoded(parts)


@given(logs)
def test_the_encoding_of_a_block_means_nothing(log: list[c.Command]) -> None:
    assert encoded(applied(c.decode_block(c.encode_block(log)))) == encoded(applied(log))


@given(logs, logs)
def test_a_snapshot_and_the_rest_of_the_log_give_what_the_whole_log_gives(
    before: list[c.Command], after: list[c.Command]
) -> None:
    continued = applied(before)
    restored = StateStore()
    restored.restore(continued.capture().chunks())
    assert [repr(result) for result in restored.apply(after)] == [repr(result) for result in continued.apply(after)]
    assert encoded(restored) == encoded(continued)


@given(logs)
def test_every_command_has_a_result_and_an_index(log: list[c.Command]) -> None:
    store = StateStore()
    results = store.apply(log)
    assert len(results) == len(log) == store.index
    assert all(
        isinstance(result, RequestFailed)
        or type(result).__name__ in ("NoneType", "bool", "str", "TxnResponse", "RegisterManyResponse")
        for result in results
    )


@given(logs)
def test_a_refused_command_leaves_the_bytes_as_they_were(log: list[c.Command]) -> None:
    store = StateStore()
    for command in log:
        before, index = encoded(store), store.index
        result = store.apply([command])[0]
        if isinstance(result, RequestFailed) or getattr(result, "errors", None):
            store.index = index
            assert encoded(store) == before, command
            store.index = index + 1


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:3]
from tests.state.test_determinism import digest_of_a_long_log
print(digest_of_a_long_log())
"""


def digest_of_a_long_log() -> str:
    """Of a pseudo-random log that is the same everywhere."""
    chance = random.Random(20)
    store = StateStore()
    for _ in range(60):
        store.apply([_any_command(chance) for _ in range(20)])
    return hashlib.sha256(encoded(store)).hexdigest()


def _any_command(chance: random.Random) -> c.Command:
    node, key = f"n{chance.randrange(5)}", f"k/{chance.randrange(30)}"
    name = f"s{chance.randrange(4)}"
    held = uuid(chance.randrange(1, 6))
    choices = [
        lambda: c.KV("set", key, str(chance.random()).encode()),
        lambda: c.KV("delete", key),
        lambda: c.KV("lock", key, b"x", session=held),
        lambda: c.KV("delete-tree", key[:3]),
        lambda: session(int(held[-1]), node, behavior=chance.choice(["release", "delete"])),
        lambda: registration(node, service=service(name, tags=[f"t{chance.randrange(3)}" for _ in range(3)])),
        lambda: registration(node, checks=[check(f"c{chance.randrange(3)}", chance.choice(["passing", "critical"]))]),
        lambda: deregistration(node),
        lambda: coordinates(**{node: chance.random()}),
        lambda: query(chance.randrange(3), f"q{chance.randrange(5)}"),
    ]
    return chance.choice(choices)()


def test_the_hash_seed_means_nothing() -> None:
    root = Path(__file__).parent.parent.parent
    digests = set()
    for seed in ("0", "1", "424242"):
        command = [sys.executable, "-c", PROGRAM, str(root), str(root / "src")]
        run = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        digests.add(run.stdout.strip())
    assert digests == {digest_of_a_long_log()}

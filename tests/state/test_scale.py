"""What a large state costs: memory for every entry, and work that must not grow with the whole."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.state import kv
from discovery.state.ordered import OrderedRows
from discovery.state.store import StateStore

from .stories import encoded

KEYS = 20_000
INSTANCES = 4_000


def bytes_taken(work: Callable[[], object]) -> int:
    """How much more memory is in use after `work`, whose result is kept meanwhile."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return after - before


def fill_with_keys(count: int = KEYS) -> StateStore:
    store = StateStore()
    for start in range(0, count, 1000):
        block = [c.KV("set", f"service/app-{number:07}/config", b"some-%d" % number) for number in range(start, start + 1000)]
        store.apply(c.decode_block(c.encode_block(block)))
    return store


def registration(number: int) -> c.Register:
    """One of ten instances on a node, with a check; a thousand instances make a service."""
    node, name = f"node-{number // 10}", f"app-{number // 1000}"
    service = m.NodeService(
        id=f"{name}-{number}", service=name, tags=["primary", "v1"], address="10.1.0.1", port=80, meta={"version": "1.2.3"}
    )
    check = m.HealthCheck(check_id=f"service:{name}-{number}", name="alive", status=m.PASSING, service_id=service.id, type="http")
    return c.Register(r.RegisterRequest(datacenter="dc1", node=node, address="10.0.0.1", service=service, checks=[check]))


def fill_with_services(count: int = INSTANCES) -> StateStore:
    store = StateStore()
    for start in range(0, count, 100):
        block = c.encode_block([registration(number) for number in range(start, start + 100)])
        assert set(store.apply(c.decode_block(block))) == {None}
    return store


def restored(data: bytes) -> StateStore:
    store = StateStore()
    store.restore([data])
    return store


def test_a_small_key_takes_little_memory() -> None:
    assert bytes_taken(fill_with_keys) / KEYS < 360
    data = encoded(fill_with_keys())
    assert bytes_taken(lambda: restored(data)) / KEYS < 360


def test_an_instance_with_its_check_takes_little_memory() -> None:
    assert bytes_taken(fill_with_services) / INSTANCES < 1800
    data = encoded(fill_with_services())
    assert bytes_taken(lambda: restored(data)) / INSTANCES < 1900


def test_a_capture_copies_no_keys() -> None:
    store = fill_with_keys()
    assert bytes_taken(store.capture) < KEYS


def test_folders_are_listed_without_a_look_at_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore()
    store.apply([c.KV("set", f"d/{folder}/{number}", b"v") for folder in range(10) for number in range(500)])
    store.kv_keys("d/", "/")
    looks = 0

    def counting(
        rows: OrderedRows[m.DirEntry], start: str, find: Callable[..., str | None] = OrderedRows.first_from
    ) -> str | None:
        nonlocal looks
        looks += 1
        return find(rows, start)

    monkeypatch.setattr(OrderedRows, "first_from", counting)
    monkeypatch.setattr(kv.KVStore, "entries", lambda *_: pytest.fail("all entries were looked at for the index"))
    assert store.kv_keys("d/", "/").value == [f"d/{folder}/" for folder in range(10)]
    assert looks == 11


def test_a_long_key_is_looked_up_with_few_cuts() -> None:
    """Looking for tombstones of trees around a key must not try every length of it."""
    store = StateStore()
    store.apply([c.KV("set", f"big/{number}", b"v") for number in range(10_001)])
    store.apply([c.KV("delete-tree", "big/")])
    long = "big/" + "x" * 500_000
    assert bytes_taken(lambda: store.kv_get(long)) < 10_000
    assert store.kv_get(long).index == store.index


def test_a_very_large_tree_leaves_one_tombstone() -> None:
    store = StateStore()
    store.apply([c.KV("set", f"big/{number}", b"v") for number in range(10_001)])
    store.apply([c.KV("set", "small/1", b"v"), c.KV("delete-tree", "small/")])
    assert store.kv_list("big/none/").index == 1
    store.apply([c.KV("delete-tree", "big/")])
    assert store.kv_list("big/").index == store.kv_get("big/7").index == store.kv_list("big/none/").index == store.index
    assert store.kv_get("small/2").index == 1
    copy = restored(encoded(store))
    assert copy.kv_list("big/").index == copy.kv_get("big/7").index == store.index
    assert copy.has_tombstones(store.index)
    copy.apply([c.ReapTombstones(store.index)])
    assert copy.kv_list("big/").index == 1

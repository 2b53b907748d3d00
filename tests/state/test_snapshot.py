"""Snapshots: what goes in comes out, at any cut, as it was when captured; and nothing else is taken for one."""

import struct
import threading
from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model import records as m
from discovery.state.snapshot import FORMAT, InvalidSnapshot
from discovery.state.store import StateStore

from .stories import (
    Story,
    check,
    config_entry,
    coordinates,
    encoded,
    intention,
    kv_op,
    query,
    registration,
    serf,
    service,
    service_op,
    session,
    uuid,
)
from .test_indexes import READS


def rich() -> Story:
    """A state with something, and something gone, of every sort."""
    story = Story()
    proxy = m.Proxy(
        destination_service_name="web",
        config={"a": [1, {"b": None}]},
        upstreams=[m.Upstream(destination_name="db", local_bind_port=1)],
        mesh_gateway=m.MeshGateway(mode="local"),
    )
    story.register(
        "N1",
        id=uuid(71),
        node_meta={"b": "2", "a": "1"},
        tagged_addresses={"wan": "1.1.1.1", "lan": "2.2.2.2"},
        service=service("web", tags=["b", "a"], meta={"k": "v"}, weights=m.Weights(3, 0), enable_tag_override=True),
        checks=[
            serf(),
            check("c", m.WARNING, service_id="web", output="said\nthis", notes="n"),
            check("d", definition=m.CheckDefinition(http="http://x", interval=m.Duration(5), header={"h": ["1", "2"]})),
        ],
    )
    story.register("N1", skip_node_update=True, service=service("web-proxy", kind="connect-proxy", proxy=proxy))
    addresses = {"lan": m.ServiceAddress("3.3.3.3", 9)}
    story.register("n2", "10.0.0.2", service=service("db", tagged_addresses=addresses, connect=m.Connect(native=True)))
    story.do(config_entry("proxy-defaults", "global", Config={"protocol": "http", "n": 1.5, "deep": {"x": [True, None]}}))
    story.do(config_entry("service-router", "web", Routes=[]))
    story.do(config_entry("mesh", "mesh"))
    story.do(config_entry("mesh", "mesh", op="delete"))
    story.session(1, "n1", ttl="10s", lock_delay=15_000_000_000, node_checks=["serfHealth"], name="locker")
    story.session(2, "n2", behavior="delete", service_checks=[])
    story.session(3, "n2")
    story.destroy(uuid(3))
    for key in ("a", "d/x", "d/y", "é", "\U0001f600", "e/1", "e/2", "f/1"):
        story.set(key, key.encode(), flags=2**64 - 1)
    story.set("empty", b"")
    story.do(c.KV("set", "none", None))
    story.lock("locked", uuid(1))
    story.delete("d/x")
    story.delete_tree("e/")
    story.do(query(51, "q"))
    story.do(query(52, "gone"))
    story.do(query(52, "gone", op="delete"))
    story.do(intention(61, "a", "*", meta={"m": "1"}, hash=b""))
    story.do(coordinates(n1=1.5, n2=2.5))
    story.do(c.AutopilotChange(m.AutopilotConfig(last_contact_threshold=m.Duration(200_000_000), min_quorum=2)))
    story.register("gone", "10.0.0.9", id=uuid(79), service=service("gone"))
    story.deregister("gone")
    story.txn(kv_op("set", "txn", b"1"), service_op("set", "n2", "txn", address="4.4.4.4"))
    return story


def restored(chunks: Iterable[bytes]) -> StateStore:
    store = StateStore()
    store.restore(chunks)
    return store


def answers(store: StateStore) -> dict[str, object]:
    return {name: read(store) for name, read in READS.items()}


def test_round_trip() -> None:
    store = rich().store
    copy = restored(store.capture().chunks())
    assert copy.index == store.index
    assert answers(copy) == answers(store)
    assert encoded(copy) == encoded(store)
    assert copy.sessions_with_ttl() == store.sessions_with_ttl()


def test_a_restored_state_goes_on_like_the_first() -> None:
    """Locks, groups, tombstones and ends must have come along."""
    story = rich()
    copy = Story(restored(story.store.capture().chunks()))
    commands: list[c.Command] = [
        registration("n1", "10.0.0.1", skip_node_update=True, checks=[serf(m.CRITICAL)]),
        c.KV("delete", "a"),
        registration("n2", "10.0.0.2", id=uuid(71)),
        session(9, "n2"),
        c.KV("lock", "locked", b"x", session=uuid(9)),
        c.ReapTombstones(story.store.index - 3),
        query(51, "other", op="update"),
        config_entry("proxy-defaults", "global", op="delete"),
    ]
    for command in commands:
        assert repr(story.do(command)) == repr(copy.do(command))
        assert encoded(copy.store) == encoded(story.store), command


def test_an_empty_state_round_trips() -> None:
    assert encoded(restored(StateStore().capture().chunks())) == encoded(StateStore())


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_chunk_boundaries_mean_nothing(size: int, seed: int) -> None:
    data = encoded(rich().store)
    sizes = [1 + (seed >> shift) % size for shift in range(0, 32, 4)]
    assert encoded(restored(cut(data, sizes))) == data


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def test_one_byte_at_a_time() -> None:
    data = encoded(rich().store)
    assert encoded(restored(cut(data, [1]))) == data


def test_large_values_and_many_rows_make_frames_of_bounded_size() -> None:
    story = Story()
    for number in range(20):
        story.set(f"big/{number}", bytes([number]) * 500_000)
    story.store.apply([c.KV("set", f"small/{number:05}", b"v") for number in range(5000)])
    chunks = list(story.store.capture().chunks())
    assert max(map(len, chunks)) < 1_100_000
    assert encoded(restored(chunks)) == b"".join(chunks)


# --- what is captured stays --------------------------------------------------------------------------------------------


def change_everything(story: Story) -> None:
    story.set("a", b"new")
    story.set("zz")
    story.delete("d/y")
    story.delete_tree("")
    story.register("n1", "99.9.9.9", service=service("web", port=1), checks=[serf(m.CRITICAL)])
    story.deregister("n2")
    story.do(query(51, "", op="delete"))
    story.do(intention(61, "x", "y", op="update"))
    story.do(coordinates(n1=9.0))
    story.do(config_entry("service-router", "web", op="delete"))
    story.do(c.AutopilotChange(m.AutopilotConfig()))
    story.do(c.ReapTombstones(story.store.index))


def test_a_view_stays_as_it_was() -> None:
    story = rich()
    expected = encoded(story.store)
    first, second = story.store.capture(), story.store.capture()
    change_everything(story)
    third = story.store.capture()
    later = encoded(story.store)
    story.set("even later")
    assert b"".join(first.chunks()) == b"".join(first.chunks()) == expected
    assert b"".join(second.chunks()) == expected
    assert b"".join(third.chunks()) == later != expected


def test_a_view_stays_as_it_was_while_it_is_being_written() -> None:
    story = rich()
    story.store.apply([c.KV("set", f"k/{number:05}", b"old") for number in range(3000)])
    expected = encoded(story.store)
    taken: list[bytes] = []
    for turn, chunk in enumerate(story.store.capture().chunks()):
        taken.append(chunk)
        story.set(f"k/{turn * 97 % 3000:05}", b"new")
        story.delete(f"k/{turn * 89 % 3000:05}")
        story.set(f"k/{turn:05}x", b"between")
        if turn == 4:
            change_everything(story)
    assert b"".join(taken) == expected


def test_a_view_is_read_by_another_thread_while_writes_go_on() -> None:
    story = Story()
    story.store.apply([c.KV("set", f"k/{number:06}", b"old") for number in range(20_000)])
    expected = encoded(story.store)
    taken: list[bytes] = []
    view = story.store.capture()
    writer = threading.Thread(target=lambda: taken.extend(view.chunks()))
    writer.start()
    turn = 0
    while writer.is_alive():
        story.store.apply([c.KV("set", f"k/{(turn + step) * 7919 % 20_000:06}", b"new") for step in range(100)])
        story.store.apply([c.KV("delete", f"k/{turn * 31 % 20_000:06}"), c.KV("set", f"n/{turn}", b"1")])
        turn += 100
    writer.join()
    assert b"".join(taken) == expected


# --- what is no snapshot -----------------------------------------------------------------------------------------------


def frame(section: int, content: object) -> bytes:
    body = msgspec.msgpack.encode(content)
    return struct.pack(">IB", len(body), section) + body


HEADER = frame(0, {"format": FORMAT, "index": 5})
NO_ROWS = frame(255, {"rows": 0})
ONE_ROW = frame(255, {"rows": 1})
KEY = {"Key": "k", "Value": None, "Flags": 0, "LockIndex": 0, "CreateIndex": 1, "ModifyIndex": 1}
NODE = {"Node": "n", "Address": "", "ID": "", "Datacenter": "", "CreateIndex": 1, "ModifyIndex": 1}
SERVICE = {"node": "n", "service": {"ID": "s", "Service": "s", "CreateIndex": 1, "ModifyIndex": 1}}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it has no header"),
        (b"\x00", "it ends within a frame"),
        (b"not a snapshot at all", "it has no header"),
        (NO_ROWS, "it has no header"),
        (HEADER, "it ends too early"),
        (HEADER + HEADER + NO_ROWS, "it begins twice"),
        (HEADER + NO_ROWS[:-1], "it ends within a frame"),
        (HEADER + NO_ROWS + NO_ROWS, "it goes on after its end"),
        (HEADER + NO_ROWS + b"\x00", "it ends within a frame"),
        (HEADER + ONE_ROW, "it has 0 rows instead of 1"),
        (HEADER + frame(2, [KEY]) + NO_ROWS, "it has 1 rows instead of 0"),
        (HEADER + frame(99, []) + NO_ROWS, "section 99 is unknown"),
        (HEADER + struct.pack(">IB", 2**31, 2), "a part of it claims 2147483648 bytes"),
        (frame(0, {"format": 99, "index": 1}) + NO_ROWS, f"format 99 is unknown, {FORMAT} is known"),
        (frame(0, {"format": FORMAT}) + NO_ROWS, "Object missing required field `index`"),
        (HEADER + frame(2, [{"Key": 5}]) + ONE_ROW, "Expected `str`, got `int`"),
        (HEADER + frame(2, {"Key": "k"}) + ONE_ROW, "Expected `array`, got `object`"),
        (HEADER + struct.pack(">IB", 1, 2) + b"\xc1" + NO_ROWS, "MessagePack data is malformed"),
        (HEADER + frame(2, [KEY, KEY]) + frame(255, {"rows": 2}), "kv: 'k' is not above 'k'"),
        (HEADER + frame(6, [SERVICE]) + ONE_ROW, 'services: node "n" is missing'),
        (HEADER + frame(7, [{"Node": "n", "CheckID": "c"}]) + ONE_ROW, 'checks: node "n" is missing'),
        (HEADER + frame(11, [{"Kind": "mesh"}]) + ONE_ROW, "config_entries: an entry is incomplete"),
    ],
)
def test_garbage_is_refused_and_changes_nothing(data: bytes, reason: str) -> None:
    store = rich().store
    before = encoded(store)
    watch = store.watches.watch([("nodes",)])
    with pytest.raises(InvalidSnapshot) as refusal:
        store.restore([data])
    assert refusal.value.text.startswith("failed to restore snapshot: ")
    assert reason in refusal.value.text
    assert encoded(store) == before
    assert not watch.fired


def test_what_is_well_formed_is_taken() -> None:
    rows = frame(2, [KEY]) + frame(5, [NODE]) + frame(6, [SERVICE])
    assert restored([HEADER + rows + frame(255, {"rows": 3})]).index == 5


@given(st.data())
def test_a_damaged_snapshot_is_refused_or_read_but_never_breaks(data: st.DataObject) -> None:
    whole = bytearray(encoded(rich().store))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    store = StateStore()
    try:
        store.restore([bytes(whole[: data.draw(st.integers(0, len(whole)))])])
    except InvalidSnapshot:
        assert encoded(store) == encoded(StateStore())


def test_a_later_version_may_add_fields() -> None:
    rows = frame(2, [{**KEY, "NewField": {"a": 1}}])
    assert restored([HEADER + rows + ONE_ROW]).kv_get("k").value is not None


# --- through the log ---------------------------------------------------------------------------------------------------


def pieces(data: bytes, size: int, restore_id: str = "r1") -> list[c.RestoreChunk]:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [c.RestoreChunk(restore_id, part, last=number == len(parts) - 1) for number, part in enumerate(parts)]


def test_a_restore_through_the_log_replaces_the_state_with_its_last_piece() -> None:
    source, story = rich(), Story()
    story.set("old")
    watch = story.watch(("kv", "old"))
    for piece in pieces(encoded(source.store), 700):
        assert story.store.kv_get("old").value is not None
        assert not watch.fired
        assert story.do(piece) is None
    assert watch.fired
    assert answers(story.store) == answers(source.store)


def test_the_index_goes_on_from_the_higher_one() -> None:
    small = encoded(Story().store)
    story = Story()
    for number in range(5):
        story.set(f"k{number}")
    story.store.apply(pieces(small, len(small)))
    assert story.store.index == 6
    large = encoded(rich().store)
    story.store.apply(pieces(large, len(large)))
    assert story.store.index == rich().store.index
    story.set("next")
    assert story.entry("next").modify_index == rich().store.index + 1


def test_writes_between_the_pieces_are_replaced_too() -> None:
    data = encoded(rich().store)
    first, *rest = pieces(data, len(data) // 2 + 1)
    story = Story()
    story.store.apply([first, c.KV("set", "between", b"1"), *rest, c.KV("set", "after", b"1")])
    assert story.store.kv_get("between").value is None
    assert story.store.kv_get("after").value is not None


def test_a_restore_that_is_begun_anew_forgets_the_one_before() -> None:
    data = encoded(rich().store)
    story = Story()
    story.do(pieces(data, 1000)[0])
    for piece in pieces(data, 1000, "r2"):
        assert story.do(piece) is None
    assert encoded(story.store) == data


def test_a_restore_of_garbage_is_refused_and_changes_nothing() -> None:
    data = encoded(rich().store)
    story = Story()
    story.set("kept")
    first, second, *_ = pieces(data, 1000)
    assert story.do(first) is None
    assert "failed to restore snapshot" in story.refused(c.RestoreChunk("r1", b"\xff" * 100_000))
    assert "it has no header" in story.refused(second)
    assert "it ends " in story.refused(c.RestoreChunk("r3", data[:1000], last=True))
    assert story.store.kv_keys("", "").value == ["kept"]
    for piece in pieces(data, 1000, "r4"):
        assert story.do(piece) is None


def test_a_snapshot_taken_during_a_restore_carries_the_restore_on() -> None:
    source = encoded(rich().store)
    first, *rest = pieces(source, len(source) // 3)
    story = Story()
    story.set("old")
    story.do(first)
    copy = Story(restored(story.store.capture().chunks()))
    assert encoded(copy.store) == encoded(story.store)
    for piece in rest:
        assert copy.do(piece) is None
        assert story.do(piece) is None
    assert encoded(copy.store) == encoded(story.store)
    assert answers(copy.store) == answers(rich().store)


def test_a_snapshot_is_read_beside_the_state_in_use() -> None:
    """Reading takes long and may be left to a thread; taking over is quick."""
    story = Story()
    story.set("old")
    data = encoded(rich().store)
    loaded: list[object] = []
    reader = threading.Thread(target=lambda: loaded.append(story.store.read(cut(data, [100]))))
    reader.start()
    while reader.is_alive():
        story.set("old", str(story.store.index).encode())
    reader.join()
    assert story.store.kv_get("old").value is not None
    story.store.adopt(loaded[0])  # type: ignore[arg-type]
    assert encoded(story.store) == data

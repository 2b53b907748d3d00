"""The register of watches: who is woken, when, how often, and what it costs."""

import gc
from collections import Counter

import pytest

from discovery.model import commands as c
from discovery.model.query import Topic
from discovery.state.watches import Watch, Watches

from .stories import Story, check, registration, service


@pytest.fixture
def story() -> Story:
    return Story()


def counted(watch: Watch) -> Counter[str]:
    calls: Counter[str] = Counter()
    watch.on_fire(lambda: calls.update(["woken"]))
    return calls


@pytest.mark.parametrize(
    ("topic", "wakes", "leaves"),
    [
        (("kv", "a/b"), ["a/b"], ["a", "a/", "a/b/", "a/bc", ""]),
        (("kv", ""), [""], ["a"]),
        (("kv-prefix", "a/"), ["a/", "a/b", "a/b/c"], ["a", "b/a/", "A/"]),
        (("kv-prefix", "é"), ["é", "éa"], ["e"]),
        (("kv-prefix", ""), ["", "a"], []),
    ],
)
def test_keys_and_prefixes(story: Story, topic: Topic, wakes: list[str], leaves: list[str]) -> None:
    for key in leaves:
        watch = story.watch(topic)
        story.set(key)
        assert not watch.fired, key
    for key in wakes:
        watch = story.watch(topic)
        story.set(key)
        assert watch.fired, key


def test_a_watch_fires_after_the_whole_block_and_once(story: Story) -> None:
    seen: list[tuple[int, list[str]]] = []
    watch = story.watch(("kv-prefix", ""))
    watch.on_fire(lambda: seen.append((story.store.index, story.store.kv_keys("", "").value)))
    story.store.apply([c.KV("set", "a", b"1"), c.KV("set", "b", b"1")])
    story.set("c")
    assert seen == [(2, ["a", "b"])]


def test_a_watch_on_several_topics_fires_once_for_any(story: Story) -> None:
    watch = story.watch(("kv", "a"), ("kv", "b"), ("nodes",))
    calls = counted(watch)
    story.set("b")
    story.set("a")
    story.register()
    assert watch.fired
    assert calls == {"woken": 1}


def test_what_fired_before_is_told_at_once(story: Story) -> None:
    watch = story.watch(("kv", "a"))
    story.set("a")
    assert counted(watch) == {"woken": 1}


def test_a_cancelled_watch_calls_nobody_but_still_tells(story: Story) -> None:
    watch = story.watch(("kv", "a"), ("kv", "b"))
    calls = counted(watch)
    watch.cancel()
    watch.cancel()
    story.set("a")
    assert calls == {}
    assert watch.fired


def test_a_watch_may_be_armed_again_after_it_was_cancelled(story: Story) -> None:
    watch = story.watch(("kv", "a"))
    counted(watch)
    watch.cancel()
    calls = counted(watch)
    story.set("a")
    assert calls == {"woken": 1}


def test_an_armed_watch_need_not_be_held(story: Story) -> None:
    calls = counted(story.watch(("kv", "a")))
    gc.collect()
    story.set("a")
    assert calls == {"woken": 1}


def test_a_callback_may_watch_again(story: Story) -> None:
    calls: list[int] = []

    def again() -> None:
        calls.append(story.store.index)
        if len(calls) < 3:
            story.watch(("kv", "a")).on_fire(again)

    story.watch(("kv", "a")).on_fire(again)
    for value in (b"1", b"2", b"3", b"4"):
        story.set("a", value)
    assert calls == [1, 2, 3]


def test_dropped_and_fired_watches_leave_nothing_behind(story: Story) -> None:
    watches = [story.watch(("kv", f"k{number}"), ("kv-prefix", f"p{number}"), ("service", f"s{number}")) for number in range(50)]
    assert story.store.watches.active == 150
    story.set("k1")
    assert story.store.watches.active == 149
    del watches
    assert story.store.watches.active == 0
    story.set("p7")


def test_a_fired_watch_lets_go_of_its_other_topics(story: Story) -> None:
    """Who re-arms a watch over a busy and a quiet topic must not fill up the quiet one."""
    keeper = story.watch(("nodes",))
    for value in range(5):
        story.watch(("kv", "busy"), ("nodes",)).on_fire(lambda: None)
        story.set("busy", str(value).encode())
    assert [len(signal.waiting) for signal in keeper._signals] == [0]
    assert not keeper.fired


def test_a_restore_wakes_all(story: Story) -> None:
    story.set("a")
    snapshot = list(story.store.capture().chunks())
    watches = [story.watch(topic) for topic in (("kv", "x"), ("kv-prefix", "y"), ("nodes",), ("service", "z"))]
    story.store.restore(snapshot)
    assert all(watch.fired for watch in watches)
    assert story.store.watches.active == 0


def test_a_refused_command_wakes_nobody_and_the_block_goes_on(story: Story) -> None:
    watches = {name: story.watch((sort, name)) for sort, name in (("node", "n1"), ("node", "n2"), ("kv", "a"))}
    story.store.apply([registration("n1", checks=[check("")]), registration("n2"), c.KV("zap", "a"), c.KV("lock", "a")])
    assert {name for name, watch in watches.items() if watch.fired} == {"n2"}


def test_everyone_interested_is_woken_and_nobody_else(story: Story) -> None:
    story.register(service=service("web"))
    woken: Counter[str] = Counter()
    for number in range(1000):
        story.watch(*story.store.check_service_nodes("web").topics).on_fire(lambda: woken.update(["web"]))
        topics: list[Topic] = [
            ("kv", f"k/{number}"),
            ("kv-prefix", f"p/{number}/"),
            ("service", f"s{number}"),
            ("node", f"m{number}"),
        ]
        for topic in topics:
            story.watch(topic).on_fire(lambda topic=topic: woken.update([topic[0]]))  # type: ignore[misc]
    for number in range(100):
        story.set(f"unrelated/{number}")
        story.register("other", f"10.0.0.{number}", service=service("unrelated", port=number))
    assert woken == {}
    story.register(checks=[check("c")])
    assert woken == {"web": 1000}
    story.set("p/7/x")
    story.set("k/8")
    assert woken == {"web": 1000, "kv-prefix": 1, "kv": 1}


@pytest.mark.parametrize("count", [10, 5000])
def test_many_keys_at_once_find_their_watches(count: int) -> None:
    """Few keys look for their prefixes, very many are looked for by the prefixes."""
    watches = Watches()
    wanted: list[Topic] = [
        ("kv", "d/3"),
        ("kv-prefix", "d/"),
        ("kv-prefix", ""),
        ("kv-prefix", "d/7"),
        ("kv-prefix", "d/9x"),
        ("kv", "e"),
    ]
    armed = {topic: watches.watch([topic]) for topic in wanted}
    watches.fire([], [f"d/{number}" for number in range(count)])
    assert {topic for topic, watch in armed.items() if watch.fired} == set(wanted[:4])


class CountingTopics(list[Topic]):
    """Counts how often it is walked through."""

    walks = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        CountingTopics.walks += 1
        return super().__iter__()


def test_nobody_watching_costs_no_walk_over_what_changed() -> None:
    watches = Watches()
    watches.fire(CountingTopics([("nodes",)] * 10), [])
    assert CountingTopics.walks == 0

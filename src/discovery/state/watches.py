"""Waking those who wait for a part of the state, and nobody else.

What can be waited for is a *topic*. A topic somebody watches has a *signal*, shared by all its watchers; nobody watching, no
signal. Commands touch topics while they are applied; at the end of a block the touched signals fire, once and for good, and
leave the register, so the next watcher gets a new one. The register holds signals weakly: a watch that is dropped costs nothing
more, whether or not it was cancelled. A touched key finds the prefixes above it by the lengths of the watched prefixes.
"""

import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from discovery.model.query import Topic

from .lookup import Lengths

KEY: Final = "kv"
PREFIX: Final = "kv-prefix"


class _Signal:
    """`fired` turns true when the topic is touched."""

    __slots__ = ("__weakref__", "fired", "waiting")

    def __init__(self) -> None:
        self.fired = False
        self.waiting: dict[Watch, None] = {}

    def fire(self) -> None:
        self.fired = True
        waiting, self.waiting = self.waiting, {}
        for watch in waiting:
            watch.notify()


class Watch:
    """Tells whether anything of what it watches has changed since it was made."""

    __slots__ = ("_armed", "_callbacks", "_signals")

    def __init__(self, signals: Sequence[_Signal], armed: "set[Watch]") -> None:
        self._signals = signals
        self._callbacks: list[Callable[[], object]] = []
        self._armed = armed

    @property
    def fired(self) -> bool:
        signals = self._signals
        return signals[0].fired if len(signals) == 1 else any(signal.fired for signal in signals)

    def on_fire(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when the watch fires; at once if it has. The watch lives on until then, or until `cancel`."""
        if self.fired:
            callback()
            return
        if not self._callbacks:
            self._armed.add(self)
            for signal in self._signals:
                signal.waiting[self] = None
        self._callbacks.append(callback)

    def notify(self) -> None:
        """One of the signals has fired."""
        callbacks = self._callbacks
        self.cancel()
        for callback in callbacks:
            callback()

    def cancel(self) -> None:
        """No callback will be called any more."""
        if self._callbacks:
            self._callbacks = []
            self._armed.discard(self)
            for signal in self._signals:
                signal.waiting.pop(self, None)


class _Entry(weakref.ref[_Signal]):
    """A weak reference that knows under which name it is registered."""

    __slots__ = ("name",)

    name: str | Topic


class _Register:
    """The signals of one sort of topic, by name."""

    __slots__ = ("_entries", "_forget")

    def __init__(self) -> None:
        self._entries: dict[str | Topic, _Entry] = {}
        entries = self._entries

        def forget(entry: weakref.ref[_Signal]) -> None:
            assert isinstance(entry, _Entry)
            if entries.get(entry.name) is entry:
                del entries[entry.name]
                self.removed(entry.name)

        self._forget = forget

    def added(self, name: str | Topic) -> None:
        """A signal of that name came to be."""

    def removed(self, name: str | Topic) -> None:
        """The signal of that name fired or nobody holds it any more."""

    def signal(self, name: str | Topic) -> _Signal:
        entry = self._entries.get(name)
        found = entry() if entry is not None else None
        if found is not None:
            return found
        made = _Signal()
        entry = _Entry(made, self._forget)
        entry.name = name
        if name not in self._entries:
            self.added(name)
        self._entries[name] = entry
        return made

    def fire(self, name: str | Topic) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self.removed(name)
        found = entry()
        if found is not None:
            found.fire()

    def fire_those(self, names: Sequence[str | Topic]) -> None:
        """Fire the signals of `names`, at a cost that the shorter of the two lists sets."""
        if len(names) <= len(self._entries):
            for name in names:
                if name in self._entries:
                    self.fire(name)
        elif self._entries:
            touched = set(names)
            for name in [name for name in self.names() if name in touched]:
                self.fire(name)

    def names(self) -> list[str | Topic]:
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Prefixes(_Register):
    """Also knows how long the watched prefixes are."""

    __slots__ = ("_lengths",)

    def __init__(self) -> None:
        super().__init__()
        self._lengths = Lengths()

    def added(self, name: str | Topic) -> None:
        self._lengths.add(str(name))

    def removed(self, name: str | Topic) -> None:
        self._lengths.remove(str(name))

    def of(self, keys: Sequence[str]) -> Iterable[str | Topic]:
        """The watched prefixes of `keys`, and perhaps names that nobody watches."""
        if len(keys) <= _FEW_KEYS + len(self):
            return {start: None for key in keys for start in self._lengths.starts_of(key)}
        names = sorted(keys)
        return [prefix for prefix in self.names() if _has_prefix(names, str(prefix))]


_FEW_KEYS: Final = 1000


def _has_prefix(names: Sequence[str], prefix: str) -> bool:
    """Whether one of `names`, which are sorted, starts with `prefix`."""
    at = bisect_left(names, prefix)
    return at < len(names) and names[at].startswith(prefix)


class Watches:
    """The register of all watches over one store."""

    def __init__(self) -> None:
        self._keys = _Register()
        self._prefixes = _Prefixes()
        self._topics = _Register()
        self._armed: set[Watch] = set()
        self.upheavals = 0
        """How often everything changed at once."""

    def watch(self, topics: Iterable[Topic]) -> Watch:
        return Watch([self._signal(topic) for topic in topics], self._armed)

    def _signal(self, topic: Topic) -> _Signal:
        sort = topic[0]
        if sort == KEY:
            return self._keys.signal(topic[1])
        if sort == PREFIX:
            return self._prefixes.signal(topic[1])
        return self._topics.signal(topic)

    def fire(self, topics: Sequence[Topic], keys: Sequence[str]) -> None:
        """Wake whoever watches one of `topics`, one of the KV `keys` or a prefix of one."""
        self._keys.fire_those(keys)
        self._topics.fire_those(topics)
        if keys and len(self._prefixes):
            for prefix in self._prefixes.of(keys):
                self._prefixes.fire(prefix)

    def fire_all(self) -> None:
        self.upheavals += 1
        for register in (self._keys, self._prefixes, self._topics):
            for name in register.names():
                register.fire(name)

    @property
    def active(self) -> int:
        """How many topics are watched."""
        return sum(len(register) for register in (self._keys, self._prefixes, self._topics))

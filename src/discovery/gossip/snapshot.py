"""What is remembered over a restart: Serf's snapshot lines, of which the last about each thing counts.

`alive: NAME ADDRESS:PORT`, `not-alive: NAME`, `clock: N`, `event-clock: N`, `query-clock: N`, `leave`. Names may contain
spaces, so an address is what follows the last one.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from .events import Event, MemberFailed, MemberJoined, MemberLeft, MemberReaped
from .members import Address

_CLOCKS: Final = ("clock", "event-clock", "query-clock")
_BYTES_PER_NODE: Final = 128
_MIN_COMPACTION: Final = 128 << 10


class Snapshot:
    """The group as the lines so far tell it. Clocks are the last times that were seen."""

    def __init__(self, *, keep_on_leave: bool = False) -> None:
        self.nodes: dict[str, Address] = {}
        self.clocks: dict[str, int] = dict.fromkeys(_CLOCKS, 0)
        self._keep_on_leave = keep_on_leave

    @property
    def compact_above(self) -> int:
        """Bytes from which a file of lines should be replaced by `lines()`."""
        return max(_MIN_COMPACTION, 2 * _BYTES_PER_NODE * len(self.nodes))

    def read(self, lines: Iterable[str]) -> None:
        """Lines which make no sense, such as one that was cut off by a crash, are passed over."""
        for line in lines:
            kind, _, rest = line.rstrip("\n").partition(": ")
            if kind == "alive":
                self._read_alive(rest)
            elif kind == "not-alive":
                self.nodes.pop(rest, None)
            elif kind in _CLOCKS and rest.isdigit():
                self.clocks[kind] = int(rest)
            elif kind == "leave" and not self._keep_on_leave:
                self.nodes.clear()
                self.clocks = dict.fromkeys(_CLOCKS, 0)

    def _read_alive(self, rest: str) -> None:
        name, _, location = rest.rpartition(" ")
        host, _, port = location.rpartition(":")
        if name and host and port.isdigit():
            self.nodes[name] = (host.strip("[]"), int(port))

    def record(self, event: Event) -> list[str]:
        """The lines an event adds."""
        if isinstance(event, MemberJoined):
            member = event.member
            self.nodes[member.name] = (member.address, member.port)
            return [_alive_line(member.name, self.nodes[member.name])]
        if isinstance(event, MemberLeft | MemberFailed | MemberReaped) and event.member.name in self.nodes:
            del self.nodes[event.member.name]
            return [f"not-alive: {event.member.name}\n"]
        return []

    def record_clocks(self, times: tuple[int, int, int]) -> list[str]:
        """The lines for those clocks that moved: of members, events and queries."""
        moved = [(kind, time) for kind, time in zip(_CLOCKS, times, strict=True) if time != self.clocks[kind]]
        self.clocks.update(moved)
        return [f"{kind}: {time}\n" for kind, time in moved]

    def lines(self) -> Iterator[str]:
        """Everything, anew."""
        for name, address in self.nodes.items():
            yield _alive_line(name, address)
        for kind, time in self.clocks.items():
            yield f"{kind}: {time}\n"


LEAVE: Final = "leave\n"


def _alive_line(name: str, address: Address) -> str:
    host, port = address
    return f"alive: {name} [{host}]:{port}\n" if ":" in host else f"alive: {name} {host}:{port}\n"

"""Lamport clocks (Lamport, 1978), and rings of recent messages which tell what was already seen."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")

RING_SIZE: Final = 512
_MAX_AT_ONE_TIME: Final = 1024


class LamportClock:
    """`time` is the next to be used; 0 is never used."""

    def __init__(self) -> None:
        self.time = 1

    def tick(self) -> int:
        """A time for a message of ours."""
        self.time += 1
        return self.time - 1

    def witness(self, seen: int) -> None:
        """Somebody used this time: ours must be later."""
        self.time = max(self.time, seen + 1)


class LamportRing(Generic[T]):
    """The items of the last `RING_SIZE` Lamport times. Below `floor` nothing is news."""

    def __init__(self) -> None:
        self.clock = LamportClock()
        self.floor = 0
        self._slots: list[tuple[int, list[T]] | None] = [None] * RING_SIZE

    def admit(self, time: int, item: T) -> bool:
        """Remember an item; whether it is news."""
        self.clock.witness(time)
        if time < max(self.floor, self.clock.time - RING_SIZE):
            return False
        slot = self._slots[time % RING_SIZE]
        if slot is None or slot[0] != time:
            slot = self._slots[time % RING_SIZE] = (time, [])
        items = slot[1]
        if item in items or len(items) >= _MAX_AT_ONE_TIME:
            return False
        items.append(item)
        return True

    def slots(self) -> list[tuple[int, list[T]] | None]:
        """All items with their times, in the order of the ring."""
        return list(self._slots)

"""Network coordinates: round trips are learnt from acks, and nodes are placed so that distances match them.

Vivaldi (Dabek, Cox, Kaashoek, Morris, 2004) with a height for the access link, an adjustment term (Ledlie, Gardner, Seltzer,
2007: "Network Coordinates in the Wild"), a latency filter and gravity towards the origin. Distances and round trips are
seconds.
"""

import math
import random
from collections import deque
from statistics import median_high
from typing import Final

import msgspec

from .codec import MalformedMessage, pack, unpack
from .messages import Wire

DIMENSIONS: Final = 8
_VERSION: Final = 1
_MAX_ERROR: Final = 1.5
_CE: Final = 0.25
_CC: Final = 0.25
_WINDOW: Final = 20
_MIN_HEIGHT: Final = 1e-5
_FILTER: Final = 3
_GRAVITY: Final = 150.0
_ZERO: Final = 1e-6
_MAX_ROUND_TRIP: Final = 10.0

Vector = list[float]


class Coordinate(Wire, frozen=True):
    """A place in the network. `error` is the confidence (0 is certain); `height` and `adjustment` are seconds."""

    vec: list[float] = msgspec.field(default_factory=lambda: [0.0] * DIMENSIONS)
    error: float = _MAX_ERROR
    adjustment: float = 0.0
    height: float = _MIN_HEIGHT

    def is_valid(self) -> bool:
        return len(self.vec) == DIMENSIONS and all(map(math.isfinite, (*self.vec, self.error, self.adjustment, self.height)))

    def distance(self, other: "Coordinate") -> float:
        """The estimated round trip to another coordinate."""
        raw = self.raw_distance(other)
        adjusted = raw + self.adjustment + other.adjustment
        return adjusted if adjusted > 0 else raw

    def raw_distance(self, other: "Coordinate") -> float:
        return math.dist(self.vec, other.vec) + self.height + other.height


def encode_payload(coordinate: Coordinate) -> bytes:
    """An ack's payload."""
    return bytes((_VERSION,)) + pack(coordinate)


def decode_payload(payload: bytes) -> Coordinate:
    """Raises `MalformedMessage`, also for coordinates which are no usable place."""
    if payload[0] != _VERSION:
        raise MalformedMessage(f"version {payload[0]} of coordinates")
    coordinate = unpack(payload[1:], Coordinate)
    if not coordinate.is_valid():
        raise MalformedMessage("an invalid coordinate")
    return coordinate


class Vivaldi:
    """Our own coordinate, and those of the nodes we measured."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.coordinate = Coordinate()
        self.resets = 0
        self._others: dict[str, Coordinate] = {}
        self._round_trips: dict[str, deque[float]] = {}
        self._adjustments: deque[float] = deque([0.0] * _WINDOW, _WINDOW)

    def coordinate_of(self, name: str) -> Coordinate | None:
        return self._others.get(name)

    def forget(self, name: str) -> None:
        self._others.pop(name, None)
        self._round_trips.pop(name, None)

    def observe(self, name: str, other: Coordinate, round_trip: float) -> None:
        """A ping of `name` came back after `round_trip`; implausible ones are left out."""
        if not 0 < round_trip <= _MAX_ROUND_TRIP:
            return
        latencies = self._round_trips.setdefault(name, deque(maxlen=_FILTER))
        latencies.append(round_trip)
        self._others[name] = other
        filtered = max(median_high(latencies), _ZERO)
        self._move(other, filtered)
        self._adjust(other, filtered)
        self._pull_to_origin()
        if not self.coordinate.is_valid():
            self.coordinate = Coordinate()
            self.resets += 1

    def _move(self, other: Coordinate, round_trip: float) -> None:
        own = self.coordinate
        distance = own.distance(other)
        wrong = abs(distance - round_trip) / round_trip
        weight = own.error / max(own.error + other.error, _ZERO)
        error = min(_MAX_ERROR, _CE * weight * wrong + own.error * (1 - _CE * weight))
        moved = self._pushed(own, other, _CC * weight * (round_trip - distance))
        self.coordinate = msgspec.structs.replace(moved, error=error)

    def _pushed(self, own: Coordinate, other: Coordinate, force: float) -> Coordinate:
        direction, apart = self._direction(own.vec, other.vec)
        vec = [place + step * force for place, step in zip(own.vec, direction, strict=True)]
        height = own.height
        if apart > _ZERO:
            height = max(_MIN_HEIGHT, (own.height + other.height) * force / apart + own.height)
        return msgspec.structs.replace(own, vec=vec, height=height)

    def _direction(self, vec: Vector, other: Vector) -> tuple[Vector, float]:
        """The unit vector away from `other`, and the distance; if they coincide, any unit vector and zero."""
        apart = math.dist(vec, other)
        if apart > _ZERO:
            return [(a - b) / apart for a, b in zip(vec, other, strict=True)], apart
        anywhere = [self._rng.uniform(-1, 1) for _ in range(DIMENSIONS)]
        length = math.hypot(*anywhere)
        if length > _ZERO:
            return [part / length for part in anywhere], 0.0
        return [1.0] + [0.0] * (DIMENSIONS - 1), 0.0

    def _adjust(self, other: Coordinate, round_trip: float) -> None:
        self._adjustments.append(round_trip - self.coordinate.raw_distance(other))
        adjustment = sum(self._adjustments) / (2 * _WINDOW)
        self.coordinate = msgspec.structs.replace(self.coordinate, adjustment=adjustment)

    def _pull_to_origin(self) -> None:
        origin = Coordinate()
        strength = self.coordinate.distance(origin) / _GRAVITY
        # Not a power: that raises where a product becomes infinite, and an invalid coordinate is to be reset.
        self.coordinate = self._pushed(self.coordinate, origin, -strength * strength)

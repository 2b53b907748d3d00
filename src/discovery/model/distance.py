"""How far two nodes are apart.

Every node has a Vivaldi coordinate (Dabek et al., "Vivaldi: a decentralized network coordinate system"; with the height and
adjustment terms of Consul's). The distance of two is an estimate of the round-trip time in seconds.
"""

import math

from .records import Coordinate


def distance(a: Coordinate, b: Coordinate) -> float:
    """Seconds. The adjustment counts only as long as it leaves the distance positive."""
    raw = math.dist(a.vec, b.vec) + a.height + b.height
    adjusted = raw + a.adjustment + b.adjustment
    return adjusted if adjusted > 0 else raw

"""Coordinates: Vivaldi's steps, and that they settle where distances are right."""

import math
import random

import msgspec
import pytest

from discovery.gossip.codec import MalformedMessage
from discovery.gossip.vivaldi import Coordinate, Vivaldi, decode_payload, encode_payload


def at(*vec: float, **rest: float) -> Coordinate:
    return Coordinate(vec=[*vec, *[0.0] * (8 - len(vec))], **rest)


def test_distance_is_straight_plus_heights_plus_adjustments_unless_that_is_negative() -> None:
    a, b = at(0.3, height=0.01), at(0.0, 0.4, height=0.02)
    assert a.distance(b) == pytest.approx(0.53)
    assert msgspec.structs.replace(a, adjustment=-0.1).distance(b) == pytest.approx(0.43)
    assert msgspec.structs.replace(a, adjustment=-0.6).distance(b) == pytest.approx(0.53)


def test_coordinates_move_apart_when_the_round_trip_is_longer_than_their_distance() -> None:
    vivaldi = Vivaldi(random.Random(1))
    other = at(0.0)
    vivaldi.observe("other", other, 0.1)
    moved = vivaldi.coordinate
    assert math.dist(moved.vec, other.vec) == pytest.approx(0.25 * 0.5 * 0.1, rel=0.01)
    assert moved.height == pytest.approx(1e-5)


@pytest.mark.parametrize("round_trip", [0.0, -1.0, 10.1])
def test_implausible_round_trips_change_nothing(round_trip: float) -> None:
    vivaldi = Vivaldi(random.Random(1))
    vivaldi.observe("other", Coordinate(), round_trip)
    assert vivaldi.coordinate == Coordinate()
    assert vivaldi.coordinate_of("other") is None


def test_one_slow_answer_of_three_is_filtered_out() -> None:
    steady, disturbed = Vivaldi(random.Random(1)), Vivaldi(random.Random(1))
    for round_trips, vivaldi in (((0.01, 0.01, 0.01), steady), ((0.01, 0.01, 5.0), disturbed)):
        for round_trip in round_trips:
            vivaldi.observe("other", at(0.02), round_trip)
    assert disturbed.coordinate == steady.coordinate


def test_nodes_on_a_grid_find_their_distances() -> None:
    """Converges to small errors, as in the Vivaldi paper's evaluation on a grid."""
    rng = random.Random(3)
    places = [(x * 0.02, y * 0.02) for x in range(4) for y in range(4)]
    nodes = [Vivaldi(rng) for _ in places]
    for _ in range(300):
        for here, node in enumerate(nodes):
            there = rng.randrange(len(nodes))
            if there != here:
                truth = math.dist(places[here], places[there]) + 0.001
                node.observe(str(there), nodes[there].coordinate, truth)
    errors = []
    for here, node in enumerate(nodes):
        for there in range(here):
            truth = math.dist(places[here], places[there]) + 0.001
            errors.append(abs(node.coordinate.distance(nodes[there].coordinate) - truth) / truth)
    assert sorted(errors)[len(errors) // 2] < 0.1


def test_a_coordinate_that_became_invalid_starts_anew() -> None:
    vivaldi = Vivaldi(random.Random(1))
    vivaldi.observe("other", at(1e308, 1e308, -1e308), 1.0)
    vivaldi.observe("far", at(-1.7e308, 1.7e308), 1.0)
    assert vivaldi.coordinate.is_valid()
    assert vivaldi.resets >= 1


@pytest.mark.parametrize("vec", [[0.0] * 7, [0.0] * 9, [math.nan] + [0.0] * 7, [math.inf] + [0.0] * 7, []])
def test_what_is_no_place_is_refused(vec: list[float]) -> None:
    with pytest.raises(MalformedMessage):
        decode_payload(encode_payload(Coordinate(vec=vec)))


def test_forgetting() -> None:
    vivaldi = Vivaldi(random.Random(1))
    vivaldi.observe("other", Coordinate(), 0.1)
    assert vivaldi.coordinate_of("other") == Coordinate()
    vivaldi.forget("other")
    assert vivaldi.coordinate_of("other") is None

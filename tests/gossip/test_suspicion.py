"""Lifeguard's formulas, by their worked numbers."""

import pytest

from discovery.gossip.profile import LAN
from discovery.gossip.suspicion import (
    Awareness,
    Suspicion,
    expected_confirmations,
    retransmit_limit,
    suspicion_timeout,
)


def test_a_group_of_three_has_no_confirmations_to_wait_for() -> None:
    assert expected_confirmations(LAN.suspicion_mult, 3) == 0
    shortest = suspicion_timeout(LAN.suspicion_mult, 3, LAN.probe_interval)
    assert shortest == 4.0
    assert Suspicion("a", 0, shortest, 24.0, 10.0).deadline == 14.0


def test_confirmations_shorten_the_suspicion_of_a_group_of_a_hundred() -> None:
    shortest = suspicion_timeout(LAN.suspicion_mult, 100, LAN.probe_interval)
    longest = shortest * LAN.suspicion_max_timeout_mult
    assert (shortest, longest, expected_confirmations(LAN.suspicion_mult, 100)) == (8.0, 48.0, 2)
    suspicion = Suspicion("a", 2, shortest, longest, 0.0)
    assert suspicion.deadline == 48.0
    assert not suspicion.confirm("a")
    assert suspicion.confirm("b")
    assert suspicion.deadline == pytest.approx(22.763, abs=0.0011)
    assert not suspicion.confirm("b")
    assert suspicion.confirm("c")
    assert suspicion.deadline == 8.0
    assert not suspicion.confirm("d")


@pytest.mark.parametrize(("nodes", "limit"), [(1, 4), (2, 4), (9, 4), (10, 8), (99, 8), (100, 12)])
def test_retransmissions(nodes: int, limit: int) -> None:
    assert retransmit_limit(LAN.retransmit_mult, nodes) == limit


def test_awareness_stays_within_its_bounds() -> None:
    awareness = Awareness(8)
    assert awareness.scale(0.5) == 0.5
    awareness.add(3)
    assert awareness.scale(0.5) == 2.0
    awareness.add(100)
    assert awareness.score == 7
    awareness.add(-100)
    assert awareness.score == 0


def test_a_postponed_suspicion_ends_later() -> None:
    suspicion = Suspicion("a", 0, 4.0, 24.0, 0.0)
    suspicion.postpone(5.0)
    assert suspicion.deadline == 9.0

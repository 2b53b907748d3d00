"""Autopilot's decisions as a function of what is known."""

import random

import msgspec
import pytest

from discovery.server.promotion import (
    Candidate,
    Decision,
    decide,
    failure_tolerance,
    is_dead,
    optimistic_failure_tolerance,
)


def server(name: str, zone: str = "", **fields: bool) -> Candidate:
    """Healthy and stable unless said otherwise."""
    healthy = fields.pop("healthy", not fields.get("dead", False))
    stable = fields.pop("stable", healthy)
    return Candidate(id=name, name=name, zone=zone, healthy=healthy, stable=stable, **fields)


def voter(name: str, zone: str = "", **fields: bool) -> Candidate:
    return server(name, zone, voter=True, **fields)


def decision(*servers: Candidate, zones: bool = False, cleanup: bool = True, min_quorum: int = 0) -> Decision:
    return decide(servers, zones=zones, cleanup=cleanup, min_quorum=min_quorum)


def test_nothing_to_do() -> None:
    assert decision(voter("a", leader=True), voter("b"), voter("c")) == Decision()


def test_a_server_votes_once_it_is_stable() -> None:
    known = [voter("a", leader=True), voter("b"), voter("c")]
    assert decision(*known, server("new", stable=False)).promote == ()
    assert decision(*known, server("new", healthy=False)).promote == ()
    assert decision(*known, server("new")).promote == ("new",)


def test_read_replicas_never_vote() -> None:
    known = [voter("a", leader=True), voter("b"), voter("c")]
    assert decision(*known, server("replica", may_vote=False)) == Decision()
    assert decision(*known, voter("was-voter", may_vote=False)).demote == ("was-voter",)


@pytest.mark.parametrize(
    ("voters", "dead", "removed"),
    [(1, 0, 0), (2, 1, 0), (3, 1, 1), (3, 2, 0), (4, 1, 1), (4, 2, 0), (5, 2, 2), (5, 3, 0), (7, 3, 3), (7, 4, 0)],
)
def test_only_a_minority_of_dead_voters_is_removed(voters: int, dead: int, removed: int) -> None:
    servers = [voter(f"s{number}", dead=number >= voters - dead, leader=number == 0) for number in range(voters)]
    found = decision(*servers)
    assert len(found.remove) == removed
    assert bool(found.refusal) == (dead > 0 and removed == 0)


def test_min_quorum_stays() -> None:
    servers = [voter("a", leader=True), voter("b"), voter("c", dead=True)]
    assert decision(*servers, min_quorum=2).remove == ("c",)
    assert decision(*servers, min_quorum=3).remove == ()
    assert "min_quorum is 3" in decision(*servers, min_quorum=3).refusal


def test_dead_servers_without_a_vote_are_removed_freely() -> None:
    servers = [voter("a", leader=True), server("b", dead=True), server("c", dead=True)]
    assert decision(*servers).remove == ("b", "c")


def test_without_cleanup_the_dead_stay() -> None:
    assert decision(voter("a", leader=True), voter("b"), voter("c", dead=True), cleanup=False) == Decision()


# --- zones -----------------------------------------------------------------------------------------------------------


def five_over_three() -> dict[str, Candidate]:
    """The layout of the documentation: two in a, two in b, one in c; one of each votes."""
    servers = [voter("a1", "a", leader=True), server("a2", "a"), voter("b1", "b"), server("b2", "b"), voter("c1", "c")]
    return {each.id: each for each in servers}


def settle(servers: dict[str, Candidate], *, cleanup: bool = True) -> int:
    """Carry out what is decided until nothing is; returns the number of passes."""
    for passes in range(20):
        found = decide(list(servers.values()), zones=True, cleanup=cleanup, min_quorum=0)
        if not (found.promote or found.demote or found.remove):
            return passes
        for server_id in found.promote:
            servers[server_id] = _with(servers[server_id], voter=True)
        for server_id in found.demote:
            servers[server_id] = _with(servers[server_id], voter=False)
        for server_id in found.remove:
            del servers[server_id]
        check_quorum(servers)
    raise AssertionError("it never settles")


def _with(server: Candidate, **changes: object) -> Candidate:
    return msgspec.structs.replace(server, **changes)


def check_quorum(servers: dict[str, Candidate]) -> None:
    voters = [each for each in servers.values() if each.voter]
    assert sum(not each.dead for each in voters) > len(voters) // 2, voters


def voters_of(servers: dict[str, Candidate]) -> list[str]:
    return sorted(each.id for each in servers.values() if each.voter)


def fail(servers: dict[str, Candidate], *names: str) -> None:
    for name in names:
        servers[name] = _with(servers[name], healthy=False, stable=False, dead=True, leader=False)
    if not any(each.leader for each in servers.values()):
        heir = next(each.id for each in servers.values() if each.voter and not each.dead)
        servers[heir] = _with(servers[heir], leader=True)


def test_one_voter_a_zone() -> None:
    servers = five_over_three()
    assert settle(servers) == 0
    assert voters_of(servers) == ["a1", "b1", "c1"]


def test_zones_given_to_a_cluster_where_all_vote() -> None:
    servers = {name: _with(each, voter=True) for name, each in five_over_three().items()}
    settle(servers)
    assert voters_of(servers) == ["a1", "b1", "c1"]


def test_a_standby_takes_the_place_of_its_zones_voter() -> None:
    servers = five_over_three()
    fail(servers, "b1")
    first = decide(list(servers.values()), zones=True, cleanup=False, min_quorum=0)
    assert (first.promote, first.demote) == (("b2",), ())
    settle(servers, cleanup=False)
    assert voters_of(servers) == ["a1", "b2", "c1"]


def test_when_a_zone_is_lost_another_zone_votes_twice() -> None:
    """Five servers over three zones outlive a zone, and after that one more server."""
    servers = five_over_three()
    fail(servers, "a1", "a2")
    settle(servers, cleanup=False)
    assert voters_of(servers) == ["b1", "b2", "c1"]


def test_the_zone_that_returns_gets_its_vote_back() -> None:
    servers = five_over_three()
    fail(servers, "a1", "a2")
    settle(servers, cleanup=False)
    for name in ("a1", "a2"):
        servers[name] = _with(servers[name], healthy=True, stable=True, dead=False)
    settle(servers, cleanup=False)
    assert voters_of(servers) == ["a1", "b1", "c1"]


def test_a_leader_in_an_oversized_zone_keeps_its_vote() -> None:
    servers = {each.id: each for each in [voter("a1", "a"), voter("a2", "a", leader=True), voter("b1", "b"), voter("c1", "c")]}
    settle(servers)
    assert voters_of(servers) == ["a2", "b1", "c1"]


def test_a_zone_that_is_only_just_there_is_not_taken_for_lost() -> None:
    servers = five_over_three()
    servers["d1"] = server("d1", "d", stable=False)
    assert settle(servers) == 0
    servers["d1"] = server("d1", "d")
    settle(servers)
    assert voters_of(servers) == ["a1", "b1", "c1", "d1"]


def test_servers_without_a_zone_vote_as_before() -> None:
    servers = five_over_three()
    servers["x"] = server("x")
    settle(servers)
    assert voters_of(servers) == ["a1", "b1", "c1", "x"]


@pytest.mark.parametrize("seed", range(200))
def test_any_layout_settles_with_one_voter_in_every_zone_that_lives(seed: int) -> None:
    rng = random.Random(seed)
    zones = [f"z{number}" for number in range(rng.randint(1, 4))]
    servers = {each.id: each for each in (server(f"s{number}", rng.choice(zones)) for number in range(rng.randint(2, 7)))}
    servers["s0"] = _with(servers["s0"], leader=True, voter=True)
    settle(servers)
    for zone in {each.zone for each in servers.values()}:
        assert sum(each.voter for each in servers.values() if each.zone == zone) == 1, servers
    alive = [name for name, each in servers.items() if each.voter]
    victims = rng.sample(alive, (len(alive) - 1) // 2)
    if victims:
        fail(servers, *victims)
        settle(servers, cleanup=rng.random() < 0.5)
        for zone in {each.zone for each in servers.values() if each.healthy}:
            assert any(each.voter and each.healthy for each in servers.values() if each.zone == zone), servers


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_failure_tolerance() -> None:
    assert failure_tolerance([voter("a")]) == 0
    assert failure_tolerance([voter("a"), voter("b"), voter("c")]) == 1
    assert failure_tolerance([voter("a"), voter("b"), voter("c", healthy=False)]) == 0
    assert failure_tolerance([voter(name) for name in "abcde"]) == 2
    assert failure_tolerance([voter("a"), voter("b"), voter("c"), server("d"), server("e")]) == 1


def test_with_time_for_standbys_more_may_fail() -> None:
    assert optimistic_failure_tolerance(list(five_over_three().values())) == 3


@pytest.mark.parametrize(
    ("status", "silence", "dead"), [(1, 60, False), (4, 60, True), (4, 1, False), (None, 60, True), (None, 1, False)]
)
def test_dead_is_who_gossip_and_raft_both_miss(status: int | None, silence: float, dead: bool) -> None:
    assert is_dead(status, silence, 5.0) is dead

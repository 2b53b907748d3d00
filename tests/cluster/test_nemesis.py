"""What clients see is linearizable while servers are killed, paused and cut off from each other."""

import contextlib
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .agents import Agent, Cluster, running, until
from .load import KEYS, Load
from .network import Network, network, permitted

SEED = 20261126
PATIENCE = 60.0

KEEP_THE_DEAD = "-hcl=autopilot { cleanup_dead_servers = false }"
"""Servers that are gone for long stay voters, so that what follows does not depend on how slow this machine is."""

needs_namespaces = pytest.mark.skipif(not permitted(), reason="this machine lets us make no network namespaces")


def more_writes(load: Load, count: int, what: str) -> None:
    """Wait until `count` more writes have been acknowledged."""
    reached = load.succeeded() + count
    until(lambda: load.succeeded() >= reached, f"{count} writes {what}", PATIENCE)


def converged(servers: list[Agent]) -> None:
    """All servers hold the same, by what each answers alone."""
    servers[0].put("load/last", b"x")
    for server in servers:
        until(lambda server=server: server.get("load/last", "&stale") == b"x", f"{server.name} to catch up", PATIENCE)
    states = [[server.get(key, "&stale") for key in KEYS] for server in servers]
    assert all(state == states[0] for state in states), states


def test_servers_are_killed_and_started_again(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with running(Cluster(tmp_path, 3, clients=1, flags=[KEEP_THE_DEAD])) as cluster:
        with Load(cluster.agents, seed=1) as load:
            more_writes(load, 20, "before anything happens")
            for victim in (cluster.leader(), rng.choice(cluster.followers()), cluster.leader()):
                victim.kill()
                more_writes(load, 10, f"after {victim.name} was killed")
                victim.start().ready()
        load.judge()
        converged(cluster.servers)


def test_servers_are_paused_and_go_on(tmp_path: Path) -> None:
    with running(Cluster(tmp_path, 3, flags=[KEEP_THE_DEAD])) as cluster, Load(cluster.servers, seed=2) as load:
        more_writes(load, 20, "before anything happens")
        for victim in (cluster.leader(), cluster.followers()[0], cluster.leader()):
            victim.signal(signal.SIGSTOP)
            more_writes(load, 10, f"while {victim.name} stands still")
            victim.signal(signal.SIGCONT)
            more_writes(load, 10, f"after {victim.name} went on")
    load.judge()


class NetworkedCluster(Cluster):
    """Servers on hosts of their own."""

    def __init__(self, folder: Path, net: Network) -> None:
        super().__init__(folder, len(net.addresses), addresses=net.addresses, flags=[KEEP_THE_DEAD])
        for host, server in enumerate(self.servers):
            server.prefix = net.prefix(host)

    def host_of(self, server: Agent) -> int:
        return self.servers.index(server)


@contextlib.contextmanager
def networked(folder: Path, size: int) -> Iterator[tuple[NetworkedCluster, Network]]:
    with network(size) as net, running(NetworkedCluster(folder, net)) as cluster:
        assert isinstance(cluster, NetworkedCluster)
        yield cluster, net


@needs_namespaces
def test_five_servers_are_cut_into_majority_and_minority(tmp_path: Path) -> None:
    with networked(tmp_path, 5) as (cluster, net):
        with Load(cluster.servers, clients=6, seed=3) as load:
            more_writes(load, 20, "before anything happens")
            leader = cluster.host_of(cluster.leader())
            neighbour = (leader + 1) % 5
            others = [host for host in range(5) if host not in (leader, neighbour)]
            net.cut([leader, neighbour], others)
            more_writes(load, 15, "while the leader is in the minority")
            status, _, body = cluster.servers[leader].status_of("GET", "/v1/kv/load/a?consistent")
            assert (status, body[:17]) == (500, b"No cluster leader")
            net.heal()
            more_writes(load, 15, "after the network healed")
            leader = cluster.host_of(cluster.leader())
            net.cut([leader], [host for host in range(5) if host != leader], both_ways=False)
            more_writes(load, 15, "while the leader is not heard")
            net.heal()
            more_writes(load, 10, "after the network healed again")
        load.judge()
        converged(cluster.servers)


@needs_namespaces
def test_five_servers_outlive_one_server_and_then_a_zone_of_two(tmp_path: Path) -> None:
    """Two zones of two and one of one: any zone may be lost."""
    with networked(tmp_path, 5) as (cluster, _):
        zones = (cluster.servers[:2], cluster.servers[2:4], cluster.servers[4:])
        with Load(cluster.servers, seed=4) as load:
            more_writes(load, 20, "before anything happens")
            for zone in (zones[2], zones[0], zones[1]):
                for server in zone:
                    server.kill()
                more_writes(load, 10, f"without {' and '.join(server.name for server in zone)}")
                for server in zone:
                    server.start()
                for server in zone:
                    server.ready()
        load.judge()
        converged(cluster.servers)

"""Three servers and a client, real processes: what the cluster promises when its members die."""

import base64
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path

import pytest

from .agents import HTTP_PORT, Agent, Cluster, running, until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(Cluster(tmp_path, 3, clients=1)) as started:
        yield started


def index_of(agent: Agent, key: str) -> int:
    _, headers, _ = agent.exchange("GET", f"/v1/kv/{key}")
    return int(headers["X-Consul-Index"])


def ask(connection: HTTPConnection, target: str) -> tuple[HTTPMessage, bytes]:
    """The answer on a connection that stays open, as those of most clients do."""
    connection.request("GET", target)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.headers, answer.read()


def test_a_write_to_any_agent_is_read_from_every_agent(cluster: Cluster) -> None:
    for number, agent in enumerate(cluster.agents):
        assert agent.put(f"from/{agent.name}", str(number).encode())
    for reader in cluster.agents:
        for number, writer in enumerate(cluster.agents):
            assert reader.get(f"from/{writer.name}") == str(number).encode()
            assert reader.get(f"from/{writer.name}", "&consistent") == str(number).encode()
    for server in cluster.servers:
        until(lambda server=server: server.get("from/c1", "&stale") == b"3", f"{server.name} to catch up")


def test_reads_carry_the_headers_that_clients_parse(cluster: Cluster) -> None:
    cluster.clients[0].put("headers", b"x")
    for agent in cluster.agents:
        until(lambda agent=agent: agent.get("headers", "&stale"), f"{agent.name} to have the key")
        for mode in ("", "?stale", "?consistent"):
            _, headers, _ = agent.exchange("GET", f"/v1/kv/headers{mode}")
            assert int(headers["X-Consul-Index"]) > 0
            assert headers["X-Consul-Knownleader"] == "true"
            assert int(headers["X-Consul-Lastcontact"]) >= 0


def test_killing_the_leader_loses_nothing_and_writes_go_on(cluster: Cluster) -> None:
    first = cluster.leader()
    client = cluster.clients[0]
    for number in range(50):
        assert client.put(f"before/{number}", str(number).encode())
    first.kill()
    until(lambda: client.put("after", b"1"), "a write after the leader's death", 10)
    for number in range(50):
        assert client.get(f"before/{number}") == str(number).encode()
    first.start().ready()
    until(lambda: first.get("after", "&stale") == b"1", "the old leader to catch up by itself")
    assert cluster.leader() is not first


def test_everything_survives_killing_all_servers_at_once(cluster: Cluster) -> None:
    client = cluster.clients[0]
    for number in range(30):
        assert client.put(f"kept/{number}", str(number).encode())
    index = index_of(client, "kept/29")
    for server in cluster.servers:
        server.kill()
    for server in cluster.servers:
        server.start()
    for server in cluster.servers:
        server.ready()
    for number in range(30):
        assert until(lambda n=number: client.get(f"kept/{n}"), "the key") == str(number).encode()
    assert index_of(client, "kept/29") == index


def test_a_minority_is_enough_for_stale_reads_only(cluster: Cluster) -> None:
    client = cluster.clients[0]
    client.put("lonely", b"1")
    survivor = cluster.followers()[0]
    until(lambda: survivor.get("lonely", "&stale") == b"1", "the follower to catch up")
    for server in cluster.servers:
        if server is not survivor:
            server.kill()
    assert survivor.get("lonely", "&stale") == b"1"
    with closing(HTTPConnection(survivor.address, HTTP_PORT)) as connection:

        def contact() -> int:
            """Milliseconds since the survivor heard from a leader, 0 while it believes in one."""
            headers, body = ask(connection, "/v1/kv/lonely?stale&raw")
            assert body == b"1"
            return int(headers["X-Consul-Lastcontact"]) if headers["X-Consul-Knownleader"] == "false" else 0

        before = until(contact, "the survivor to miss its leader")
        until(lambda: contact() > before, "its data to age")
    status, _, body = survivor.status_of("PUT", "/v1/kv/lonely", b"2")
    assert status == 500
    assert body.startswith(b"No cluster leader")


def test_a_stale_watch_at_a_follower_is_answered_by_a_write(cluster: Cluster) -> None:
    follower = cluster.followers()[0]
    cluster.clients[0].put("watched", b"0")
    until(lambda: follower.get("watched", "&stale") == b"0", "the follower to catch up")
    with ThreadPoolExecutor(10) as threads, ExitStack() as opened:
        watchers = [opened.enter_context(closing(HTTPConnection(follower.address, HTTP_PORT))) for _ in range(10)]
        for number in range(1, 4):
            index = ask(watchers[0], "/v1/kv/watched?stale&raw")[0]["X-Consul-Index"]
            target = f"/v1/kv/watched?stale&raw&index={index}&wait=30s"
            answers = [threads.submit(ask, watcher, target) for watcher in watchers]
            until(lambda: waiting(follower) == 10, "all to wait")
            cluster.clients[0].put("watched", b"%d" % number)
            assert {answer.result()[1] for answer in answers} == {b"%d" % number}


def waiting(agent: Agent) -> int:
    """How many blocking queries the agent holds."""
    gauges = agent.http("GET", "/v1/agent/metrics")["Gauges"]
    return next(int(each["Value"]) for each in gauges if each["Name"].endswith("rpc.queries_blocking"))


def test_the_client_agent_outlives_its_server(cluster: Cluster) -> None:
    client = cluster.clients[0]
    client.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80, "Tags": ["v1"]})
    until(lambda: client.http("GET", "/v1/catalog/service/web"), "the service in the catalog")
    for server in list(cluster.servers[:1]):
        server.kill()
    services = until(lambda: client.http("GET", "/v1/health/service/web?passing"), "the service through another server")
    assert services[0]["Service"]["Tags"] == ["v1"]


def test_a_client_registers_again_after_its_restart(cluster: Cluster) -> None:
    client = cluster.clients[0]
    body = {"Name": "api", "Port": 81, "Check": {"TTL": "1h", "Status": "passing"}}
    client.http("PUT", "/v1/agent/service/register", body)
    until(lambda: client.http("GET", "/v1/health/service/api?passing"), "the service in the catalog")
    server = cluster.servers[0]
    client.kill()
    server.http("PUT", "/v1/catalog/deregister", {"Node": "c1", "ServiceID": "api"})
    client.start().ready()
    found = until(lambda: server.http("GET", "/v1/catalog/service/api"), "the service to be pushed again")
    assert found[0]["Node"] == "c1"


def test_names_resolve_on_every_agent(cluster: Cluster) -> None:
    client = cluster.clients[0]
    client.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 8080, "Tags": ["v1"]})
    for agent in cluster.agents:
        until(lambda agent=agent: agent.dns("web.service.consul").rr, f"{agent.name} to resolve the service")
        answer = agent.dns("v1.web.service.consul", "SRV")
        assert answer.rr[0].rdata.port == 8080
        assert str(answer.rr[0].rdata.target) == "c1.node.dc1.consul."
        assert str(agent.dns("_web._tcp.service.consul", "SRV", tcp=True).rr[0].rdata.port) == "8080"
        assert str(agent.dns("s1.node.consul").rr[0].rdata) == cluster.servers[0].address


def test_a_failed_client_is_critical_and_a_leaving_one_is_gone(cluster: Cluster) -> None:
    client, server = cluster.clients[0], cluster.servers[0]
    client.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80})
    until(lambda: server.http("GET", "/v1/health/service/web?passing"), "the service")
    client.kill()
    until(lambda: not server.http("GET", "/v1/health/service/web?passing"), "the dead agent's service to go", 60)
    assert server.http("GET", "/v1/health/node/c1")[0]["Status"] == "critical"
    client.start().ready()
    until(lambda: server.http("GET", "/v1/health/service/web?passing"), "the service to come back")
    client.signal(signal.SIGTERM)
    assert client.wait() == 0
    until(lambda: server.http("GET", "/v1/catalog/node/c1") is None, "the node to be deregistered")


def test_a_blocking_query_on_a_follower_wakes_for_its_key_alone(cluster: Cluster) -> None:
    follower = cluster.followers()[0]
    follower.put("watched", b"1")
    index = index_of(follower, "watched")
    follower.put("other", b"1")
    _, headers, body = follower.exchange("GET", f"/v1/kv/watched?index={index}&wait=300ms")
    assert int(headers["X-Consul-Index"]) == index
    follower.put("watched", b"2")
    entry = follower.http("GET", f"/v1/kv/watched?index={index}&wait=10s")[0]
    assert base64.b64decode(entry["Value"]) == b"2"
    assert body


def test_the_log_is_cut_by_snapshots_and_a_late_follower_gets_one(tmp_path: Path) -> None:
    flags = ['-hcl=raft_snapshot_threshold = 50 raft_snapshot_interval = "200ms" raft_trailing_logs = 10']
    with running(Cluster(tmp_path, 3, flags=flags)) as cluster:
        late = cluster.followers()[0]
        late.kill()
        leader = cluster.leader()
        for number in range(300):
            assert leader.put(f"snap/{number}", b"x" * 100)
        until(lambda: list((leader.data_dir / "raft" / "snapshots").glob("*.snapshot")), "a snapshot")
        late.start().ready()
        until(lambda: late.get("snap/299", "&stale") == b"x" * 100, "the late follower to catch up")
        assert "snapshot installed" in late.log()

"""Real Consul agents and ours in one cluster, either side serving the other."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from ..cluster.agents import Agent, Cluster, fresh_address, running, until
from ..transport.peers import find, needs

CONSUL = find("consul")
pytestmark = needs("consul")

SETTINGS = "disable_update_check = true performance { raft_multiplier = 1 }"


class ConsulAgent(Agent):
    """An agent of the real program, steered as one of ours."""

    def command(self) -> list[str]:
        assert CONSUL is not None
        return [
            *(CONSUL, "agent", f"-node={self.name}", f"-bind={self.address}", f"-client={self.address}"),
            *(f"-data-dir={self.data_dir}", "-retry-interval=1s", f"-hcl={SETTINGS}", *self.flags),
        ]


@contextlib.contextmanager
def started(agent: Agent) -> Iterator[Agent]:
    agent.start()
    try:
        yield agent.ready()
    finally:
        agent.kill()


def register_web(agent: Agent, checked: Agent) -> None:
    check = {"TCP": f"{checked.address}:8500", "Interval": "1s"}
    agent.http("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 8080, "Tags": ["v1"], "Check": check})


def resolves_to(asked: Agent, owner: Agent) -> bool:
    answer = asked.dns("v1.web.service.consul", "SRV")
    return [str(record.rdata.target) for record in answer.rr] == [f"{owner.name}.node.dc1.consul."]


def statuses(agent: Agent) -> dict[str, int]:
    return {member["Name"]: member["Status"] for member in agent.http("GET", "/v1/agent/members")}


def test_a_consul_client_lives_in_our_cluster(tmp_path: Path) -> None:
    with running(Cluster(tmp_path, 3)) as cluster:
        server = cluster.servers[0]
        real = ConsulAgent(tmp_path, "real", f"-retry-join={server.address}")
        with started(real):
            register_web(real, server)
            until(lambda: resolves_to(server, real), "our DNS to resolve the service of a Consul client")
            until(lambda: resolves_to(real, real), "Consul's DNS to resolve its service through our servers")
            assert real.put("from/real", b"1")
            assert server.get("from/real") == b"1"
            session = real.http("PUT", "/v1/session/create", {"TTL": "30s"})["ID"]
            assert real.http("PUT", f"/v1/kv/lock?acquire={session}", b"x") is True
            assert server.http("PUT", "/v1/kv/lock?acquire=" + session, b"x") is True
            assert real.http("GET", "/v1/health/service/web?passing")[0]["Node"]["Node"] == "real"
            real.http("PUT", "/v1/agent/leave", timeout=30)
            # A Consul client may register itself once more while it leaves; the next full reconciliation sets that right.
            until(lambda: server.http("GET", "/v1/catalog/node/real") is None, "the node that left to go from our catalog", 90)
            assert statuses(server)["real"] == 3


def test_a_consul_client_that_dies_is_failed_and_critical(tmp_path: Path) -> None:
    with running(Cluster(tmp_path, 1)) as cluster:
        server = cluster.servers[0]
        real = ConsulAgent(tmp_path, "real", f"-retry-join={server.address}")
        with started(real):
            register_web(real, server)
            until(lambda: resolves_to(server, real), "the service")
            real.kill()
            until(lambda: statuses(server)["real"] == 4, "the dead agent to fail", 60)
            until(lambda: server.http("GET", "/v1/health/node/real")[0]["Status"] == "critical", "serfHealth to be critical")
            assert not server.dns("web.service.consul").rr


def test_our_client_lives_in_a_consul_cluster(tmp_path: Path) -> None:
    addresses = [fresh_address() for _ in range(3)]
    joins = [f"-retry-join={address}" for address in addresses]
    with contextlib.ExitStack() as stack:
        servers = [
            ConsulAgent(tmp_path, f"real{number}", "-server", "-bootstrap-expect=3", *joins, address=address)
            for number, address in enumerate(addresses, 1)
        ]
        for server in servers:
            stack.callback(server.kill)
            server.start()
        ours = stack.enter_context(started(Agent(tmp_path, "ours", *joins, "-retry-interval=1s")))
        server = servers[0]
        register_web(ours, server)
        until(lambda: resolves_to(server, ours), "Consul's DNS to resolve the service of our client")
        until(lambda: resolves_to(ours, ours), "our DNS to resolve it through Consul's servers")
        assert ours.put("from/ours", b"1")
        assert server.get("from/ours") == b"1"
        assert ours.http("DELETE", "/v1/kv/from/ours") is True
        ours.signal(signal.SIGTERM)
        assert ours.wait() == 0
        until(lambda: statuses(server)["ours"] == 3, "Consul to see that our client left")
        until(lambda: server.http("GET", "/v1/catalog/node/ours") is None, "Consul to deregister it")

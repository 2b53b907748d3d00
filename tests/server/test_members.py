"""The leader keeps the catalog and the Raft configuration in step with gossip."""

import asyncio
from pathlib import Path

import msgspec

from discovery.model import requests as r
from discovery.model.records import HealthCheck
from tests.server.rig import ALIVE, FAILED, LEFT, Node, client_member, cluster, node_id, until


def node_names(node: Node) -> set[str]:
    return {each.node for each in node.server.store.nodes().value}


def registered_id(node: Node, name: str) -> str | None:
    return next((each.id for each in node.server.store.nodes().value if each.node == name), None)


async def status_becomes(node: Node, name: str, status: str | None) -> None:
    await until(lambda: node.serf_status(name) == status, f"serfHealth of {name} to be {status}")


async def test_a_member_that_joins_fails_returns_and_leaves(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        made.pool.put(client_member("client", node_id=node_id(77)))
        await status_becomes(leader, "client", "passing")
        (check,) = leader.server.store.node_checks("client").value
        assert (check.name, check.output) == ("Serf Health Status", "Agent alive and reachable")
        assert registered_id(leader, "client") == node_id(77)
        made.pool.set_status("client", FAILED)
        await status_becomes(leader, "client", "critical")
        made.pool.set_status("client", ALIVE)
        await status_becomes(leader, "client", "passing")
        made.pool.set_status("client", LEFT)
        await until(lambda: "client" not in node_names(leader), "the node to go")


async def test_a_failed_member_that_is_reaped_goes_with_all_it_had(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("client"))
        await status_becomes(only, "client", "passing")
        await only.register("client", "web")
        made.pool.set_status("client", FAILED)
        await status_becomes(only, "client", "critical")
        assert only.server.store.service_nodes("web").value
        made.pool.reap("client")
        await until(lambda: "client" not in node_names(only), "the node to go")
        assert not only.server.store.service_nodes("web").value


async def test_servers_have_the_service_consul(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        await until(lambda: len(leader.server.store.service_nodes("consul").value) == 3, "three instances of consul")
        row = leader.server.store.service_nodes("consul").value[0]
        assert row.service_port == 8300
        assert row.service_meta == {
            "non_voter": "false",
            "raft_version": "3",
            "serf_protocol_current": "2",
            "serf_protocol_max": "5",
            "serf_protocol_min": "1",
            "version": "1.8.7",
        }


async def test_what_changed_while_nobody_led_is_noticed_by_the_next_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        for name in ("stays", "fails", "leaves", "forgotten"):
            made.pool.put(client_member(name))
            await status_becomes(leader, name, "passing")
        await made.settled()
        await asyncio.gather(*(node.stop(ALIVE) for node in made.nodes))
        made.pool.set_status("fails", FAILED)
        made.pool.set_status("leaves", LEFT)
        made.pool.reap("forgotten")
        made.pool.put(client_member("arrives"))
        await asyncio.gather(*(node.start() for node in made.nodes))
        leader = await made.leader()
        await status_becomes(leader, "arrives", "passing")
        await status_becomes(leader, "fails", "critical")
        await until(lambda: not {"leaves", "forgotten"} & node_names(leader), "the two to go")
        assert leader.serf_status("stays") == "passing"


async def test_nodes_without_an_agent_are_left_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        check = HealthCheck(check_id="ping", name="ping", status="critical")
        await leader.register("external", "db", checks=[check])
        await leader.server.duties._reconciler.all()
        assert "external" in node_names(leader)


async def test_metadata_and_tagged_addresses_that_an_agent_registered_are_kept(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        member = client_member("client", node_id=node_id(9), address="10.9.9.1")
        await only.call(
            "Catalog.Register",
            r.RegisterRequest(
                node="client", id=node_id(9), address="10.9.9.2", node_meta={"zone": "a"}, tagged_addresses={"wan": "1.2.3.4"}
            ),
        )
        made.pool.put(member)
        await status_becomes(only, "client", "passing")
        (node,) = (each for each in only.server.store.nodes().value if each.node == "client")
        assert (node.address, node.meta, node.tagged_addresses) == ("10.9.9.1", {"zone": "a"}, {"wan": "1.2.3.4"})


async def test_a_known_member_costs_no_log_entry(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("client"))
        await status_becomes(only, "client", "passing")
        before = only.server.store.index
        await only.server.duties._reconciler.all()
        assert only.server.store.index == before


async def test_a_rebuilt_machine_takes_over_its_old_name(tmp_path: Path) -> None:
    """It is back before gossip has noticed that the old one is gone, with a new disk and so a new id."""
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("box", node_id=node_id(50)))
        await status_becomes(only, "box", "passing")
        await only.register("box", "old-service", id=node_id(50))
        made.pool.put(client_member("box", node_id=node_id(51)))
        await until(lambda: registered_id(only, "box") == node_id(51), "the new id")
        await status_becomes(only, "box", "passing")
        assert not only.server.store.service_nodes("old-service").value


async def test_a_name_whose_owner_is_alive_under_another_is_not_taken(tmp_path: Path) -> None:
    """The catalog says `box` is node 50, and node 50 is alive: whoever calls itself `box` now has to wait."""
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("box", node_id=node_id(50)))
        await status_becomes(only, "box", "passing")
        made.pool.members["other"] = client_member("other", node_id=node_id(50))
        made.pool.members["box"] = client_member("box", node_id=node_id(51))
        await only.server.duties._reconciler.one(made.pool.members["box"])
        assert registered_id(only, "box") == node_id(50)


async def test_a_renamed_machine_keeps_its_id(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("old-name", node_id=node_id(50)))
        await status_becomes(only, "old-name", "passing")
        made.pool.set_status("old-name", FAILED)
        await status_becomes(only, "old-name", "critical")
        made.pool.put(client_member("new-name", node_id=node_id(50)))
        await status_becomes(only, "new-name", "passing")
        assert "old-name" not in node_names(only)
        made.pool.reap("old-name")
        await only.server.duties._reconciler.all()
        assert registered_id(only, "new-name") == node_id(50)


async def test_a_refusal_about_one_member_does_not_stop_the_others(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as made:
        (only,) = made.nodes
        made.pool.put(client_member("bad", node_id="not-a-uuid", address=""))
        made.pool.put(client_member("good"))
        await status_becomes(only, "good", "passing")


# --- servers ---------------------------------------------------------------------------------------------------------


async def test_a_server_that_left_is_removed_from_raft(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        gone = (await made.followers())[0]
        await gone.stop(LEFT)
        await until(lambda: gone.id not in leader.voters(), "the server to be removed")
        await until(lambda: gone.name not in node_names(leader), "the node to go")
        assert len(leader.voters()) == 2
        await leader.put("a")


async def test_a_server_that_failed_is_not_removed_by_that_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        failed = (await made.followers())[0]
        await failed.stop(FAILED)
        await status_becomes(leader, failed.name, "critical")
        assert failed.id in leader.voters()


async def test_the_leader_that_leaves_hands_over_and_is_removed_by_its_heir(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leaving = await made.leader()
        await leaving.put("a", b"1")
        await leaving.server.hand_over()
        heir = await made.leader(other_than=leaving)
        await leaving.stop(LEFT)
        await until(lambda: leaving.id not in heir.voters(), "the former leader to be removed")
        assert await heir.get("a") == b"1"


async def test_a_removed_server_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        removed = (await made.followers())[0]
        await made.quiet()
        made.pool.members.pop(removed.name)
        made.pool.listeners.remove(removed.server)
        await leader.call("Operator.RaftRemovePeerByID", r.RaftRemovePeerRequest(id=removed.id))
        term = leader.server.replica.term
        await until(lambda: removed.id not in removed.voters(), "the removed one to hear of it")
        await asyncio.sleep(1.5)
        assert leader.server.replica.is_leader
        assert leader.server.replica.term == term
        made.pool.listeners.append(removed.server)


async def test_a_renamed_server_is_not_removed_for_its_old_name(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        renamed = (await made.followers())[0]
        await status_becomes(leader, renamed.name, "passing")
        old = renamed.name
        made.pool.put(msgspec.structs.replace(renamed.member(), name="renamed"))
        await status_becomes(leader, "renamed", "passing")
        made.pool.set_status(old, LEFT)
        await until(lambda: old not in node_names(leader), "the old name to go")
        assert renamed.id in leader.voters()


async def test_a_rebuilt_server_at_the_same_address_replaces_the_old_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        leader = await made.leader()
        old = (await made.followers())[0]
        await old.stop(FAILED)
        rebuilt = made.node(old.name)
        rebuilt.host = old.host
        await rebuilt.start()
        await until(lambda: leader.server.replica.configuration.get(rebuilt.id) is not None, "the new one to be added")
        assert leader.server.replica.configuration.get(old.id) is None
        await until(lambda: registered_id(leader, old.name) == rebuilt.id, "the catalog to know it")
        await leader.put("a", b"1")
        await made.settled()
        assert await rebuilt.get("a", allow_stale=True) == b"1"

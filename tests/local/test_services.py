"""What this agent keeps: registration, re-registration, TTLs, maintenance, reload, reaping."""

import asyncio
from typing import Any

import msgspec
import pytest

from discovery.local.entries import Change
from discovery.local.services import Local
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import DiscoveryError, InvalidRequest, NotFound, RequestFailed
from discovery.model.records import Connect, Proxy, Upstream, Weights
from tests.local.rig import make_local, settle, simulate

TTL = Duration.from_seconds(600)
MINUTE = Duration.from_seconds(60)


def started(**options: Any) -> tuple[Local, list[Change]]:
    local = make_local(**options)
    changes: list[Change] = []
    local.start([], [])
    local.on_change(changes.append)
    return local, changes


def statuses(local: Local) -> dict[str, tuple[str, str]]:
    return {key: (check.status, check.output) for key, check in local.checks().items()}


def test_a_minimal_service_is_shown_as_consul_shows_it() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w"))
        assert msgspec.json.encode(local.services()) == (
            b'{"w":{"ID":"w","Service":"w","Tags":[],"Meta":{},"Port":0,"Address":"",'
            b'"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false}}'
        )
        local.remove_service("w")
        assert local.services() == {}
        await local.close()

    simulate(scenario())


def test_a_new_check_is_critical_unless_told_otherwise_and_carries_its_service() -> None:
    async def scenario() -> None:
        local, _ = started()
        checks = [CheckSpec(ttl=TTL, status="passing"), CheckSpec(ttl=TTL, name="mine", check_id="own", notes="n")]
        local.add_service(ServiceSpec(id="w1", name="w", tags=["t"], checks=checks))
        first, second = local.checks()["service:w1:1"], local.checks()["own"]
        assert (first.status, first.name, first.type, first.node) == ("passing", "Service 'w' check", "ttl", "node1")
        assert (second.status, second.notes, second.service_name, second.service_tags) == ("critical", "n", "w", ["t"])
        await local.close()

    simulate(scenario())


def test_registering_the_same_again_changes_nothing() -> None:
    async def scenario() -> None:
        local, changes = started()
        spec = ServiceSpec(name="w", port=80, check=CheckSpec(ttl=TTL))
        local.add_service(spec)
        local.update_ttl("service:w", "passing", "fine")
        shown, checks = dict(local.services()), dict(local.checks())
        changes.clear()
        local.add_service(spec)
        local.add_check(CheckSpec(name="c", ttl=TTL))
        changes.clear()
        local.add_check(CheckSpec(name="c", ttl=TTL))
        assert changes == []
        assert local.services() == shown
        assert local.checks()["service:w"] == checks["service:w"]
        await local.close()

    simulate(scenario())


@pytest.mark.parametrize("status", ["", "passing"])
def test_registering_again_keeps_status_and_output(status: str) -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL, status="passing")))
        local.update_ttl("service:w", "warning", "hm")
        local.add_service(ServiceSpec(name="w", port=81, check=CheckSpec(ttl=MINUTE, status=status)))
        assert statuses(local) == {"service:w": ("warning", "hm")}
        local.add_check(CheckSpec(id="service:w", name="other", service_id="w", tcp="127.0.0.1:1", interval=MINUTE))
        assert statuses(local) == {"service:w": ("warning", "hm")}
        assert local.checks()["service:w"].type == "tcp"
        await local.close()

    simulate(scenario())


def test_a_renamed_service_renames_its_checks() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(id="w", name="old", check=CheckSpec(ttl=TTL)))
        local.add_service(ServiceSpec(id="w", name="new", tags=["t"]))
        check = local.checks()["service:w"]
        assert (check.service_name, check.service_tags) == ("new", ["t"])
        await local.close()

    simulate(scenario())


def test_old_checks_stay_unless_they_are_to_be_replaced() -> None:
    async def scenario() -> None:
        local, _ = started()
        for name in ("one", "two"):
            local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL, check_id=name, name=name)))
        assert set(local.checks()) == {"one", "two"}
        spec = ServiceSpec(name="w", check=CheckSpec(ttl=TTL, check_id="three", name="three"))
        local.add_service(spec, replace_existing_checks=True)
        assert set(local.checks()) == {"three"}
        await local.close()

    simulate(scenario())


def test_a_refused_registration_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        local, changes = started()
        with pytest.raises(InvalidRequest, match="TTL must be > 0"):
            local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL), checks=[CheckSpec()]))
        with pytest.raises(RequestFailed, match="Scripts are disabled on this agent from remote calls"):
            local.add_service(ServiceSpec(name="w", check=CheckSpec(args=["true"], interval=MINUTE)))
        with pytest.raises(InvalidRequest, match="cannot specify an ID"):
            local.add_service(ServiceSpec(name="w", connect=Connect(sidecar_service={"ID": "x"})))
        assert (dict(local.services()), dict(local.checks()), changes) == ({}, {}, [])
        await local.close()

    simulate(scenario())


@pytest.mark.parametrize(
    ("spec", "text", "status"),
    [
        (CheckSpec(ttl=TTL), "Missing check name", 400),
        (CheckSpec(name="c"), "Invalid check: TTL must be > 0 for TTL checks", 400),
        (CheckSpec(name="c", ttl=TTL, status="green"), "Bad check status", 400),
        (CheckSpec(name="c", http="http://a"), "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks", 400),
        (CheckSpec(name="c", ttl=TTL, service_id="nope"), 'ServiceID "nope" does not exist', 500),
    ],
)
def test_bad_checks_are_refused(spec: CheckSpec, text: str, status: int) -> None:
    async def scenario() -> None:
        local, _ = started()
        with pytest.raises(DiscoveryError) as caught:
            local.add_check(spec)
        assert (caught.value.text, caught.value.status) == (text, status)
        await local.close()

    simulate(scenario())


def test_a_ttl_runs_out_and_comes_back() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_check(CheckSpec(name="c", ttl=Duration.from_seconds(10), status="passing"))
        await asyncio.sleep(9)
        assert statuses(local)["c"] == ("passing", "")
        await asyncio.sleep(2)
        assert statuses(local)["c"] == ("critical", "TTL expired")
        local.update_ttl("c", "passing", "back")
        await asyncio.sleep(9)
        assert statuses(local)["c"] == ("passing", "back")
        await asyncio.sleep(2)
        assert statuses(local)["c"] == ("critical", "TTL expired (last output before timeout follows): back")
        await local.close()

    simulate(scenario())


def test_what_a_service_says_is_cut_to_size() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_check(CheckSpec(name="c", ttl=TTL, output_max_size=10))
        local.update_ttl("c", "passing", "0123456789abcdef")
        assert statuses(local)["c"] == ("passing", "0123456789 ... (captured 10 of 16 bytes)")
        await local.close()

    simulate(scenario())


def test_only_ttl_checks_take_updates() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w"))
        local.service_maintenance("w", True, "")
        for check_id in ("nope", "", "_service_maintenance:w"):
            with pytest.raises(RequestFailed) as caught:
                local.update_ttl(check_id, "passing", "")
            assert caught.value.text == f'CheckID "{check_id}" does not have associated TTL'
        local.add_check(CheckSpec(name="c", ttl=TTL))
        with pytest.raises(InvalidRequest, match="Invalid check status: 'blue'"):
            local.update_ttl("c", "blue", "")
        await local.close()

    simulate(scenario())


def test_discarded_output_is_empty() -> None:
    async def scenario() -> None:
        local, _ = started(discard_check_output=True)
        local.add_check(CheckSpec(name="c", ttl=TTL))
        local.update_ttl("c", "passing", "secret")
        assert statuses(local)["c"] == ("passing", "")
        await local.close()

    simulate(scenario())


def test_maintenance_modes_are_critical_checks() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", tags=["t"]))
        local.service_maintenance("w", True, "new disk")
        local.service_maintenance("w", True, "another reason")
        local.node_maintenance(True, "")
        own, node = local.checks()["_service_maintenance:w"], local.checks()["_node_maintenance"]
        assert (own.name, own.status, own.notes, own.type) == ("Service Maintenance Mode", "critical", "new disk", "maintenance")
        assert (own.service_id, own.service_name, own.service_tags) == ("w", "w", ["t"])
        assert node.name == "Node Maintenance Mode"
        assert node.notes == "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
        local.service_maintenance("w", False, "")
        local.node_maintenance(False, "")
        local.node_maintenance(False, "")
        assert local.checks() == {}
        with pytest.raises(NotFound, match='No service registered with ID "nope"'):
            local.service_maintenance("nope", True, "")
        await local.close()

    simulate(scenario())


def test_a_service_takes_its_checks_along() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL)))
        local.add_check(CheckSpec(name="extra", service_id="w", ttl=TTL))
        local.add_check(CheckSpec(name="node", ttl=TTL))
        local.remove_service("w")
        local.remove_service("w")
        local.remove_check("nope")
        assert set(local.checks()) == {"node"}
        with pytest.raises(RequestFailed, match=r"^ServiceID missing$"):
            local.remove_service("")
        await local.close()

    simulate(scenario())


def test_a_sidecar_is_registered_beside_its_service_and_goes_with_it() -> None:
    async def scenario() -> None:
        local, _ = started()
        connect = Connect(sidecar_service={"tags": ["z"], "Proxy": {"local_service_port": 99}})
        local.add_service(ServiceSpec(name="w", port=80, tags=["t"], connect=Connect(sidecar_service={})))
        local.add_service(ServiceSpec(name="v", port=80, connect=connect))
        shown = msgspec.to_builtins(local.services()["w-sidecar-proxy"])
        assert shown == {
            "Kind": "connect-proxy",
            "ID": "w-sidecar-proxy",
            "Service": "w-sidecar-proxy",
            "Tags": ["t"],
            "Meta": {},
            "Port": 21000,
            "Address": "",
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Proxy": {
                "DestinationServiceName": "w",
                "DestinationServiceID": "w",
                "LocalServiceAddress": "127.0.0.1",
                "LocalServicePort": 80,
                "MeshGateway": {},
                "Expose": {},
            },
        }
        other = local.services()["v-sidecar-proxy"]
        assert (other.port, other.tags, other.proxy and other.proxy.local_service_port) == (21001, ["z"], 99)
        checks = local.checks()
        assert checks["service:w-sidecar-proxy:1"].name == "Connect Sidecar Listening"
        assert checks["service:w-sidecar-proxy:2"].name == "Connect Sidecar Aliasing w"
        local.add_service(ServiceSpec(name="w", port=81, tags=["t"], connect=Connect(sidecar_service={})))
        assert local.services()["w-sidecar-proxy"].port == 21000
        local.remove_service("w")
        assert set(local.services()) == {"v", "v-sidecar-proxy"}
        await local.close()

    simulate(scenario())


def test_what_a_proxy_leaves_open_is_not_shown() -> None:
    async def scenario() -> None:
        local, _ = started()
        upstreams = [
            Upstream(destination_name="db", local_bind_port=1, config={}),
            Upstream(destination_name="mq", local_bind_port=2, datacenter="dc2", config={"a": 1}),
        ]
        proxy = Proxy(destination_service_name="web", upstreams=upstreams)
        local.add_service(ServiceSpec(name="p", kind="connect-proxy", port=80, proxy=proxy))
        shown = msgspec.to_builtins(local.services()["p"])["Proxy"]["Upstreams"]
        assert shown[0] == {"DestinationType": "service", "DestinationName": "db", "LocalBindPort": 1, "MeshGateway": {}}
        assert (shown[1]["Datacenter"], shown[1]["Config"]) == ("dc2", {"a": 1})
        await local.close()

    simulate(scenario())


@pytest.mark.parametrize(
    ("sidecar", "text"),
    [
        ({"ID": "q"}, "1 error occurred:\n\t* A SidecarService cannot specify an ID as this is managed by the agent\n\n"),
        ({"Connect": {"SidecarService": {}}}, "1 error occurred:\n\t* A SidecarService cannot have a nested SidecarService\n\n"),
        ({"Bogus": 1}, 'Request decode failed: json: unknown field "Bogus"'),
        ({"Check": {"TTL": "ten"}}, 'Request decode failed: time: invalid duration "ten"'),
    ],
)
def test_bad_sidecars_are_refused(sidecar: dict[str, object], text: str) -> None:
    async def scenario() -> None:
        local, _ = started()
        with pytest.raises(InvalidRequest) as caught:
            local.add_service(ServiceSpec(name="w", port=80, connect=Connect(sidecar_service=sidecar)))
        assert caught.value.text == text
        await local.close()

    simulate(scenario())


def test_the_content_hash_follows_the_definition_and_wakes_who_waits() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", port=1, check=CheckSpec(ttl=TTL)))
        before = local.service("w")
        assert before is not None
        assert before.content_hash
        assert local.service("nope") is None
        waiting = asyncio.ensure_future(local.changed("w"))
        given_up = asyncio.ensure_future(local.changed("w"))
        await settle()
        given_up.cancel()
        local.add_service(ServiceSpec(name="w", port=1, check=CheckSpec(ttl=TTL)))
        local.update_ttl("service:w", "passing", "fine")
        await settle()
        assert not waiting.done()
        local.add_service(ServiceSpec(name="w", port=2))
        await waiting
        after = local.service("w")
        assert after is not None
        assert after.content_hash != before.content_hash
        waiting = asyncio.ensure_future(local.changed("w"))
        await settle()
        local.remove_service("w")
        await waiting
        await local.close()

    simulate(scenario())


def test_a_reload_applies_only_the_difference_and_keeps_status() -> None:
    async def scenario() -> None:
        local, changes = started()
        kept = ServiceSpec(name="kept", check=CheckSpec(ttl=TTL))
        changed = ServiceSpec(name="changed", port=1, check=CheckSpec(ttl=TTL))
        local.reload_definitions([kept, changed, ServiceSpec(name="gone")], [CheckSpec(name="c", ttl=TTL)])
        local.add_service(ServiceSpec(name="api"))
        local.remove_service("kept")
        local.reload_definitions([kept, changed, ServiceSpec(name="gone")], [CheckSpec(name="c", ttl=TTL)])
        assert "kept" in local.services()
        for check_id in ("service:kept", "service:changed"):
            local.update_ttl(check_id, "passing", "fine")
        changes.clear()
        local.reload_definitions([kept, msgspec.structs.replace(changed, port=2)], [])
        assert {key: service.port for key, service in local.services().items()} == {"kept": 0, "changed": 2, "api": 0}
        assert statuses(local) == {"service:kept": ("passing", "fine"), "service:changed": ("passing", "fine")}
        assert len(changes) == 3, "one service changed, one service and one check are gone"
        await local.close()

    simulate(scenario())


def test_a_file_wins_over_the_api_at_a_reload() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.reload_definitions([ServiceSpec(name="w", port=1)], [])
        local.add_service(ServiceSpec(name="w", port=2))
        assert local.services()["w"].port == 2
        local.reload_definitions([ServiceSpec(name="w", port=1)], [])
        assert local.services()["w"].port == 1
        local.reload_definitions([], [])
        assert local.services() == {}
        await local.close()

    simulate(scenario())


@pytest.mark.parametrize(
    ("services", "checks", "text"),
    [
        ([ServiceSpec()], [], 'Failed to register service "": Service name missing'),
        ([], [CheckSpec(name="c")], "Failed to register check 'c': Check is not valid: TTL must be > 0 for TTL checks"),
        (
            [],
            [CheckSpec(name="c", ttl=TTL, service_id="nope")],
            "Failed to register check 'c': ServiceID \"nope\" does not exist",
        ),
        (
            [],
            [CheckSpec(name="c", args=["true"], interval=MINUTE)],
            "Failed to register check 'c': Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or "
            "'enable_local_script_checks' to true",
        ),
        (
            [ServiceSpec(name="w", weights=Weights())],
            [],
            'Failed to register service "w": Invalid Weights: Passing must be greater than 0',
        ),
    ],
)
def test_a_bad_file_changes_nothing(services: list[ServiceSpec], checks: list[CheckSpec], text: str) -> None:
    async def scenario() -> None:
        local, _ = started()
        local.reload_definitions([ServiceSpec(name="old")], [])
        with pytest.raises(DiscoveryError) as caught:
            local.reload_definitions([ServiceSpec(name="new"), *services], checks)
        assert caught.value.text == text
        assert set(local.services()) == {"old"}
        await local.close()

    simulate(scenario())


def test_sidecars_of_one_file_get_different_ports() -> None:
    async def scenario() -> None:
        local, _ = started()
        specs = [ServiceSpec(name=name, port=80, connect=Connect(sidecar_service={})) for name in ("a", "b")]
        local.reload_definitions(specs, [])
        assert {local.services()[f"{name}-sidecar-proxy"].port for name in ("a", "b")} == {21000, 21001}
        local.reload_definitions(specs[:1], [])
        assert set(local.services()) == {"a", "a-sidecar-proxy"}
        await local.close()

    simulate(scenario())


def test_a_service_that_is_critical_for_too_long_is_removed() -> None:
    async def scenario() -> None:
        local, _ = started()
        after = Duration.from_seconds(10)
        reaped = CheckSpec(ttl=TTL, deregister_critical_service_after=after)
        local.add_service(ServiceSpec(name="w", check=reaped))
        local.add_service(ServiceSpec(name="well", check=msgspec.structs.replace(reaped, status="passing")))
        local.add_service(ServiceSpec(name="patient", check=CheckSpec(ttl=TTL)))
        local.add_check(CheckSpec(name="node", ttl=TTL, deregister_critical_service_after=after))
        await asyncio.sleep(59)
        assert set(local.services()) == {"w", "well", "patient"}
        await asyncio.sleep(32)
        assert set(local.services()) == {"well", "patient"}
        assert "node" in local.checks()
        await local.close()

    simulate(scenario())


def test_the_time_until_removal_counts_from_the_change_to_critical() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL, deregister_critical_service_after=MINUTE)))
        await asyncio.sleep(50)
        local.update_ttl("service:w", "warning", "")
        local.update_ttl("service:w", "critical", "")
        await asyncio.sleep(55)
        assert "w" in local.services()
        local.update_ttl("service:w", "critical", "still")
        await asyncio.sleep(36)
        assert "w" not in local.services()
        await local.close()

    simulate(scenario())


def test_a_service_that_has_recovered_stays() -> None:
    async def scenario() -> None:
        local, _ = started()
        local.add_service(ServiceSpec(name="w", check=CheckSpec(ttl=TTL, deregister_critical_service_after=MINUTE)))
        local.update_ttl("service:w", "passing", "")
        await asyncio.sleep(500)
        assert "w" in local.services()
        await local.close()

    simulate(scenario())


def test_registering_again_does_not_prolong_the_time_until_removal() -> None:
    async def scenario() -> None:
        local, _ = started()
        spec = ServiceSpec(name="w", check=CheckSpec(ttl=TTL, deregister_critical_service_after=MINUTE))
        local.add_service(spec)
        for port in range(1, 4):
            await asyncio.sleep(20)
            check = CheckSpec(ttl=TTL, deregister_critical_service_after=MINUTE, notes=str(port))
            local.add_service(ServiceSpec(name="w", port=port, check=check))
        await asyncio.sleep(11)
        assert "w" not in local.services()
        await local.close()

    simulate(scenario())

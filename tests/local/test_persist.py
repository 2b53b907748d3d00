"""Registrations on disk, against real folders; one set of files was written by Consul 1.8.7."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from discovery.local.services import Local
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.records import Connect
from tests.local.rig import Wall, make_local, simulate

TTL = Duration.from_seconds(600)
MINUTE = Duration.from_seconds(60)


def name_of(key: str) -> str:
    return hashlib.md5(key.encode()).hexdigest()


def files(folder: Path) -> dict[str, str]:
    """What is kept of registrations, by path."""
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {path: text for path, text in found.items() if not path.startswith("checks/alive/")}


def started(folder: Path | None, wall: Wall | None = None, **options: Any) -> Local:
    local = make_local(data_dir=folder, wall=wall, **options)
    local.start([], [])
    return local


def test_the_layout_is_consuls(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = started(tmp_path)
        local.add_service(ServiceSpec(name="web", port=80, token="tok", check=CheckSpec(ttl=TTL)))
        local.update_ttl("service:web", "passing", "fine")
        await local.close()

    simulate(scenario())
    service, check = tmp_path / "services" / name_of("web"), tmp_path / "checks" / name_of("service:web")
    state = tmp_path / "checks" / "state" / name_of("service:web")
    alive = tmp_path / "checks" / "alive" / name_of("agent")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {service, check, state, alive}
    assert {path.stat().st_mode & 0o777 for path in (service, check, state)} == {0o600}
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("services", "checks")} == {0o700}
    saved = json.loads(service.read_text())
    assert (saved["Token"], saved["Service"]["ID"], saved["Service"]["Port"], saved["Source"]) == ("tok", "web", 80, "remote")
    saved = json.loads(check.read_text())
    assert (saved["Check"]["CheckID"], saved["ChkType"]["TTL"], saved["Source"]) == ("service:web", int(TTL), "remote")
    expected = {"CheckID": "service:web", "Output": "fine", "Status": "passing", "Expires": 1_800_000_600}
    assert json.loads(state.read_text()) == expected


def test_everything_is_back_after_a_restart(tmp_path: Path) -> None:
    wall = Wall()
    spec = ServiceSpec(name="web", port=80, tags=["a"], meta={"k": "v"}, token="tok", check=CheckSpec(ttl=TTL))
    http = CheckSpec(name="h", http="http://127.0.0.1:1/", header={"A": ["b"]}, interval=MINUTE, status="passing")

    async def before() -> None:
        local = started(tmp_path, wall)
        local.add_service(spec)
        local.add_service(ServiceSpec(name="side", port=1, connect=Connect(sidecar_service={})))
        local.add_check(http)
        local.update_ttl("service:web", "warning", "hm")
        local.service_maintenance("web", True, "why")
        await local.close()

    async def after() -> None:
        local = started(tmp_path, wall)
        assert set(local.services()) == {"web", "side", "side-sidecar-proxy"}
        web = local.services()["web"]
        assert (web.port, web.tags, web.meta) == (80, ["a"], {"k": "v"})
        assert local.service_entries["web"].token == "tok"
        checks = local.checks()
        assert (checks["service:web"].status, checks["service:web"].output) == ("warning", "hm")
        assert checks["h"].status == "critical", "a check that has not run yet is not trusted"
        assert (checks["_service_maintenance:web"].notes, checks["_service_maintenance:web"].status) == ("why", "critical")
        changes: list[object] = []
        local.on_change(changes.append)
        local.add_service(spec)
        assert changes == [], "the service registers itself again when it starts, and that is no change"
        local.remove_service("side")
        assert set(local.services()) == {"web"}
        await local.close()

    simulate(before())
    wall.now += 300
    simulate(after())


def test_an_expired_ttl_is_critical_after_a_restart(tmp_path: Path) -> None:
    wall = Wall()

    async def before() -> None:
        local = started(tmp_path, wall)
        local.add_check(CheckSpec(name="c", ttl=TTL, status="passing"))
        local.update_ttl("c", "passing", "fine")
        await local.close()

    async def after() -> None:
        local = started(tmp_path, wall)
        assert (local.checks()["c"].status, local.checks()["c"].output) == ("critical", "")
        await local.close()

    simulate(before())
    wall.now += 601
    simulate(after())


def test_what_is_removed_is_gone_from_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        local = started(tmp_path)
        local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=TTL), connect=Connect(sidecar_service={})))
        local.add_check(CheckSpec(name="c", ttl=TTL))
        for check_id in ("c", "service:web"):
            local.update_ttl(check_id, "passing", "")
        local.node_maintenance(True, "")
        local.node_maintenance(False, "")
        local.remove_service("web")
        local.remove_check("c")
        await local.close()

    simulate(scenario())
    assert files(tmp_path) == {}


def test_definitions_from_files_are_not_persisted_and_beat_persisted_ones(tmp_path: Path) -> None:
    from_file = ServiceSpec(name="web", port=1, check=CheckSpec(ttl=TTL))

    async def before() -> None:
        local = started(tmp_path)
        local.add_service(ServiceSpec(name="web", port=2, check=CheckSpec(ttl=MINUTE)))
        await local.close()

    async def after() -> None:
        local = make_local(data_dir=tmp_path)
        local.start([from_file], [CheckSpec(name="c", ttl=TTL)])
        assert local.services()["web"].port == 1
        await local.close()

    simulate(before())
    assert len(files(tmp_path)) == 2
    simulate(after())
    assert files(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"{", b'{"Service": 5}', b"\xff\xfe", b'{"Token":"","Service":{"ID":'])
def test_a_torn_file_is_named_and_set_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def before() -> None:
        local = started(tmp_path)
        local.add_service(ServiceSpec(name="torn"))
        local.add_service(ServiceSpec(name="whole"))
        await local.close()

    async def after() -> None:
        local = started(tmp_path)
        assert set(local.services()) == {"whole"}
        await local.close()

    simulate(before())
    torn = tmp_path / "services" / name_of("torn")
    torn.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        simulate(after())
    assert [record.__dict__["fields"]["file"] for record in caplog.records] == [torn]
    assert torn.with_suffix(".corrupt").read_bytes() == content
    caplog.clear()
    simulate(after())
    assert caplog.records == []


def test_a_check_whose_service_is_gone_is_dropped(tmp_path: Path) -> None:
    async def before() -> None:
        local = started(tmp_path)
        local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=TTL)))
        await local.close()

    async def after() -> None:
        local = started(tmp_path)
        assert local.checks() == {}
        await local.close()

    simulate(before())
    (tmp_path / "services" / name_of("web")).unlink()
    simulate(after())
    assert files(tmp_path) == {}


def test_a_script_is_not_restored_without_permission_but_kept(tmp_path: Path) -> None:
    async def before() -> None:
        local = started(tmp_path, enable_script_checks=True)
        local.add_check(CheckSpec(name="s", args=["true"], interval=MINUTE))
        await local.close()

    async def after() -> None:
        local = started(tmp_path)
        assert local.checks() == {}
        await local.close()

    simulate(before())
    simulate(after())
    assert len(files(tmp_path)) == 1


def test_nothing_is_written_without_a_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        local = started(None)
        local.add_service(ServiceSpec(name="web", check=CheckSpec(ttl=TTL)))
        local.update_ttl("service:web", "passing", "")
        local.remove_service("web")
        await local.close()

    monkeypatch.chdir(tmp_path)
    simulate(scenario())
    assert files(tmp_path) == {}


CONSUL_SERVICE = (
    '{"Token":"","Service":{"ID":"web","Service":"web","Tags":["a"],"Address":"","Meta":null,"Port":80,"Weights":{"Passing":1,'
    '"Warning":1},"EnableTagOverride":false,"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{},"CreateIndex":0,'
    '"ModifyIndex":0},"Source":"remote"}'
)
CONSUL_CHECK = (
    '{"Check":{"Node":"vm","CheckID":"h","Name":"h","Status":"critical","Notes":"","Output":"","ServiceID":"web","ServiceName":'
    '"web","ServiceTags":null,"Type":"http","Definition":{},"CreateIndex":0,"ModifyIndex":0},"ChkType":{"CheckID":"","Name":"h",'
    '"Status":"","Notes":"","ScriptArgs":null,"HTTP":"http://127.0.0.1:1/","Header":{"A":["b"]},"Method":"","Body":"","TCP":"",'
    '"Interval":10000000000,"AliasNode":"","AliasService":"","DockerContainerID":"","Shell":"","GRPC":"","GRPCUseTLS":false,'
    '"TLSSkipVerify":false,"Timeout":3000000000,"TTL":0,"SuccessBeforePassing":0,"FailuresBeforeCritical":0,"ProxyHTTP":"",'
    '"ProxyGRPC":"","DeregisterCriticalServiceAfter":0,"OutputMaxSize":0},"Token":"","Source":"remote"}'
)
CONSUL_MAINTENANCE = (
    '{"Check":{"Node":"vm","CheckID":"_node_maintenance","Name":"Node Maintenance Mode","Status":"critical","Notes":"why",'
    '"Output":"","ServiceID":"","ServiceName":"","ServiceTags":null,"Type":"maintenance","Definition":{},"CreateIndex":0,'
    '"ModifyIndex":0},"ChkType":null,"Token":"","Source":"local"}'
)


def test_a_data_directory_of_consul_is_taken_over(tmp_path: Path) -> None:
    for folder, key, content in (
        ("services", "web", CONSUL_SERVICE),
        ("checks", "h", CONSUL_CHECK),
        ("checks", "_node_maintenance", CONSUL_MAINTENANCE),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name_of(key)).write_text(content)

    async def scenario() -> None:
        local = started(tmp_path)
        assert (local.services()["web"].port, local.services()["web"].tags) == (80, ["a"])
        spec = local.check_entries["h"].spec
        assert spec is not None
        assert (spec.interval.seconds, spec.timeout.seconds, spec.header) == (10, 3, {"A": ["b"]})
        assert (local.checks()["h"].service_tags, local.checks()["_node_maintenance"].notes) == (["a"], "why")
        assert {check.node for check in local.checks().values()} == {"node1"}
        await local.close()

    simulate(scenario())

import asyncio
import json
from typing import Any

import pytest

from discovery.http.options import HttpOptions
from discovery.model.agent import AgentService
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.errors import InvalidRequest
from discovery.model.records import HealthCheck, ServiceAddress
from tests.http.conftest import World, encode

WEB = AgentService(id="w1", service="web", port=80, content_hash="h1")


async def test_self_has_exactly_these_keys(world: World) -> None:
    found = (await world.get("/v1/agent/self")).json()
    assert list(found) == ["Config", "DebugConfig", "Coord", "Member", "Stats", "Meta", "xDS"]
    assert found["Member"]["Status"] == 1
    assert found["Config"]["Datacenter"] == "dc1"


@pytest.mark.parametrize(("query", "count"), [("", 1), ("?wan", 1), ("?wan=1", None)])
async def test_members(world: World, query: str, count: int | None) -> None:
    found = (await world.get(f"/v1/agent/members{query}")).json()
    assert found is None if count is None else len(found) == count


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/v1/agent/join/10.0.0.1:8301?wan=1", ("join", "10.0.0.1:8301", True)),
        ("/v1/agent/leave", ("leave",)),
        ("/v1/agent/force-leave/n?prune", ("force_leave", "n", True)),
        ("/v1/agent/reload", ("reload",)),
    ],
)
async def test_steering(world: World, target: str, asked: tuple[Any, ...]) -> None:
    response = await world.put(target)
    assert (response.status, response.body) == (200, b"")
    assert "Content-Type" not in response.headers
    assert world.agent.asked == [asked]
    assert (await world.get(target)).status == 405


async def test_host_and_version(world: World) -> None:
    assert (await world.get("/v1/agent/host")).json()["Memory"]["total"] > 0
    assert "HumanVersion" in (await world.get("/v1/agent/version")).json()


async def test_metrics(world: World) -> None:
    assert (await world.get("/v1/agent/metrics?format=other")).json() == {"Gauges": []}
    refused = await world.get("/v1/agent/metrics?format=prometheus")
    assert (refused.status, refused.text) == (415, "Prometheus is not enabled since its retention time is not positive")
    world.server.reconfigure(HttpOptions(prometheus=True))
    for response in (
        await world.get("/v1/agent/metrics?format=prometheus"),
        await world.get("/v1/agent/metrics", Accept="text/plain;version=0.0.4"),
    ):
        assert response.text == "# HELP x\n"
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_monitor(world: World) -> None:
    client = await world.connect()
    client.send(encode("GET", "/v1/agent/monitor?loglevel=Warn&logjson"))
    head = await client.receive()
    assert head.headers["Transfer-Encoding"] == "chunked"
    assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"
    assert world.agent.asked == [("log_lines", "WARNING", True)]
    assert (await world.get("/v1/agent/monitor?loglevel=zap")).text == "Bad request: Unknown log level: zap"


async def test_services_and_checks(world: World) -> None:
    assert (await world.get("/v1/agent/services")).text == "{}"
    assert (await world.get("/v1/agent/checks?filter=Foo==x")).text == "{}"
    world.services.by_id = {"w1": WEB, "a1": AgentService(id="a1", service="api", tags=["t"])}
    world.services.check_by_id = {"c": HealthCheck(check_id="c", status="passing")}
    assert list((await world.get("/v1/agent/services?filter=Service==web")).json()) == ["w1"]
    assert list((await world.get("/v1/agent/checks?filter=Status==critical")).json()) == []
    assert (await world.get("/v1/agent/checks?filter=Foo==x")).status == 500


async def test_service(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    response = await world.get("/v1/agent/service/w1")
    assert response.headers["X-Consul-Contenthash"] == "h1"
    assert response.json()["ContentHash"] == "h1"
    for name in ("nope", ""):
        missing = await world.get(f"/v1/agent/service/{name}")
        assert (missing.status, missing.text) == (404, f"unknown service ID: {name}")


async def test_waiting_for_a_change_of_a_service(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    waiting = asyncio.create_task(world.get("/v1/agent/service/w1?hash=h1"))
    await (await world.connect()).request("GET", "/v1/nothing")
    assert not waiting.done()
    world.services.by_id = {"w1": AgentService(id="w1", content_hash="h2")}
    world.services.change.set()
    assert (await asyncio.wait_for(waiting, 5)).headers["X-Consul-Contenthash"] == "h2"
    assert (await world.get("/v1/agent/service/w1?hash=other")).status == 200


async def test_the_wait_for_a_change_runs_out(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    assert (await world.get("/v1/agent/service/w1?hash=h1&wait=10ms")).headers["X-Consul-Contenthash"] == "h1"
    assert (await world.get("/v1/agent/service/w1?hash=h1&wait=x")).text == "Invalid wait time"


async def test_a_service_that_goes_while_waited_for(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    waiting = asyncio.create_task(world.get("/v1/agent/service/w1?hash=h1"))
    await (await world.connect()).request("GET", "/v1/nothing")
    world.services.by_id = {}
    world.services.change.set()
    assert (await asyncio.wait_for(waiting, 5)).status == 404


async def test_register_service(world: World) -> None:
    body = {
        "id": "w1", "name": "web", "port": 7, "enable_tag_override": True, "tags": ["a"],
        "tagged_addresses": {"lan": {"address": "a", "port": 9}},
        "check": {"ttl": "600s", "deregister_critical_service_after": "10m", "CheckID": "mine"},
    }  # fmt: skip
    response = await world.put("/v1/agent/service/register?token=t", body)
    assert (response.status, response.body) == (200, b"")
    spec = ServiceSpec(
        id="w1", name="web", port=7, enable_tag_override=True, tags=["a"], token="t",
        tagged_addresses={"lan": ServiceAddress("a", 9)},
        check=CheckSpec(check_id="mine", ttl=Duration.parse("600s"), deregister_critical_service_after=Duration.parse("10m")),
    )  # fmt: skip
    assert world.services.asked == [("add_service", spec, False)]


@pytest.mark.parametrize(("query", "replace"), [("", False), ("=true", True), ("=false", False)])
async def test_replacing_checks(world: World, query: str, replace: bool) -> None:
    await world.put(f"/v1/agent/service/register?replace-existing-checks{query or '=no'}", {"Name": "w"})
    assert world.services.asked[-1][2] is replace


@pytest.mark.parametrize(
    ("target", "body", "status", "text"),
    [
        ("service/register", {"ID": "x"}, 400, "Missing service name"),
        ("service/register", b"", 400, "Request decode failed: EOF"),
        ("service/register", {"Name": "w", "Namespace": "x"}, 400, 'Request decode failed: json: unknown field "Namespace"'),
        ("service/register", {"Name": "w", "Check": {"ID": "x"}}, 400, 'Request decode failed: json: unknown field "ID"'),
        ("service/register", {"Name": "w", "TaggedAddresses": {"lan": "a"}}, 400,
         "Request decode failed: json: cannot unmarshal string into Go struct field .TaggedAddresses of type ServiceAddress"),
        ("check/register", {"TTL": "1s"}, 400, "Missing check name"),
        ("check/register", {"Name": "c", "Status": "blue"}, 400, "Bad check status"),
        ("check/register", {"Name": "c", "CheckID": "x"}, 400, 'Request decode failed: json: unknown field "CheckID"'),
        ("check/register", {"Name": "c", "alias_service": "x"}, 400,
         'Request decode failed: json: unknown field "alias_service"'),
        ("check/update/c", {"Status": "bogus"}, 400, "Invalid check status: 'bogus'"),
        ("check/update/c", b"", 400, "Request decode failed: EOF"),
        ("service/deregister/", b"", 500, "ServiceID missing"),
        ("check/deregister/", b"", 500, "CheckID missing"),
        ("service/maintenance/?enable=true", b"", 400, "Missing service ID"),
        ("service/maintenance/x", b"", 400, "Missing value for enable"),
        ("service/maintenance/x?enable=perhaps", b"", 400, 'Invalid value for enable: "perhaps"'),
        ("service/maintenance/x?enable=true", b"", 404, 'No service registered with ID "x"'),
        ("maintenance", b"", 400, "Missing value for enable"),
    ],
)  # fmt: skip
async def test_refusals(world: World, target: str, body: Any, status: int, text: str) -> None:
    response = await world.put(f"/v1/agent/{target}", body)
    assert (response.status, response.text) == (status, text)
    assert world.services.asked == []


async def test_refusals_of_the_agent(world: World) -> None:
    world.services.refusal = InvalidRequest("Invalid check: TTL must be > 0 for TTL checks")
    response = await world.put("/v1/agent/service/register", {"Name": "w"})
    assert (response.status, response.text) == (400, "Invalid check: TTL must be > 0 for TTL checks")


@pytest.mark.parametrize(
    ("target", "body", "asked"),
    [
        ("check/register", {"ID": "c1", "name": "c", "service_id": "w", "ttl": "1s"},
         ("add_check", CheckSpec(id="c1", name="c", service_id="w", ttl=Duration(10**9)))),
        ("check/deregister/c1", b"", ("remove_check", "c1")),
        ("check/pass/c1?note=all+well", b"", ("update_ttl", "c1", "passing", "all well")),
        ("check/warn/c1", b"", ("update_ttl", "c1", "warning", "")),
        ("check/fail/service:c1", b"", ("update_ttl", "service:c1", "critical", "")),
        ("check/update/c1", {"status": "warning", "output": "o"}, ("update_ttl", "c1", "warning", "o")),
        ("service/deregister/w1", b"", ("remove_service", "w1")),
        ("maintenance?enable=true&reason=new+disk", b"", ("node_maintenance", True, "new disk")),
    ],
)  # fmt: skip
async def test_writes(world: World, target: str, body: Any, asked: tuple[Any, ...]) -> None:
    response = await world.put(f"/v1/agent/{target}", body)
    assert (response.status, response.body) == (200, b"")
    assert world.services.asked == [asked]


async def test_service_maintenance(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    await world.put("/v1/agent/service/maintenance/w1?enable=0&reason=r")
    assert world.services.asked == [("service_maintenance", "w1", False, "r")]


# --- health of this agent's services -------------------------------------------------------------------------------


def _check(check_id: str, status: str, service_id: str = "w1") -> HealthCheck:
    return HealthCheck(check_id=check_id, status=status, service_id=service_id)


@pytest.mark.parametrize(
    ("checks", "status", "word"),
    [
        ([], 200, "passing"),
        ([_check("a", "passing"), _check("b", "warning")], 429, "warning"),
        ([_check("a", "critical"), _check("b", "warning")], 503, "critical"),
        ([_check("a", "critical"), _check("_service_maintenance:w1", "critical")], 503, "maintenance"),
        ([_check("_node_maintenance", "critical", "")], 503, "maintenance"),
        ([_check("a", "critical", "other")], 200, "passing"),
        ([_check("a", "critical", "")], 503, "critical"),
    ],
)
async def test_health_by_id(world: World, checks: list[HealthCheck], status: int, word: str) -> None:
    world.services.by_id = {"w1": WEB}
    world.services.check_by_id = {check.check_id: check for check in checks}
    response = await world.get("/v1/agent/health/service/id/w1")
    assert (response.status, response.headers["X-Consul-Reason"]) == (status, word)
    assert response.json()["AggregatedStatus"] == word
    text = await world.get("/v1/agent/health/service/id/w1?format=text")
    assert (text.status, text.text, text.headers["Content-Type"]) == (status, word, "text/plain")


async def test_health_shows_checks_in_full(world: World) -> None:
    world.services.by_id = {"w1": WEB}
    world.services.check_by_id = {"a": _check("a", "passing")}
    (check,) = (await world.get("/v1/agent/health/service/id/w1")).json()["Checks"]
    assert (check["ServiceTags"], check["Type"]) == (None, "")
    assert check["Definition"] == {
        "Interval": "0s", "Timeout": "0s", "DeregisterCriticalServiceAfter": "0s", "HTTP": "", "Header": None, "Method": "",
        "Body": "", "TLSSkipVerify": False, "TCP": "",
    }  # fmt: skip


async def test_health_by_name_is_the_worst(world: World) -> None:
    world.services.by_id = {"w1": WEB, "w2": AgentService(id="w2", service="web")}
    world.services.check_by_id = {"a": _check("a", "warning", "w2")}
    response = await world.get("/v1/agent/health/service/name/web")
    assert (response.status, [item["AggregatedStatus"] for item in response.json()]) == (429, ["passing", "warning"])


@pytest.mark.parametrize(
    ("target", "body", "reason"),
    [
        ("id/nope", '{"AggregatedStatus":"critical","Service":null,"Checks":null}', "ServiceId nope not found"),
        ("id/nope?format=text", '"ServiceId nope not found"', "ServiceId nope not found"),
        ("name/nope", "[]", "ServiceName nope Not Found"),
        ("name/nope?format=text", "ServiceName nope Not Found", "ServiceName nope Not Found"),
    ],
)
async def test_health_of_unknown_services(world: World, target: str, body: str, reason: str) -> None:
    response = await world.get(f"/v1/agent/health/service/{target}")
    assert (response.status, response.text, response.headers["X-Consul-Reason"]) == (404, body, reason)


@pytest.mark.parametrize(("target", "text"), [("id/", "Missing serviceID"), ("name/", "Missing service Name")])
async def test_health_without_a_name(world: World, target: str, text: str) -> None:
    response = await world.get(f"/v1/agent/health/service/{target}")
    assert (response.status, response.text) == (500, f"Bad request: {text}")


async def test_everything_is_pretty_in_dev_mode(world: World) -> None:
    world.agent.dev = True
    assert json.loads((await world.get("/v1/agent/services")).text) == {}
    assert (await world.get("/v1/status/peers")).text == '[\n    "127.0.0.1:8300"\n]\n'

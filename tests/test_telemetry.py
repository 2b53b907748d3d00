"""Numbers and log lines as operators see them."""

import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from discovery.telemetry import TRACE, Counter, Family, Gauge, Histogram, LogOptions, Logs, Metrics, Sample, fields, parse_level
from tests.local.rig import simulate

RAFT_ALERTS = {
    "raft_leader_elections_total": "counter",
    "raft_leader_last_contact_seconds": "gauge",
    "raft_commit_duration_seconds_bucket": "histogram",
    "raft_replication_append_entries_rpc_duration_seconds": "gauge",
}
CONSUL_NAMES = {
    "consul_raft_apply": "counter",
    "consul_raft_commitTime": "summary",
    "consul_raft_applied_index": "gauge",
    "consul_raft_leader_lastContact": "summary",
    "consul_raft_replication_appendEntries_rpc": "summary",
    "consul_serf_member_join": "counter",
    "consul_memberlist_probeNode": "summary",
    "consul_rpc_cross_dc": "counter",
    "consul_rpc_queries_blocking": "gauge",
    "consul_client_rpc_failed": "counter",
    "consul_dns_domain_query": "summary",
    "consul_catalog_register": "summary",
    "consul_kvs_apply": "summary",
    "consul_session_ttl_active": "gauge",
    "consul_autopilot_healthy": "gauge",
    "consul_acl_blocked_service_registration": "counter",
    "consul_runtime_alloc_bytes": "gauge",
    "consul_client_api_success_catalog_register": "counter",
    "process_resident_memory_bytes": "gauge",
}


def series_of(metrics: Metrics) -> dict[str, float]:
    """Every line of the exposition: name with labels, and value."""
    lines = [line for line in metrics.as_prometheus().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def types_of(metrics: Metrics) -> dict[str, str]:
    declared = re.findall(r"^# TYPE (\S+) (\S+)$", metrics.as_prometheus().decode(), re.MULTILINE)
    assert len(declared) == len(dict(declared)), "a name is declared twice"
    return dict(declared)


def test_all_series_are_there_from_the_first_scrape_with_their_types() -> None:
    types = types_of(Metrics())
    for name, kind in (RAFT_ALERTS | CONSUL_NAMES).items():
        assert types.get(name.removesuffix("_bucket")) == kind, name
    names = {name.partition("{")[0] for name in series_of(Metrics())}
    assert names >= RAFT_ALERTS.keys()
    for name, kind in CONSUL_NAMES.items():
        assert (f"{name}_count" if kind == "summary" else name) in names


def test_no_series_lies_idle() -> None:
    """A number that nobody counts would be zero for ever, which is worse than none."""
    rooms = Path(__file__).parent.parent / "src" / "discovery"
    code = "".join(file.read_text() for file in rooms.rglob("*.py") if file.name != "metrics.py")
    instruments = [name for name, value in vars(Metrics()).items() if isinstance(value, Counter | Gauge | Family)]
    assert len(instruments) > 80
    assert [name for name in instruments if f".{name}" not in code] == []


def test_the_exposition_is_well_formed() -> None:
    metrics = Metrics(node='quo"te\\', host="vm")
    metrics.api_http.of("GET", "/v1/kv/").observe(0.25)
    families = {family.name: family for family in text_string_to_metric_families(metrics.as_prometheus().decode())}
    assert len(families) > 90
    assert {sample.labels["node"] for sample in families["consul_dns_domain_query"].samples} == {'quo"te\\'}


def test_raft_alerts_have_the_numbers_their_rules_compare() -> None:
    metrics = Metrics()
    metrics.raft_leader_elections.inc()
    metrics.raft_leader_last_contact.read = lambda: 7.5
    for seconds in (0.004, 0.2):
        metrics.raft_commit_duration.observe(seconds)
        metrics.raft_replication_append_entries_rpc.observe(seconds)
    series = series_of(metrics)
    assert series["raft_leader_elections_total"] == 1
    assert series["raft_leader_last_contact_seconds"] == 7.5
    assert series['raft_commit_duration_seconds_bucket{le="0.005"}'] == 1
    assert series['raft_commit_duration_seconds_bucket{le="0.1"}'] == 1
    assert series['raft_commit_duration_seconds_bucket{le="+Inf"}'] == 2
    assert series["raft_replication_append_entries_rpc_duration_seconds"] == pytest.approx(0.102)
    assert series["consul_raft_commitTime_sum"] == pytest.approx(204)
    metrics.end_window()
    metrics.end_window()
    series = series_of(metrics)
    assert series["raft_replication_append_entries_rpc_duration_seconds"] == 0, "a deposed leader must not alarm for ever"
    assert series['raft_commit_duration_seconds_bucket{le="+Inf"}'] == 2


def test_the_json_view_is_over_the_last_finished_window() -> None:
    metrics = Metrics(host="vm")
    metrics.raft_applied_index.set(42)
    metrics.client_rpc.inc()
    metrics.client_rpc.inc()
    for seconds in (0.001, 0.003):
        metrics.kvs_apply.observe(seconds)
    metrics.catalog_service_query.of("web").inc()
    assert metrics.as_json()["Counters"] == []
    metrics.end_window()
    metrics.client_rpc.inc()
    shown = metrics.as_json()
    assert list(shown) == ["Timestamp", "Gauges", "Points", "Counters", "Samples"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d0 \+0000 UTC", str(shown["Timestamp"]))
    assert {"Name": "consul.vm.raft.applied_index", "Value": 42.0, "Labels": {}} in as_list(shown["Gauges"])
    assert {
        "Name": "consul.client.rpc", "Count": 2, "Rate": 0.2, "Sum": 2.0, "Min": 1.0, "Max": 1.0, "Mean": 1.0, "Stddev": 0.0,
        "Labels": {},
    } in as_list(shown["Counters"])  # fmt: skip
    assert ("consul.catalog.service.query", {"service": "web"}) in [
        (entry["Name"], entry["Labels"]) for entry in as_list(shown["Counters"])
    ]
    (sample,) = as_list(shown["Samples"])
    assert (sample["Name"], sample["Count"]) == ("consul.kvs.apply", 2)
    assert (sample["Min"], sample["Max"], sample["Mean"]) == pytest.approx((1, 3, 2))
    assert sample["Stddev"] == pytest.approx(2**0.5)
    metrics.end_window()
    assert len(as_list(metrics.as_json()["Counters"])) == 1
    assert json.dumps(metrics.as_json())


def as_list(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def test_counts_outlive_their_window() -> None:
    counter, sample = Counter(), Sample()
    for _ in range(3):
        counter.inc(2.0)
        sample.observe(0.5)
        counter.end_window()
        sample.end_window()
    assert (counter.count, counter.total, sample.count, sample.total) == (3, 6.0, 3, 1.5)
    assert sample.quantiles() == [0.5, 0.5, 0.5]
    sample.end_window()
    assert all(value != value for value in sample.quantiles()), "nothing lately is not a number"


def test_quantiles_and_buckets() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in range(1, 101):
        histogram.observe(value / 100)
    assert histogram.quantiles() == [0.51, 0.91, 1.0]
    assert histogram.buckets() == [("0.1", 10.0), ("1.0", 100.0), ("+Inf", 100.0)]


def test_labels_from_the_network_cannot_make_endless_series() -> None:
    family = Family(Counter, ("service",))
    for number in range(5000):
        family.of(f"s{number}").inc()
    children = dict(family.children())
    assert len(children) == 1025
    assert children[("other",)].count == 5000 - 1024


def test_filters_hide_by_prefix_and_the_longest_decides() -> None:
    metrics = Metrics()
    metrics.set_filter(["-consul.raft", "+consul.raft.apply"])
    types = types_of(metrics)
    assert "consul_raft_apply" in types
    assert "consul_raft_applied_index" not in types
    assert "consul_rpc_request" in types
    metrics.set_filter(["+consul.rpc"], default=False)
    shown = {name for name in types_of(metrics) if name.startswith("consul_")}
    assert shown
    assert all(name.startswith("consul_rpc") for name in shown)


def test_windows_follow_the_clock() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        metrics.start(asyncio.get_running_loop())
        for _ in range(3):
            metrics.client_rpc.inc()
            await asyncio.sleep(10)
            assert len(as_list(metrics.as_json()["Counters"])) == 1
        metrics.stop()
        metrics.client_rpc.inc()
        await asyncio.sleep(30)
        assert metrics.client_rpc.current().count >= 1

    simulate(scenario())


# --- logs ----------------------------------------------------------------------------------------------------------

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logs(stream: io.StringIO) -> Iterator[Logs]:
    logs = Logs(LogOptions(), stream)
    yield logs
    logs.close()


def without_time(text: str) -> list[str]:
    return [re.sub(rf"^{STAMP} ", "", line) for line in text.splitlines()]


def test_lines_look_like_consuls(logs: Logs, stream: io.StringIO) -> None:
    logs.set_level("trace")
    logging.getLogger("agent.server.raft").info("election won", extra=fields(tally=2, term="a b"))
    logging.getLogger("discovery.http.server").warning("slow %s", "client")
    logging.getLogger("discovery.local.sync").error("failed", extra=fields(error='say "no"', empty=""))
    logging.getLogger("agent").log(TRACE, "tiny")
    logging.getLogger("agent").debug("small")
    assert re.match(rf"{STAMP} \[INFO\]  agent", stream.getvalue())
    assert without_time(stream.getvalue()) == [
        '[INFO]  agent.server.raft: election won: tally=2 term="a b"',
        "[WARN]  agent.http: slow client",
        '[ERROR] agent: failed: error="say "no"" empty=',
        "[TRACE] agent: tiny",
        "[DEBUG] agent: small",
    ]


def test_levels_decide_and_can_be_changed(logs: Logs, stream: io.StringIO) -> None:
    log = logging.getLogger("agent.x")
    log.debug("no")
    logs.set_level("DEBUG")
    log.debug("yes")
    logs.set_level("err")
    log.warning("no")
    assert without_time(stream.getvalue()) == ["[DEBUG] agent.x: yes"]


def test_json_lines_have_consuls_keys() -> None:
    stream = io.StringIO()
    logs = Logs(LogOptions(json=True), stream)
    logging.getLogger("agent.server").warning("gone", extra=fields(member="n1", count=3))
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError:
        logging.getLogger("agent").exception("fault")
    logs.close()
    first, second = map(json.loads, stream.getvalue().splitlines())
    stamp = first.pop("@timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert first == {"@level": "warn", "@message": "gone", "@module": "agent.server", "member": "n1", "count": 3}
    assert "ZeroDivisionError: oops" in second["stacktrace"]


@pytest.mark.parametrize(("text", "level"), [("trace", TRACE), ("WARN", 30), ("err", 40), ("Error", 40), ("WARNING", 30)])
def test_level_names(text: str, level: int) -> None:
    assert parse_level(text) == level


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        Logs(LogOptions(level="bogus"))
    assert str(caught.value) == "Invalid log level: bogus. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]"


async def test_each_listener_follows_at_its_own_level(logs: Logs, stream: io.StringIO) -> None:
    log = logging.getLogger("agent.x")
    debug, error = logs.lines("DEBUG", as_json=True), logs.lines("err", as_json=False)
    waiting = [asyncio.ensure_future(anext(debug)), asyncio.ensure_future(anext(error))]
    await asyncio.sleep(0)
    log.debug("small", extra=fields(k="v"))
    log.error("big")
    small, big = await asyncio.gather(*waiting)
    assert json.loads(small)["@message"] == "small"
    assert without_time(big) == ["[ERROR] agent.x: big"]
    assert json.loads(await anext(debug))["@message"] == "big"
    assert without_time(stream.getvalue()) == ["[ERROR] agent.x: big"]
    assert log.isEnabledFor(logging.DEBUG)
    await debug.aclose()
    await error.aclose()
    assert not log.isEnabledFor(logging.DEBUG)


async def test_lines_from_other_threads_arrive(logs: Logs) -> None:
    lines = logs.lines("info", as_json=False)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    thread = threading.Thread(target=logging.getLogger("agent").info, args=("from a thread",))
    thread.start()
    assert without_time(await waiting) == ["[INFO]  agent: from a thread"]
    thread.join()
    await lines.aclose()


async def test_a_slow_listener_loses_the_oldest_lines(logs: Logs) -> None:
    log, lines = logging.getLogger("agent"), logs.lines("info", as_json=False)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    log.info("first")
    await waiting
    for number in range(2000):
        log.info("line %d", number)
    await asyncio.sleep(0)
    assert without_time(await anext(lines)) == [f"[INFO]  agent: line {2000 - 512}"]
    await lines.aclose()


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("agent.log", r"agent-\d{19}\.log"),
        ("", r"consul-\d{19}\.log"),
        ("plain", r"plain-\d{19}\.log"),
        ("a.b.txt", r"a\.b-\d{19}\.txt"),
    ],
)
def test_log_files_carry_the_time_in_their_name(tmp_path: Path, path: str, pattern: str) -> None:
    logs = Logs(LogOptions(file=f"{tmp_path}/{path}"), io.StringIO())
    logging.getLogger("agent").info("hello")
    logs.close()
    (found,) = tmp_path.iterdir()
    assert re.fullmatch(pattern, found.name)
    assert without_time(found.read_text()) == ["[INFO]  agent: hello"]


@pytest.mark.parametrize(("keep", "left"), [(0, 10), (2, 3), (-1, 1)])
def test_log_files_are_begun_anew_by_size_and_old_ones_removed(tmp_path: Path, keep: int, left: int) -> None:
    logs = Logs(LogOptions(file=f"{tmp_path}/a.log", rotate_bytes=100, rotate_max_files=keep), io.StringIO())
    for number in range(10):
        logging.getLogger("agent").info("%s%d", "x" * 100, number)
    logs.close()
    found = sorted(tmp_path.iterdir())
    assert len(found) == left
    assert found[-1].read_text().rstrip().endswith("x9")


def test_log_files_are_begun_anew_by_age(tmp_path: Path) -> None:
    logs = Logs(LogOptions(file=f"{tmp_path}/a.log", rotate_seconds=1e-9), io.StringIO())
    for _ in range(3):
        logging.getLogger("agent").info("x")
    logs.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_missing_folder_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Logs(LogOptions(file=f"{tmp_path}/none/a.log"), io.StringIO())

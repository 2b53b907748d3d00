"""All numbers of an agent, and their two views.

Consul names its series with dots (`consul.raft.apply`); for Prometheus they become underscores. Durations are observed in
seconds and shown, as Consul shows them, in milliseconds. The JSON view is over the last finished window of ten seconds. Four
series carry the names that alerting rules for Raft use, in seconds.

Source: Consul documentation (telemetry, `agent/metrics`).
"""

import asyncio
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .instruments import MILLISECONDS, PLAIN, QUANTILES, WINDOW, Counter, Family, Gauge, Histogram, Instrument, Sample, go_float

_COMMIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UNFIT: Final = re.compile(r"[ .\-=/]")


class ClientApi(msgspec.Struct, frozen=True):
    """The counters of one catalog endpoint of this agent's HTTP API."""

    requests: Counter
    succeeded: Counter
    failed: Counter


class _Series(msgspec.Struct, frozen=True):
    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    children: Callable[[], Iterable[tuple[tuple[str, ...], Instrument]]]

    def each(self) -> Iterator[tuple[dict[str, str], Instrument]]:
        for values, instrument in self.children():
            yield dict(zip(self.labels, values, strict=True)), instrument


class Metrics:
    """All series of an agent, every one without labels present from the start.

    `host` goes into the names of gauges (empty: `telemetry.disable_hostname`); `node` is the label of the series that Consul
    labels with the answering node. To be used on the event loop.
    """

    def __init__(self, *, prefix: str = "consul", host: str = "", node: str = "", version: str = "") -> None:
        self._prefix = prefix
        self._host = host
        self._node = node
        self._series: list[_Series] = []
        self._rules: list[tuple[str, bool]] = []
        self._allowed_by_default = True
        self._timer: asyncio.TimerHandle | None = None
        self._declare_raft()
        self._declare_gossip()
        self._declare_rpc()
        self._declare_doors()
        self._declare_store()
        self._declare_agent(version)
        self._registry = CollectorRegistry()
        self._registry.register(_AlertSeries(self))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to divide time into windows."""
        self._schedule(loop, loop.time() + WINDOW - time.time() % WINDOW)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        self._timer = loop.call_at(at, self._next_window, loop, at)

    def _next_window(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        self.end_window()
        self._schedule(loop, at + WINDOW)

    def end_window(self) -> None:
        """Close the present window: from now on it is what `as_json` shows."""
        for series in self._series:
            for _, instrument in series.each():
                if isinstance(instrument, Counter):
                    instrument.end_window()

    def set_filter(self, rules: Sequence[str], *, default: bool = True) -> None:
        """`telemetry.prefix_filter`: `+prefix` shows, `-prefix` hides, the longest match decides, else `default`."""
        self._rules = sorted(((rule[1:], rule[0] == "+") for rule in rules), key=lambda rule: -len(rule[0]))
        self._allowed_by_default = default

    # --- declarations ------------------------------------------------------------------------------------------------

    def _declare_raft(self) -> None:
        self.raft_leader_elections = Counter()
        self.raft_leader_last_contact = Gauge()
        """Seconds since a leader was heard of, 0 on the leader; it has to grow while there is none."""
        self.raft_commit_duration = Histogram(_COMMIT_BUCKETS)
        self._add("raft.commitTime", "summary", "From proposal to commit", self.raft_commit_duration)
        self.raft_replication_append_entries_rpc = self._sample("raft.replication.appendEntries.rpc", "Until a follower answered")
        self.raft_replication_append_entries_logs = self._counter("raft.replication.appendEntries.logs", "Entries sent")
        self.raft_replication_heartbeat = self._sample("raft.replication.heartbeat", "Until a follower answered a heartbeat")
        self.raft_replication_install_snapshot = self._sample(
            "raft.replication.installSnapshot", "Until a snapshot was taken over"
        )
        self.raft_apply = self._counter("raft.apply", "Commands proposed")
        self.raft_commit_num_logs = self._gauge("raft.commitNumLogs", "Entries of the last commit")
        self.raft_applied_index = self._gauge("raft.applied_index", "Last applied index")
        self.raft_last_index = self._gauge("raft.last_index", "Last index of the log")
        self.raft_leader_contact = self._sample("raft.leader.lastContact", "Since followers were last heard of, on the leader")
        self.raft_leader_dispatch_log = self._sample("raft.leader.dispatchLog", "Writing entries to the leader's disk")
        self.raft_leader_dispatch_num_logs = self._gauge("raft.leader.dispatchNumLogs", "Entries of the last write")
        self.raft_fsm_apply = self._sample("raft.fsm.apply", "Applying committed entries")
        self.raft_fsm_snapshot = self._sample("raft.fsm.snapshot", "Capturing the state")
        self.raft_fsm_restore = self._sample("raft.fsm.restore", "Restoring the state")
        self.raft_snapshot_take = self._sample("raft.snapshot.takeSnapshot", "Taking a snapshot, all of it")
        self.raft_state_candidate = self._counter("raft.state.candidate", "Times this server stood for election")
        self.raft_state_follower = self._counter("raft.state.follower", "Times this server became a follower")
        self.raft_state_leader = self._counter("raft.state.leader", "Times this server became the leader")
        self.raft_heartbeat_timeout = self._counter("raft.transition.heartbeat_timeout", "Times the leader fell silent")
        self.raft_verify_leader = self._counter("raft.verify_leader", "Rounds that confirmed leadership")
        self.leader_reconcile = self._sample("leader.reconcile", "Comparing members with the catalog")
        self.leader_reconcile_member = self._sample("leader.reconcileMember", "Bringing one member into the catalog")
        self.leader_reap_tombstones = self._sample("leader.reapTombstones", "Forgetting deleted keys")
        self.autopilot_healthy = self._gauge("autopilot.healthy", "1 if all servers are healthy")
        self.autopilot_failure_tolerance = self._gauge("autopilot.failure_tolerance", "Voters that may still be lost")
        self.server_is_leader = self._gauge("server.isLeader", "1 on the leader")

    def _declare_gossip(self) -> None:
        self.serf_events = self._counter("serf.events", "User events received")
        self.serf_member_join = self._counter("serf.member.join", "Members that joined")
        self.serf_member_left = self._counter("serf.member.left", "Members that left")
        self.serf_member_failed = self._counter("serf.member.failed", "Members that failed")
        self.serf_member_update = self._counter("serf.member.update", "Members that changed")
        self.serf_queries = self._counter("serf.queries", "Queries received")
        self.serf_query_responses = self._counter("serf.query_responses", "Answers to queries received")
        self.serf_queue_event = self._sample("serf.queue.Event", "Events waiting to be gossiped", PLAIN)
        self.serf_queue_intent = self._sample("serf.queue.Intent", "Joins and leaves waiting to be gossiped", PLAIN)
        self.serf_queue_query = self._sample("serf.queue.Query", "Queries waiting to be gossiped", PLAIN)
        self.memberlist_probe_node = self._sample("memberlist.probeNode", "One probe")
        self.memberlist_push_pull_node = self._sample("memberlist.pushPullNode", "One exchange of all state")
        self.memberlist_msg_alive = self._counter("memberlist.msg.alive", "Alive messages")
        self.memberlist_msg_suspect = self._counter("memberlist.msg.suspect", "Suspect messages")
        self.memberlist_msg_dead = self._counter("memberlist.msg.dead", "Dead messages")
        self.memberlist_msg_bad = self._counter(
            "memberlist.msg.bad", "Packets and streams that made no sense or were not allowed"
        )
        self.memberlist_tcp_accept = self._counter("memberlist.tcp.accept", "Streams accepted")
        self.memberlist_tcp_connect = self._counter("memberlist.tcp.connect", "Streams opened")
        self.memberlist_tcp_sent = self._counter("memberlist.tcp.sent", "Bytes sent over streams")
        self.memberlist_udp_sent = self._counter("memberlist.udp.sent", "Bytes sent in packets")
        self.memberlist_udp_received = self._counter("memberlist.udp.received", "Bytes received in packets")
        self.memberlist_degraded_probe = self._counter("memberlist.degraded.probe", "Probes made while we are slow ourselves")
        self.memberlist_health_score = self._gauge("memberlist.health.score", "0 healthy, more is slower")
        self.members_clients = self._gauge("members.clients", "Client agents alive")
        self.members_servers = self._gauge("members.servers", "Servers alive")

    def _declare_rpc(self) -> None:
        self.rpc_request = self._counter("rpc.request", "Requests served")
        self.rpc_request_error = self._counter("rpc.request_error", "Requests that failed")
        self.rpc_query = self._counter("rpc.query", "Reads served")
        self.rpc_cross_dc = self._counter("rpc.cross-dc", "Requests sent to another datacenter")
        self.rpc_raft_handoff = self._counter("rpc.raft_handoff", "Connections handed to Raft")
        self.rpc_queries_blocking = self._gauge("rpc.queries_blocking", "Blocking reads that wait right now")
        self.rpc_consistent_read = self._sample("rpc.consistentRead", "Confirming leadership for a consistent read")
        self.client_rpc = self._counter("client.rpc", "Requests of this agent to servers")
        self.client_rpc_exceeded = self._counter("client.rpc.exceeded", "Requests refused by this agent's own limit")
        self.client_rpc_failed = self._counter("client.rpc.failed", "Requests that failed")

    def _declare_doors(self) -> None:
        self.client_http_exceeded = self._counter("client.http.exceeded", "Connections refused because their client has too many")
        self.api_http = self._sample_family("api.http", "Answering an HTTP request", "method", "path")
        self.dns_domain_query = self._sample_family("dns.domain_query", "Answering a DNS question", "node").of(self._node)
        self.dns_ptr_query = self._sample_family("dns.ptr_query", "Answering a reverse question", "node").of(self._node)
        self.dns_stale_queries = self._counter("dns.stale_queries", "Questions answered from state older than 5 s")
        self.client_api: dict[str, ClientApi] = {}
        """By endpoint: `catalog_register` and so on."""
        for verb in ("register", "deregister", "datacenters", "nodes", "services", "service_nodes", "node_services"):
            self.client_api[f"catalog_{verb}"] = self._client_api(f"catalog_{verb}")

    def _declare_store(self) -> None:
        self.catalog_register = self._sample("catalog.register", "Registering in the catalog")
        self.catalog_deregister = self._sample("catalog.deregister", "Deregistering from the catalog")
        self.catalog_service_query = self._counter_family("catalog.service.query", "Lookups of a service", "service")
        self.catalog_service_not_found = self._counter_family("catalog.service.not-found", "Lookups without result", "service")
        self.health_service_query = self._counter_family("health.service.query", "Health lookups of a service", "service")
        self.health_service_not_found = self._counter_family("health.service.not-found", "Lookups without result", "service")
        self.fsm_persist = self._sample("fsm.persist", "Writing the state to a snapshot")
        self.kvs_apply = self._sample("kvs.apply", "A KV write, all of it")
        self.session_apply = self._sample("session.apply", "A session write, all of it")
        self.session_renew = self._sample("session.renew", "Renewing a session")
        self.session_ttl_invalidate = self._sample("session_ttl.invalidate", "Invalidating an expired session")
        self.session_ttl_active = self._gauge("session_ttl.active", "Sessions with a running TTL")
        self.txn_apply = self._sample("txn.apply", "A transaction, all of it")
        self.txn_read = self._sample("txn.read", "A read-only transaction")
        self.prepared_query_apply = self._sample("prepared-query.apply", "A change of a prepared query")
        self.prepared_query_execute = self._sample("prepared-query.execute", "Running a prepared query")
        self.state_nodes = self._gauge("state.nodes", "Nodes in the catalog")
        self.state_services = self._gauge("state.services", "Names of services in the catalog")
        self.state_service_instances = self._gauge("state.service_instances", "Service instances in the catalog")
        self.state_kv_entries = self._gauge("state.kv_entries", "Keys in the KV store")

    def _declare_agent(self, version: str) -> None:
        self.acl_blocked_service_registration = self._acl_blocked("service", "registration")
        self.acl_blocked_service_deregistration = self._acl_blocked("service", "deregistration")
        self.acl_blocked_check_registration = self._acl_blocked("check", "registration")
        self.acl_blocked_check_deregistration = self._acl_blocked("check", "deregistration")
        self.acl_blocked_node_registration = self._acl_blocked("node", "registration")
        versions: Mapping[tuple[str, ...], Instrument] = {(version,): Gauge(lambda: 1.0)}
        self._series.append(_Series("version", "gauge", "The running version", ("version",), versions.items))
        self.loop_lag = self._sample("runtime.loop_lag", "How much later than asked the event loop acts")
        self._gauge("runtime.alloc_bytes", "Resident memory").read = _resident_bytes
        self._gauge("runtime.sys_bytes", "Resident memory").read = _resident_bytes
        self._gauge("runtime.heap_objects", "Blocks that Python has allocated").read = sys.getallocatedblocks
        self._gauge("runtime.num_goroutines", "Tasks of the event loop").read = _tasks
        self._gauge("runtime.total_gc_runs", "Runs of the garbage collector").read = _collections

    def _add(self, name: str, kind: str, text: str, instrument: Instrument) -> None:
        self._series.append(_Series(name, kind, text, (), lambda: (((), instrument),)))

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter()
        self._add(name, "counter", text, counter)
        return counter

    def _sample(self, name: str, text: str, scale: float = MILLISECONDS) -> Sample:
        sample = Sample(scale)
        self._add(name, "summary", text, sample)
        return sample

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge()
        self._add(name, "gauge", text, gauge)
        return gauge

    def _counter_family(self, name: str, text: str, *labels: str) -> Family[Counter]:
        family = Family(Counter, labels)
        self._series.append(_Series(name, "counter", text, labels, family.children))
        return family

    def _sample_family(self, name: str, text: str, *labels: str) -> Family[Sample]:
        family = Family(Sample, labels)
        self._series.append(_Series(name, "summary", text, labels, family.children))
        return family

    def _client_api(self, endpoint: str) -> ClientApi:
        def counter(name: str, text: str) -> Counter:
            return self._counter_family(name, text, "node").of(self._node)

        return ClientApi(
            counter(f"client.api.{endpoint}", "HTTP requests"),
            counter(f"client.api.success.{endpoint}", "HTTP requests that succeeded"),
            counter(f"client.api.error.{endpoint}", "HTTP requests that failed"),
        )

    def _acl_blocked(self, what: str, which: str) -> Counter:
        return self._counter(f"acl.blocked.{what}.{which}", f"{which.capitalize()}s refused by ACLs")

    # --- views -------------------------------------------------------------------------------------------------------

    def as_prometheus(self) -> bytes:
        """The text exposition format, version 0.0.4.

        Consul's counters have no `_total` at their end, which the library can't write; hence these lines are ours.
        """
        lines: list[str] = []
        for series in self._shown():
            name = _UNFIT.sub("_", self._full_name(series))
            lines.append(f"# HELP {name} {series.help}\n# TYPE {name} {series.kind}\n")
            for labels, instrument in series.each():
                lines += _sample_lines(name, labels, instrument)
        return "".join(lines).encode() + generate_latest(self._registry)

    def as_json(self) -> dict[str, object]:
        """As `agent/metrics` shows it: gauges as they are, the rest over the last finished window."""
        gauges: list[dict[str, object]] = []
        counters: list[dict[str, object]] = []
        samples: list[dict[str, object]] = []
        for series in self._shown():
            name = self._full_name(series)
            for labels, instrument in series.each():
                if isinstance(instrument, Gauge):
                    gauges.append({"Name": name, "Value": instrument.value, "Labels": labels})
                elif instrument.finished.count:
                    target = samples if isinstance(instrument, Sample) else counters
                    target.append(_window_json(name, labels, instrument))
        begin = time.time() // WINDOW * WINDOW - WINDOW
        stamp = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(begin))
        return {"Timestamp": stamp, "Gauges": gauges, "Points": [], "Counters": counters, "Samples": samples}

    def _shown(self) -> Iterator[_Series]:
        return (series for series in sorted(self._series, key=lambda series: series.name) if self._allows(series.name))

    def _allows(self, name: str) -> bool:
        full = f"{self._prefix}.{name}"
        for prefix, allowed in self._rules:
            if full.startswith(prefix):
                return allowed
        return self._allowed_by_default

    def _full_name(self, series: _Series) -> str:
        host = f"{self._host}." if self._host and series.kind == "gauge" else ""
        return f"{self._prefix}.{host}{series.name}"


class _AlertSeries(Collector):
    """The series of alerting rules for Raft, under the names that these rules have."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        elections, commits = metrics.raft_leader_elections, metrics.raft_commit_duration
        yield CounterMetricFamily("raft_leader_elections", "Elections that this server won", value=elections.total)
        yield GaugeMetricFamily(
            "raft_leader_last_contact_seconds",
            "Seconds since a leader was heard of; 0 on the leader",
            value=metrics.raft_leader_last_contact.value,
        )
        yield HistogramMetricFamily(
            "raft_commit_duration_seconds",
            "Seconds from proposal to commit",
            buckets=commits.buckets(),
            sum_value=commits.total,
        )
        yield GaugeMetricFamily(
            "raft_replication_append_entries_rpc_duration_seconds",
            "Seconds until followers answered AppendEntries, mean of the last window; 0 if none was sent",
            value=metrics.raft_replication_append_entries_rpc.recent_mean(),
        )


def _sample_lines(name: str, labels: dict[str, str], instrument: Instrument) -> Iterator[str]:
    if isinstance(instrument, Gauge):
        yield f"{name}{_label_text(labels)} {go_float(instrument.value)}\n"
    elif isinstance(instrument, Sample):
        for quantile, value in zip(QUANTILES, instrument.quantiles(), strict=True):
            text = _label_text({**labels, "quantile": str(quantile)})
            yield f"{name}{text} {go_float(value * instrument.scale)}\n"
        yield f"{name}_sum{_label_text(labels)} {go_float(instrument.total * instrument.scale)}\n"
        yield f"{name}_count{_label_text(labels)} {instrument.count}\n"
    else:
        yield f"{name}{_label_text(labels)} {go_float(instrument.total)}\n"


def _label_text(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for value in labels.values())
    return "{" + ",".join(f'{key}="{value}"' for key, value in zip(labels, escaped, strict=True)) + "}"


def _window_json(name: str, labels: dict[str, str], counter: Counter) -> dict[str, object]:
    window, scale = counter.finished, counter.scale if isinstance(counter, Sample) else PLAIN
    return {
        "Name": name,
        "Count": window.count,
        "Rate": window.total * scale / WINDOW,
        "Sum": window.total * scale,
        "Min": window.low * scale,
        "Max": window.high * scale,
        "Mean": window.total * scale / window.count,
        "Stddev": window.deviation * scale,
        "Labels": labels,
    }


def _resident_bytes() -> float:
    with open("/proc/self/statm", "rb") as statm:
        return float(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))


def _tasks() -> float:
    try:
        return float(len(asyncio.all_tasks()))
    except RuntimeError:
        return 0.0


def _collections() -> float:
    return float(sum(generation["collections"] for generation in gc.get_stats()))

"""A gossip pool's numbers in the agent's metrics: what the core counted since the last look, and how it stands."""

from collections import Counter

from discovery.gossip.serf import Serf
from discovery.telemetry import Metrics


class PoolMetrics:
    """Looks at one core now and then. Series without labels are shared by the pools of an agent."""

    def __init__(self, core: Serf, metrics: Metrics) -> None:
        self._core = core
        self._metrics = metrics
        self._seen: Counter[str] = Counter()
        self._counted = {
            "alive messages": metrics.memberlist_msg_alive,
            "suspect messages": metrics.memberlist_msg_suspect,
            "dead messages": metrics.memberlist_msg_dead,
            "degraded probes": metrics.memberlist_degraded_probe,
            "queries": metrics.serf_queries,
            "query responses": metrics.serf_query_responses,
            "bad packets": metrics.memberlist_msg_bad,
            "bad streams": metrics.memberlist_msg_bad,
            "bad exchanges": metrics.memberlist_msg_bad,
        }

    def look(self) -> None:
        swim, metrics = self._core.swim, self._metrics
        for name, counter in self._counted.items():
            for _ in range(swim.counters[name] - self._seen[name]):
                counter.inc()
        self._seen = Counter(swim.counters)
        metrics.memberlist_health_score.set(swim.awareness.score)
        for duration in swim.take_probe_times():
            metrics.memberlist_probe_node.observe(duration)
        intents, queries, events = self._core.queue_lengths()
        metrics.serf_queue_intent.observe(intents)
        metrics.serf_queue_query.observe(queries)
        metrics.serf_queue_event.observe(events)

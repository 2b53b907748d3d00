"""How fast gossip goes: memberlist's settings for a local network, for long distances, and Consul's for `-dev`."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Times in seconds. The first six fields are those of Consul's `gossip_lan` and `gossip_wan`."""

    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    """Should be above the 99th percentile of round trips; it is never scaled."""
    suspicion_mult: int = 4
    retransmit_mult: int = 4

    indirect_checks: int = 3
    suspicion_max_timeout_mult: int = 6
    awareness_max_multiplier: int = 8
    push_pull_interval: float = 30.0
    gossip_to_the_dead_time: float = 30.0
    """For so long the dead still hear, and so may refute."""
    dead_node_reclaim_time: float = 30.0
    """For so long a dead node's name stays its own; after that another address may take it over."""
    tcp_timeout: float = 10.0


LAN = Profile()
WAN = Profile(
    gossip_interval=0.5,
    gossip_nodes=3,
    probe_interval=5.0,
    probe_timeout=3.0,
    suspicion_mult=6,
    push_pull_interval=60.0,
    gossip_to_the_dead_time=60.0,
    tcp_timeout=30.0,
)
LOCAL = replace(LAN, gossip_interval=0.1, probe_interval=0.1, probe_timeout=0.1, suspicion_mult=3)

"""Service and check definitions as operators write them: in a configuration file or as the body of an agent endpoint.

Consul's field names. Absent parts are zero; what they mean then is settled by `local`.
"""

from .duration import Duration
from .naming import always, new_list, nothing
from .records import Connect, Proxy, Record, ServiceAddress, Weights


class CheckSpec(Record, frozen=True, kw_only=True):
    """One check. `id` stands at the top level of `check/register`, `check_id` inside a service's check."""

    id: str = always(str)
    check_id: str = always(str)
    name: str = always(str)
    notes: str = always(str)
    service_id: str = always(str)
    token: str = always(str)
    status: str = always(str)
    script_args: list[str] | None = always(nothing)
    args: list[str] | None = always(nothing)
    http: str = always(str)
    header: dict[str, list[str]] | None = always(nothing)
    method: str = always(str)
    body: str = always(str)
    disable_redirects: bool = always(bool)
    tcp: str = always(str)
    tcp_use_tls: bool = always(bool)
    udp: str = always(str)
    interval: Duration = always(Duration)
    timeout: Duration = always(Duration)
    ttl: Duration = always(Duration)
    docker_container_id: str = always(str)
    shell: str = always(str)
    grpc: str = always(str)
    grpc_use_tls: bool = always(bool)
    h2ping: str = always(str)
    h2ping_use_tls: bool = True
    os_service: str = always(str)
    tls_skip_verify: bool = always(bool)
    tls_server_name: str = always(str)
    alias_node: str = always(str)
    alias_service: str = always(str)
    success_before_passing: int = always(int)
    failures_before_warning: int = always(int)
    failures_before_critical: int = always(int)
    deregister_critical_service_after: Duration = always(Duration)
    output_max_size: int = always(int)
    initial_delay: Duration = always(Duration)
    """Ours: how long after the registration, or the agent's start, the first run is at the earliest."""
    startup_grace: Duration = always(Duration)
    """Ours: how long after the registration, or the agent's start, failures are not counted before the first success."""
    hold_down: Duration = always(Duration)
    """Ours: how long a check that has failed must not fail again before it counts as well again."""


class ServiceSpec(Record, frozen=True, kw_only=True):
    kind: str = always(str)
    id: str = always(str)
    name: str = always(str)
    tags: list[str] = always(new_list)
    address: str = always(str)
    tagged_addresses: dict[str, ServiceAddress] | None = always(nothing)
    meta: dict[str, str] | None = always(nothing)
    port: int = always(int)
    check: CheckSpec | None = always(nothing)
    checks: list[CheckSpec] | None = always(nothing)
    weights: Weights | None = always(nothing)
    token: str = always(str)
    enable_tag_override: bool = always(bool)
    proxy: Proxy | None = always(nothing)
    connect: Connect | None = always(nothing)

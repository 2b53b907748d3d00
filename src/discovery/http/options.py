"""What an operator may configure about the HTTP API."""

import random
import ssl as tls

import msgspec

KIB = 1024


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that hold until the next `reconfigure`. Sizes are bytes, durations nanoseconds."""

    response_headers: dict[str, str] = {}
    allow_write_http_from: tuple[str, ...] = ()
    """Networks (CIDR) that may send anything but GET, HEAD and OPTIONS; empty: all may."""
    block_endpoints: tuple[str, ...] = ()
    """Path prefixes that are answered 403."""
    max_connections_per_client: int = 200
    """Open connections from one address; 0: no limit."""
    kv_max_value_size: int = 512 * KIB
    txn_max_request_size: int = 512 * KIB
    use_cache: bool = True
    """Whether `?cached` has an effect."""
    discovery_max_stale: int = 0
    """Above 0: catalog and health reads without a consistency mode are stale up to this age."""
    default_query_time: int = 300 * 10**9
    max_query_time: int = 600 * 10**9
    translate_wan_addrs: bool = False
    """Only announced here; the addresses are those that servers answer with."""
    prometheus: bool = False
    """Whether metrics are kept for Prometheus (`telemetry.prometheus_retention_time` above 0)."""
    coordinates: bool = True
    dns_domain: str = "consul"
    filter_unprintable_paths: bool = True
    default_token: str = ""
    """The token of requests that bring none (`acl.tokens.default`)."""
    kept_answers: int = 16384
    """Encoded answers held ready for repeated reads; 0 switches that off."""
    kept_bytes: int = 32 * KIB * KIB

    def wait_seconds(self, wished: int) -> float:
        """How long a blocking read waits: `wished` nanoseconds (0: the default) within the limit, and up to a sixteenth more, so
        that those who wait do not come back in step."""
        wait = min(wished, self.max_query_time) if wished > 0 else self.default_query_time
        return (wait + random.uniform(0, wait / 16)) / 1e9


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen: `host` and `port` (0: any free one), or a socket file. With `ssl` the listener speaks HTTPS."""

    host: str = ""
    port: int = 0
    unix_path: str = ""
    unix_mode: int | None = None
    ssl: tls.SSLContext | None = None
    handshake_timeout: float = 5.0
    """Seconds that a client may take for the TLS handshake."""

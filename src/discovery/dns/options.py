"""What an operator may configure about DNS (Consul's `dns_config` and its top-level neighbours)."""

import ipaddress

import msgspec

from discovery.model.duration import Duration

from .wire import Name, name_of

_SECOND = 10**9
_DNS_PORT = 53


class SoaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, as the SOA record carries them."""

    refresh: int = 3600
    retry: int = 600
    expire: int = 86400
    min_ttl: int = 0


class DnsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that hold until the next `reconfigure`. Durations are nanoseconds."""

    domain: str = "consul."
    alt_domain: str = ""
    recursors: tuple[str, ...] = ()
    """`ip[:port]` of each."""
    recursor_timeout: int = 2 * _SECOND
    recursor_strategy: str = "sequential"
    allow_stale: bool = True
    max_stale: int = 87600 * 3600 * _SECOND
    node_ttl: int = 0
    service_ttl: dict[str, int] = {}
    enable_truncate: bool = False
    only_passing: bool = False
    disable_compression: bool = False
    udp_answer_limit: int = 3
    a_record_limit: int = 0
    enable_additional_node_meta_txt: bool = True
    use_cache: bool = False
    cache_max_age: int = 0
    serve_stale_for: int = 0
    """How old an answer may be that is given while the cluster can't be asked; 0: SERVFAIL is all that is given then."""
    serve_stale_ttl: int = 5 * _SECOND
    """The TTL of such answers."""
    soa: SoaOptions = SoaOptions()
    translate_wan_addrs: bool = False
    token: str = ""
    """The ACL token that lookups are made with."""
    kept_answers: int = 8192
    """Encoded answers held ready for repeated questions, for each of UDP and TCP; 0 switches that off."""
    kept_bytes: int = 16 * 1024 * 1024

    @property
    def stale_reads(self) -> bool:
        """Whether any server may answer lookups."""
        return self.allow_stale or self.use_cache

    def zone(self) -> Name:
        return name_of(self.domain)

    def alt_zone(self) -> Name:
        """Empty where there is none."""
        return name_of(self.alt_domain)

    def service_ttl_of(self, service: str) -> int:
        """Seconds: of the exact name, else of the longest `prefix*` that fits, else 0."""
        service = service.lower()
        best, ttl = -1, 0
        for pattern, duration in self.service_ttl.items():
            pattern = pattern.lower()
            if pattern == service:
                return seconds(duration)
            if pattern.endswith("*") and service.startswith(pattern[:-1]) and len(pattern) > best:
                best, ttl = len(pattern), seconds(duration)
        return ttl


def seconds(duration: int) -> int:
    """A duration as a TTL: whole seconds within what a record can carry."""
    return max(0, min(duration // _SECOND, 2**31 - 1))


def query_ttl(text: str) -> int:
    """The TTL of a prepared query, in seconds; raises `InvalidDuration`."""
    return seconds(Duration.parse(text))


def recursor_address(text: str) -> tuple[str, int]:
    """`ip`, `ip:port` or `[ip6]:port` as host and port; raises `ValueError` for anything else and for unspecified addresses."""
    host, port = text, str(_DNS_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        raise ValueError(f"recursor {text} names no host")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"recursor {text} has no valid port")
    return str(address), int(port)

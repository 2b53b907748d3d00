"""From merged settings to options: defaults that depend on other keys are filled in, addresses found out.

Source: Consul documentation (agent configuration: defaults of each key).
"""

import ipaddress
import socket
from typing import Any, Final, TypeVar

import msgspec

from .addresses import UNIX, Resolver, is_any, is_ip, plain_ip
from .decode import Settings
from .faults import Faults
from .interfaces import InterfaceAddress
from .options import ListenAddresses, Options, Ports, Section
from .schema import known_keys

S = TypeVar("S", bound=Section)

_IPV4, _IPV6 = 4, 6
_PRIVATE: Final = {
    _IPV4: [
        ipaddress.ip_network(text)
        for text in (
            "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
            "192.168.0.0/16",
        )
    ],
    _IPV6: [ipaddress.ip_network(text) for text in ("::1/128", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10")],
}  # fmt: skip
"""Networks that count as private when an address to advertise is looked for, as observed of Consul."""
_ZERO_IS_DEFAULT: Final = frozenset(
    [
        "default_query_time", "log_rotate_duration", "max_query_time", "raft_snapshot_interval", "raft_snapshot_threshold",
        "raft_trailing_logs", "reconnect_timeout", "reconnect_timeout_wan", "session_ttl_min",
    ]
)  # fmt: skip
_OFF: Final = -1
_MAX_PORT: Final = 65535
_STAND_IN: Final = "127.0.0.1"
"""For an address that can't be known, so that the search for faults goes on; it never gets into options."""
_TAGS: Final = (("lan", "advertise_addr"), ("wan", "advertise_addr_wan"))
_FAMILIES: Final = (("ipv4", _IPV4), ("ipv6", _IPV6))
_HOSTS: Final = ("retry_join", "retry_join_wan", "start_join", "start_join_wan")


def settle(settings: Settings, faults: Faults, resolver: Resolver, *, dev: bool) -> Options:
    """What does not fit goes to `faults`, and then the result is not to be used."""
    raw = _filled(Options(), settings, "")
    server = raw.server
    datacenter = raw.datacenter.lower()
    options = msgspec.structs.replace(
        raw,
        dev_mode=dev,
        datacenter=datacenter,
        primary_datacenter=raw.primary_datacenter.lower() or datacenter,
        node_name=(raw.node_name or socket.gethostname()).strip(),
        node_id=raw.node_id.lower(),
        bootstrap=raw.bootstrap or raw.bootstrap_expect == 1,
        bootstrap_expect=1 if raw.bootstrap_expect == 0 and (raw.bootstrap or (dev and server)) else raw.bootstrap_expect,
        leave_on_terminate=raw.leave_on_terminate if "leave_on_terminate" in settings else not server,
        skip_leave_on_interrupt=raw.skip_leave_on_interrupt if "skip_leave_on_interrupt" in settings else server,
        verify_outgoing=raw.verify_outgoing or raw.verify_server_hostname,
        domain=_zone(raw.domain),
        alt_domain=_zone(raw.alt_domain) if raw.alt_domain else "",
        ports=_ports(raw.ports, faults),
    )
    return _with_hosts(_with_addresses(options, faults, resolver), resolver)


def _filled(section: S, settings: Settings, prefix: str) -> S:
    """`section` with the values that were set."""
    values: dict[str, Any] = {}
    for name in section.__struct_fields__:
        held, key = getattr(section, name), prefix + name
        if isinstance(held, Section):
            values[name] = _filled(held, settings, f"{key}.")
        elif key in settings and not (key in _ZERO_IS_DEFAULT and settings[key].value == 0):
            value = settings[key].value
            values[name] = tuple(value) if isinstance(value, list) else value
    return msgspec.structs.replace(section, **values)


def _zone(domain: str) -> str:
    return domain.lower().rstrip(".") + "."


def _ports(ports: Ports, faults: Faults) -> Ports:
    settled = {}
    for name in ports.__struct_fields__:
        port = getattr(ports, name)
        if port > _MAX_PORT:
            faults.add(f"ports.{name}: invalid port: {port}", f"ports.{name}")
        settled[name] = port if 0 < port <= _MAX_PORT else _OFF
    return Ports(**settled)


# --- addresses -----------------------------------------------------------------------------------------------------


def _with_addresses(options: Options, faults: Faults, resolver: Resolver) -> Options:
    bind = _bind_address(options.bind_addr, faults, resolver)
    own = {key: resolver.address(key) for key in known_keys() if key.startswith("advertise_addr")}
    own["advertise_addr"] = own["advertise_addr"] or (_detected(bind, faults, resolver) if is_any(bind) else bind)
    own["advertise_addr_wan"] = own["advertise_addr_wan"] or own["advertise_addr"]
    client = resolver.addresses("client_addr", options.client_addr)
    settled = msgspec.structs.replace(
        options,
        bind_addr=bind,
        client_addr=client,
        **own,
        serf_lan=resolver.address("serf_lan") or bind,
        serf_wan=resolver.address("serf_wan") or bind,
        addresses=ListenAddresses(
            dns=resolver.addresses("addresses.dns", client) or client,
            http=resolver.addresses("addresses.http", client, unix=True) or client,
            https=resolver.addresses("addresses.https", client, unix=True) or client,
        ),
    )
    return msgspec.structs.replace(settled, tagged_addresses=_tagged_addresses(settled, faults))


def _bind_address(configured: str, faults: Faults, resolver: Resolver) -> str:
    words = resolver.words("bind_addr", configured)
    if len(words) > 1:
        faults.add("bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead.", "bind_addr")
    elif words and words[0].startswith(UNIX):
        faults.add("bind_addr cannot be a unix socket", "bind_addr")
    elif words and is_ip(words[0]):
        return plain_ip(words[0])
    else:
        given = f": invalid ip address: {words[0]}" if words else ": its template finds none" if "{{" in configured else ""
        faults.add(f"bind_addr cannot be empty{given}", "bind_addr")
    return _STAND_IN


def _detected(bind: str, faults: Faults, resolver: Resolver) -> str:
    """What to advertise when listening everywhere: this machine's only private IPv4 or public IPv6 address. A machine that has
    nothing but its loopback interface is its own network."""
    version = ipaddress.ip_address(bind).version
    kind = "private IPv4" if version == _IPV4 else "public IPv6"
    try:
        found = _candidates(resolver.interfaces(), version)
    except OSError as error:
        faults.add(f"Error detecting {kind} address: {error.strerror}", "bind_addr")
        return _STAND_IN
    if len(found) == 1:
        return found[0]
    if found:
        faults.add(
            f"Multiple {kind} addresses found. Please configure one with 'bind' and/or 'advertise'. Found: {', '.join(found)}",
            "bind_addr",
        )
    else:
        faults.add(f"No {kind} address found", "bind_addr")
    return _STAND_IN


def _candidates(interfaces: list[InterfaceAddress], version: int) -> list[str]:
    up = [one for one in interfaces if one.up]
    outward = [one for one in up if not one.loopback] or up
    addresses = [one.address for one in outward if one.address.version == version]
    private = _PRIVATE[version]
    wanted = version == _IPV4
    return [str(address) for address in addresses if any(address in network for network in private) == wanted]


def _tagged_addresses(options: Options, faults: Faults) -> dict[str, str]:
    """Those configured, and ours: `lan`, `wan`, and both by family as far as they are known."""
    tagged = dict(options.tagged_addresses)
    for tag, key in _TAGS:
        address = getattr(options, key)
        tagged[tag] = address
        for family, version in _FAMILIES:
            own = _of_family(options, f"{key}_{family}", version, faults)
            if own or ipaddress.ip_address(address).version == version:
                tagged[f"{tag}_{family}"] = own or address
    return tagged


def _of_family(options: Options, key: str, version: int, faults: Faults) -> str:
    address: str = getattr(options, key)
    if address and ipaddress.ip_address(address).version != version:
        faults.add(f"{key} must be an ipv{version} address", key)
    return address


def _with_hosts(options: Options, resolver: Resolver) -> Options:
    hosts = {key: resolver.hosts(key) for key in _HOSTS}
    recursors = [word for text in resolver.hosts("recursors") for word in text.split()]
    return msgspec.structs.replace(options, recursors=tuple(dict.fromkeys(recursors)), **hosts)

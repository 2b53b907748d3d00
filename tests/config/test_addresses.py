"""Which addresses an agent listens on and tells others, out of what was and was not configured."""

import pytest

from discovery.config.interfaces import InterfaceAddress, system_interfaces
from discovery.config.load import Sources, load
from discovery.config.tree import ConfigError

from .rig import LOOPBACK, MACHINE, interface, loaded, options, refusal

DATA = 'data_dir = "/d" node_name = "n"\n'


def everywhere(interfaces: list[InterfaceAddress], bind: str = "0.0.0.0") -> str:
    """What is advertised when listening everywhere."""
    return loaded(DATA, f'bind_addr = "{bind}"', interfaces=interfaces).options.advertise_addr


def nowhere(interfaces: list[InterfaceAddress], bind: str = "0.0.0.0") -> str:
    return refusal(f'bind_addr = "{bind}"', base=DATA, interfaces=interfaces)


@pytest.mark.parametrize(
    "cidr",
    ["10.1.2.3/8", "100.64.0.1/10", "169.254.1.1/16", "172.31.0.1/12", "192.0.0.8/24", "192.0.2.1/24", "192.168.1.1/24"],
)
def test_the_only_private_address_is_advertised(cidr: str) -> None:
    assert everywhere([*LOOPBACK, interface("a", "8.8.8.8/24"), interface("b", cidr)]) == cidr.partition("/")[0]


@pytest.mark.parametrize(
    "cidr", ["100.128.0.1/10", "172.32.0.1/12", "192.88.99.1/24", "198.18.0.1/15", "8.8.8.8/8", "240.0.0.1/8"]
)
def test_other_addresses_are_not_private(cidr: str) -> None:
    assert nowhere([*LOOPBACK, interface("a", cidr)]) == "No private IPv4 address found (flags-1.hcl:1:1)"


def test_without_a_word_about_binding_the_private_address_is_advertised() -> None:
    assert loaded(DATA).options.advertise_addr == "10.0.0.7"
    assert loaded(DATA).options.bind_addr == "0.0.0.0"


def test_several_private_addresses_need_a_choice() -> None:
    two = [*MACHINE, interface("eth1", "192.168.0.1/24")]
    assert nowhere(two) == (
        "Multiple private IPv4 addresses found. Please configure one with 'bind' and/or 'advertise'. "
        "Found: 10.0.0.7, 192.168.0.1 (flags-1.hcl:1:1)"
    )
    assert loaded(DATA, 'advertise_addr = "192.168.0.1"', interfaces=two).options.advertise_addr == "192.168.0.1"


def test_an_interface_that_is_down_has_no_address() -> None:
    assert everywhere([*MACHINE, interface("eth1", "10.9.9.9/24", up=False)]) == "10.0.0.7"


def test_a_machine_without_a_network_advertises_its_loopback_address() -> None:
    assert everywhere(LOOPBACK) == "127.0.0.1"


@pytest.mark.parametrize("bind", ["::", "[::]"])
def test_the_only_public_ipv6_address_is_advertised(bind: str) -> None:
    assert everywhere(MACHINE, bind) == "2600::7"


@pytest.mark.parametrize("cidr", ["2001:db8::1/64", "fd00::1/64", "fe80::1/64", "fec0::1/64"])
def test_other_ipv6_addresses_are_not_public(cidr: str) -> None:
    assert nowhere([*LOOPBACK, interface("a", cidr)], "::") == "No public IPv6 address found (flags-1.hcl:1:1)"


def test_interfaces_that_can_not_be_asked() -> None:
    def broken() -> list[InterfaceAddress]:
        raise OSError(1, "Operation not permitted")

    with pytest.raises(ConfigError, match="Error detecting private IPv4 address: Operation not permitted"):
        load(Sources(fragments=(DATA,)), broken)
    with pytest.raises(ConfigError, match=r'retry_join: error parsing "{{ GetPrivateIP }}": .*Operation not permitted'):
        load(Sources(fragments=(DATA, 'bind_addr = "127.0.0.1" retry_join = ["{{ GetPrivateIP }}"]')), broken)


def test_interfaces_are_only_asked_when_needed() -> None:
    def untouchable() -> list[InterfaceAddress]:
        raise AssertionError

    assert load(Sources(fragments=(DATA, 'bind_addr = "127.0.0.1"')), untouchable).options.advertise_addr == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bind_addr = ""', "bind_addr cannot be empty"),
        ('bind_addr = "here"', "bind_addr cannot be empty: invalid ip address: here"),
        ('bind_addr = "{{ GetInterfaceIP \\"nope\\" }}"', "bind_addr cannot be empty: its template finds none"),
        (
            'bind_addr = "127.0.0.1 127.0.0.2"',
            "bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead.",
        ),
        ('bind_addr = "unix:///run/d"', "bind_addr cannot be a unix socket"),
    ],
)
def test_bad_bind_addresses(text: str, message: str) -> None:
    assert refusal(text, base=DATA) == f"{message} (flags-1.hcl:1:1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('advertise_addr = "0.0.0.0"', "Advertise address cannot be 0.0.0.0, :: or [::]"),
        ('advertise_addr = "[::]"', "Advertise address cannot be 0.0.0.0, :: or [::]"),
        ('advertise_addr_wan = "::"', "Advertise WAN address cannot be 0.0.0.0, :: or [::]"),
        ('advertise_addr = "host"', "advertise_addr: invalid ip address: host"),
        ('advertise_addr = "10.0.0.1 10.0.0.2"', "advertise_addr: multiple addresses found: 10.0.0.1 10.0.0.2"),
        ('advertise_addr_wan = "host"', "advertise_addr_wan: invalid ip address: host"),
        ('serf_lan = "unix:///x"', "serf_lan cannot be a unix socket"),
        ('serf_wan = "1.1.1.1 2.2.2.2"', "serf_wan: multiple addresses found: 1.1.1.1 2.2.2.2"),
        ('advertise_addr_ipv4 = "::1"', "advertise_addr_ipv4 must be an ipv4 address"),
        ('advertise_addr_ipv6 = "1.1.1.1"', "advertise_addr_ipv6 must be an ipv6 address"),
        ('advertise_addr_wan_ipv4 = "::1"', "advertise_addr_wan_ipv4 must be an ipv4 address"),
        ('advertise_addr_wan_ipv6 = "1.1.1.1"', "advertise_addr_wan_ipv6 must be an ipv6 address"),
        ('client_addr = "host"', "client_addr: invalid ip address: host"),
        ('client_addr = "unix:///x"', "client_addr cannot be a unix socket"),
        ('recursors = ["0.0.0.0"]', "DNS recursor address cannot be 0.0.0.0, :: or [::]"),
        ('recursors = ["unix:///x"]', "DNS Recursors cannot be unix sockets: unix:///x"),
        ('recursors = ["dns.example"]', "Invalid recursor address: dns.example is no IP address, with or without :port"),
        ('recursors = ["8.8.8.8:x"]', "Invalid recursor address: 8.8.8.8:x has no valid port"),
        ('recursors = ["8.8.8.8:"]', "Invalid recursor address: 8.8.8.8: has no valid port"),
        ('recursors = ["[::1]:65536"]', "Invalid recursor address: [::1]:65536 has no valid port"),
        (
            'retry_join = ["{{ foo }}"]',
            'retry_join: error parsing "{{ foo }}": unknown function foo; there are GetAllInterfaces, GetDefaultInterfaces, '
            "GetPrivateInterfaces, GetPublicInterfaces, GetPrivateIP, GetPrivateIPs, GetPublicIP, GetPublicIPs, GetInterfaceIP, "
            "GetInterfaceIPs",
        ),
    ],
)
def test_other_bad_addresses(text: str, message: str) -> None:
    assert refusal(text) == f"{message} (flags-1.hcl:1:1)"


@pytest.mark.parametrize("name", ["dns", "http", "https"])
def test_bad_addresses_of_doors(name: str) -> None:
    assert refusal(f'addresses {{ {name} = "host" }}') == f"addresses.{name}: invalid ip address: host (flags-1.hcl:1:13)"


def test_dns_takes_no_socket_in_the_file_system() -> None:
    assert refusal('addresses { dns = "unix:///x" }') == "addresses.dns cannot be a unix socket (flags-1.hcl:1:13)"


def test_a_bad_address_hides_no_other_fault() -> None:
    message = refusal('bind_addr = "here" client_addr = "there" ports { http = 70000 }', base=DATA)
    assert message.startswith("3 errors occurred:\n")
    for fault in ("bind_addr cannot be empty", "client_addr: invalid ip address: there", "ports.http: invalid port: 70000"):
        assert fault in message


def test_doors_open_at_the_client_addresses_unless_told_otherwise() -> None:
    found = options('client_addr = "127.0.0.2 {{ GetPrivateIP }}" addresses { http = "unix:///run/d 127.0.0.3" https = "" }')
    assert found.client_addr == ("127.0.0.2", "10.0.0.7")
    assert found.addresses.dns == ("127.0.0.2", "10.0.0.7")
    assert found.addresses.http == ("unix:///run/d", "127.0.0.3")
    assert found.addresses.https == ("127.0.0.2", "10.0.0.7")


def test_without_client_addresses_no_door_opens() -> None:
    assert options('client_addr = ""').addresses.http == ()
    assert loaded(DATA, 'client_addr = ""').warnings == (
        "client_addr is empty, client services (DNS, HTTP, HTTPS, GRPC) will not be listening for connections",
    )


def test_templates_in_every_address_key() -> None:
    ip = "{{ GetPrivateIP }}"
    found = loaded(
        f'''
        data_dir = "/d"
        bind_addr = "{ip}" advertise_addr = "{ip}" advertise_addr_wan = "{ip}" serf_lan = "{ip}" serf_wan = "{ip}"
        client_addr = "{ip}" recursors = ["{ip}"] retry_join = ["{ip}"] start_join = ["{ip}"]
        retry_join_wan = ["{ip}"] start_join_wan = ["{ip}"] addresses {{ dns = "{ip}" http = "{ip}" https = "{ip}" }}
        '''
    ).options
    for key in ("bind_addr", "advertise_addr", "advertise_addr_wan", "serf_lan", "serf_wan"):
        assert getattr(found, key) == "10.0.0.7"
    for key in ("client_addr", "recursors", "retry_join", "start_join", "retry_join_wan", "start_join_wan"):
        assert getattr(found, key) == ("10.0.0.7",)
    assert found.addresses.dns == found.addresses.http == found.addresses.https == ("10.0.0.7",)


def test_a_template_that_finds_nothing_leaves_the_key_unset() -> None:
    found = options(r'advertise_addr = "{{ GetInterfaceIP \"no\" }}" retry_join = ["{{ GetInterfaceIP \"no\" }}", " a "]')
    assert (found.advertise_addr, found.retry_join) == ("127.0.0.1", ("a",))


def test_a_template_may_find_several_hosts() -> None:
    text = r'retry_join = ["{{ GetAllInterfaces | include \"name\" \"eth0\" | join \"address\" \" \" }}", "host:8301"]'
    assert options(text).retry_join == ("10.0.0.7", "2600::7", "host:8301")


def test_recursors_are_taken_once_each_in_order() -> None:
    found = options('recursors = ["8.8.4.4:53", "8.8.8.8", "8.8.4.4:53", "::1", "[::1]:5353"]').recursors
    assert found == ("8.8.4.4:53", "8.8.8.8", "::1", "[::1]:5353")


def test_tagged_addresses() -> None:
    found = options(
        """
        advertise_addr = "10.0.0.1" advertise_addr_wan = "2600::1"
        advertise_addr_ipv6 = "fd00::1" advertise_addr_wan_ipv4 = "1.2.3.4"
        tagged_addresses { lan = "9.9.9.9" vpn = "10.9.0.1" }
        """
    )
    assert found.tagged_addresses == {
        "lan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "lan_ipv6": "fd00::1",
        "wan": "2600::1", "wan_ipv4": "1.2.3.4", "wan_ipv6": "2600::1",
        "vpn": "10.9.0.1",
    }  # fmt: skip


def test_gossip_listens_where_rpc_does_unless_told_otherwise() -> None:
    assert (options().serf_lan, options().serf_wan) == ("127.0.0.1", "127.0.0.1")
    found = options('serf_lan = "127.0.0.2" serf_wan = "127.0.0.3"')
    assert (found.bind_addr, found.serf_lan, found.serf_wan) == ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def test_this_machine_has_its_loopback_interface() -> None:
    found = [one for one in system_interfaces() if one.loopback]
    assert "127.0.0.1" in [str(one.address) for one in found]
    assert all(one.up and one.private and not one.forwardable for one in found)

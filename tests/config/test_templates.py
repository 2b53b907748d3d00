"""Address templates, on a machine with several interfaces. What is found, and in which order, is what go-sockaddr gives there."""

import pytest

from discovery.config.interfaces import InterfaceAddress
from discovery.config.templates import BadTemplate, expand

from .rig import LOOPBACK, interface

MACHINE = [
    *LOOPBACK,
    interface("d1", "8.8.8.8/24", default=True),
    interface("d1", "172.16.5.5/12", default=True),
    interface("d1", "100.64.3.3/10", default=True),
    interface("d1", "192.0.2.9/24", default=True),
    interface("d1", "2600::7/64", default=True),
    interface("d1", "fe80::1/64", default=True),
    interface("d0", "10.1.2.3/24"),
    interface("d0", "192.168.7.7/16"),
    interface("d0", "fd00::5/64"),
    interface("d2", "10.9.9.9/24", up=False),
]


def expanded(text: str, interfaces: list[InterfaceAddress] = MACHINE) -> str:
    return expand(text, lambda: interfaces)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("GetPrivateIP", "100.64.3.3"),
        ("GetPublicIP", "8.8.8.8"),
        ("GetPrivateIPs", "100.64.3.3 172.16.5.5 192.168.7.7 10.1.2.3 fd00::5"),
        ("GetPublicIPs", "8.8.8.8 2600::7"),
        ('GetInterfaceIP "d0"', "192.168.7.7"),
        ('GetInterfaceIP "d1"', "100.64.3.3"),
        ("GetInterfaceIP `d0`", "192.168.7.7"),
        ('GetInterfaceIP "lo"', ""),
        ('GetInterfaceIP "d2"', ""),
        ('GetInterfaceIP "nope"', ""),
        ('GetInterfaceIPs "d0"', "192.168.7.7 10.1.2.3 fd00::5"),
        ('GetInterfaceIPs "lo"', "127.0.0.1 ::1"),
        ('GetAllInterfaces | attr "address"', "127.0.0.1"),
        ('GetAllInterfaces | attr "name"', "lo"),
        ('GetAllInterfaces | attr "network"', "127.0.0.0"),
        ('GetAllInterfaces | attr "size"', "8"),
        ('GetDefaultInterfaces | attr "address"', "8.8.8.8"),
        ('GetDefaultInterfaces | join "address" ","', "8.8.8.8,172.16.5.5,100.64.3.3,192.0.2.9,2600::7,fe80::1"),
        ('GetPrivateInterfaces | join "address" " "', "100.64.3.3 172.16.5.5 192.168.7.7 10.1.2.3 fd00::5"),
        ('GetPublicInterfaces | join "address" " "', "8.8.8.8 2600::7"),
        ('GetPrivateInterfaces | include "network" "10.0.0.0/8" | attr "address"', "10.1.2.3"),
        ('GetPrivateInterfaces | exclude "network" "100.64.0.0/10|172.16.0.0/12" | attr "address"', "192.168.7.7"),
        ('GetAllInterfaces | include "name" "^d0$|^lo$" | join "address" " "', "127.0.0.1 ::1 10.1.2.3 192.168.7.7 fd00::5"),
        ('GetAllInterfaces | exclude "name" "^d" | join "address" " "', "127.0.0.1 ::1"),
        ('GetAllInterfaces | include "address" "^10[.]" | join "address" " "', "10.1.2.3 10.9.9.9"),
        ('GetAllInterfaces | include "name" "d0" | include "type" "ipv4" | join "address" " "', "10.1.2.3 192.168.7.7"),
        ('GetAllInterfaces | include "name" "d0" | include "type" "IPv6" | join "address" " "', "fd00::5"),
        (
            'GetAllInterfaces | include "name" "d0" | include "type" "ipv6|ipv4" | join "address" " "',
            "10.1.2.3 192.168.7.7 fd00::5",
        ),
        ('GetAllInterfaces | include "type" "unix" | join "address" " "', ""),
        ('GetAllInterfaces | include "flags" "loopback" | join "address" " "', "127.0.0.1 ::1"),
        ('GetAllInterfaces | include "flags" "loopback|down" | join "address" " "', "127.0.0.1 ::1 10.9.9.9"),
        ('GetAllInterfaces | include "flag" "link-local unicast" | join "address" " "', "fe80::1"),
        ('GetAllInterfaces | exclude "flags" "global unicast" | join "address" " "', "127.0.0.1 ::1 fe80::1"),
        (
            'GetAllInterfaces | include "flags" "forwardable" | exclude "name" "d2" | join "address" " "',
            "8.8.8.8 172.16.5.5 100.64.3.3 2600::7 10.1.2.3 192.168.7.7 fd00::5",
        ),
        ('GetAllInterfaces | include "rfc" "1918" | join "address" " "', "172.16.5.5 10.1.2.3 192.168.7.7 10.9.9.9"),
        ('GetAllInterfaces | include "rfc" "4193" | join "address" " "', "fd00::5"),
        ('GetAllInterfaces | include "rfc" "6598|5737" | join "address" " "', "100.64.3.3 192.0.2.9"),
        ('GetAllInterfaces | exclude "RFC" "6890" | join "address" " "', "8.8.8.8 2600::7"),
        ('GetAllInterfaces | include "size" "24" | join "address" " "', "8.8.8.8 192.0.2.9 10.1.2.3 10.9.9.9"),
        ('GetAllInterfaces | include "size" "8|12" | join "address" " "', "127.0.0.1 172.16.5.5"),
        ('GetAllInterfaces | include "name" "d0" | sort "address" | join "address" " "', "10.1.2.3 192.168.7.7 fd00::5"),
        ('GetAllInterfaces | include "name" "d0" | sort "-address" | join "address" " "', "fd00::5 192.168.7.7 10.1.2.3"),
        ('GetAllInterfaces | include "name" "d0" | sort "type,size" | join "address" " "', "192.168.7.7 10.1.2.3 fd00::5"),
        ('GetAllInterfaces | include "name" "d0" | sort "-size" | join "address" " "', "fd00::5 10.1.2.3 192.168.7.7"),
        ('GetAllInterfaces | sort "name,address" | limit 2 | join "address" " "', "10.1.2.3 192.168.7.7"),
        ('GetAllInterfaces | sort "default,+address" | attr "address"', "8.8.8.8"),
        ('GetAllInterfaces | sort "private" | offset -2 | join "address" " "', "8.8.8.8 2600::7"),
        ('GetAllInterfaces | limit 1 | join "address" " "', "127.0.0.1"),
        ('GetAllInterfaces | limit 0 | attr "address"', ""),
        ('GetAllInterfaces | offset 2 | attr "address"', "8.8.8.8"),
        ('GetAllInterfaces | offset 99 | attr "address"', ""),
        ('GetAllInterfaces | unique "name" | join "name" " "', "lo d1 d0 d2"),
        ('GetAllInterfaces | include "name" "d0" | join "network" " "', "10.1.2.0 192.168.0.0 fd00::"),
        ('GetAllInterfaces | include "name" "d0" | math "address" "+1" | join "address" " "', "10.1.2.4 192.168.7.8 fd00::6"),
        ('GetAllInterfaces | include "name" "d0" | math "network" "+1" | attr "address"', "10.1.2.1"),
        ('GetAllInterfaces | include "name" "d0" | math "network" "-1" | attr "address"', "10.1.2.254"),
    ],
)
def test_what_is_found(template: str, found: str) -> None:
    assert expanded(f"{{{{ {template} }}}}") == found
    assert expanded(f"{{{{{template}}}}}") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1", "10.0.0.1"),
        (" 10.0.0.1\n", "10.0.0.1"),
        ("", ""),
        ('a {{ GetInterfaceIP "d0" }} b', "a 192.168.7.7 b"),
        ('a {{- GetInterfaceIP "d0" }} b', "a192.168.7.7 b"),
        ('a {{ GetInterfaceIP "d0" -}} b', "a 192.168.7.7b"),
        ('{{ GetInterfaceIP "d0" }}:8301 {{ GetPublicIP }}', "192.168.7.7:8301 8.8.8.8"),
        ('[{{\nGetInterfaceIP\t"d0"\n}}]', "[192.168.7.7]"),
        ('{{ GetAllInterfaces | include "name" "d0" | join "address" "|" }}', "10.1.2.3|192.168.7.7|fd00::5"),
    ],
)
def test_templates_within_text(text: str, found: str) -> None:
    assert expanded(text) == found


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("", "a template must not be empty, nor a part between two |"),
        ("GetAllInterfaces | ", "a template must not be empty, nor a part between two |"),
        ("GetPrivateIp", "unknown function GetPrivateIp; there are GetAllInterfaces, "),
        ('env "HOME"', "unknown function env; "),
        ('GetPrivateIP "x"', "GetPrivateIP takes nothing"),
        ("GetInterfaceIP", "GetInterfaceIP takes the name of one interface"),
        ("GetAllInterfaces", '{{ GetAllInterfaces }} yields interfaces, not addresses; end it with | attr "address"'),
        ("GetPrivateIP | limit 1", "limit follows what is text already in {{ GetPrivateIP | limit 1 }}"),
        ("GetAllInterfaces | foo", "foo is not understood; there are include and exclude"),
        ('GetAllInterfaces | limit "x"', "limit x is not understood; "),
        ('GetAllInterfaces | attr "mtu"', "attr mtu is not understood; "),
        ('GetAllInterfaces | unique "mtu"', "unique mtu is not understood; "),
        ('GetAllInterfaces | math "address" "1"', "math address 1 is not understood; "),
        ('GetAllInterfaces | include "name" "["', '"[" is no regular expression: '),
        ('GetAllInterfaces | include "network" "foo"', "'foo' does not appear to be an IPv4 or IPv6 network"),
        ('GetAllInterfaces | include "flags" "wet"', 'unknown flag "wet"; there are up, down, '),
        ('GetAllInterfaces | include "color" "red"', 'can\'t select by "color"; there are name, '),
        ('GetAllInterfaces | include "rfc" "1"', "unknown RFC 1; there are 1918, "),
        ('GetAllInterfaces | sort "color" | attr "address"', 'can\'t sort by "color"; there are default, '),
        ('GetAllInterfaces | math "address" "-2130706434"', "math leads from 127.0.0.1 to no address: "),
    ],
)
def test_faults(template: str, fault: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        expanded(f"{{{{ {template} }}}}")
    assert str(caught.value).startswith(fault)

"""Address keys: their templates filled in, and every result checked to be what the key takes.

Source: Consul documentation (agent configuration: address keys and go-sockaddr templates).
"""

import ipaddress
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from .decode import Settings
from .faults import Faults
from .interfaces import InterfaceAddress, system_interfaces
from .templates import BadTemplate, expand

UNIX: Final = "unix://"
_TEMPLATE: Final = "{{"


class Resolver:
    """Reads address keys out of the merged settings; what is wrong goes to `faults`."""

    def __init__(
        self, settings: Settings, faults: Faults, interfaces: Callable[[], list[InterfaceAddress]] = system_interfaces
    ) -> None:
        self._settings = settings
        self._faults = faults
        self.interfaces = cache(interfaces)

    def words(self, key: str, default: str) -> list[str]:
        """What `key` has, whatever it is, its templates filled in."""
        value = self._settings[key].value if key in self._settings else default
        assert isinstance(value, str)
        return self._fill_in(key, value).split()

    def address(self, key: str) -> str:
        """The single IP address of `key`; empty if it is not set or its template finds none."""
        found = self.words(key, "")
        if not found:
            return ""
        if len(found) > 1:
            self._fault(key, f": multiple addresses found: {' '.join(found)}")
        elif found[0].startswith(UNIX):
            self._fault(key, " cannot be a unix socket")
        elif not is_ip(found[0]):
            self._fault(key, f": invalid ip address: {found[0]}")
        else:
            return plain_ip(found[0])
        return ""

    def addresses(self, key: str, default: tuple[str, ...], *, unix: bool = False) -> tuple[str, ...]:
        """All addresses of `key`, in order and once each; with `unix`, sockets in the file system as well."""
        if key not in self._settings:
            return default
        found = []
        for text in self.words(key, ""):
            if text.startswith(UNIX):
                if unix:
                    found.append(text)
                else:
                    self._fault(key, " cannot be a unix socket")
            elif is_ip(text):
                found.append(plain_ip(text))
            else:
                self._fault(key, f": invalid ip address: {text}")
        return tuple(dict.fromkeys(found))

    def hosts(self, key: str) -> tuple[str, ...]:
        """A list of hosts. Only what a template yields is split: other entries may hold spaces."""
        return tuple(host for text in self._listed(key) for host in self._host_texts(key, text))

    def _host_texts(self, key: str, text: str) -> Iterator[str]:
        if _TEMPLATE in text:
            yield from self._fill_in(key, text).split()
        elif text.strip():
            yield text.strip()

    def _listed(self, key: str) -> list[str]:
        value = self._settings[key].value if key in self._settings else []
        assert isinstance(value, list)
        return value

    def _fill_in(self, key: str, text: str) -> str:
        try:
            return expand(text, self.interfaces)
        except (BadTemplate, OSError) as error:
            self._fault(key, f': error parsing "{text}": {error}')
            return ""

    def _fault(self, key: str, text: str) -> None:
        self._faults.add(key + text, key)


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(plain_ip(text))
    except ValueError:
        return False
    return True


def plain_ip(text: str) -> str:
    """Without the brackets that IPv6 addresses may stand in."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def is_any(address: str) -> bool:
    """Whether it means every interface."""
    return is_ip(address) and ipaddress.ip_address(plain_ip(address)).is_unspecified

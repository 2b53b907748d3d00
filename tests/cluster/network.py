"""Agents on a network of their own: a namespace each, joined by a bridge, with cuts between any two of them.

The calling thread moves into the bridge's namespace for as long as the network is in use, so that what it starts and asks is
on that network too. Nothing leaves the machine.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence

CLONE_NEWNET = 0x40000000
_NETWORK = "10.77.0"
_HUB = "discovery-hub"
_libc = ctypes.CDLL(None, use_errno=True)


def permitted() -> bool:
    """Whether this machine lets us make namespaces."""
    try:
        _ip("netns", "add", "discovery-probe")
        _ip("netns", "del", "discovery-probe")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _ip(*words: str, inside: str = "") -> None:
    command = ["ip", *(("-n", inside) if inside else ()), *words]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


class Network:
    """`addresses[i]` belongs to the host behind `prefix(i)`."""

    def __init__(self, size: int) -> None:
        self.addresses = [f"{_NETWORK}.{number}" for number in range(1, size + 1)]
        self._cuts: list[tuple[int, int]] = []

    def prefix(self, host: int) -> list[str]:
        """What a command begins with to run on a host."""
        return ["ip", "netns", "exec", _name(host)]

    def cut(self, sources: Sequence[int], targets: Sequence[int], *, both_ways: bool = True) -> None:
        """Let nothing pass from any of `sources` to any of `targets`, nor back if `both_ways`."""
        pairs = [(source, target) for source in sources for target in targets]
        if both_ways:
            pairs += [(target, source) for source, target in pairs]
        for source, target in pairs:
            _ip("route", "add", "blackhole", f"{self.addresses[target]}/32", inside=_name(source))
            self._cuts.append((source, target))

    def heal(self) -> None:
        """Undo all cuts."""
        for source, target in self._cuts:
            _ip("route", "del", "blackhole", f"{self.addresses[target]}/32", inside=_name(source))
        self._cuts.clear()

    def build(self) -> None:
        _ip("netns", "add", _HUB)
        _ip("link", "add", "bridge0", "type", "bridge", inside=_HUB)
        _ip("addr", "add", f"{_NETWORK}.254/24", "dev", "bridge0", inside=_HUB)
        _ip("link", "set", "bridge0", "up", inside=_HUB)
        _ip("link", "set", "lo", "up", inside=_HUB)
        for host, address in enumerate(self.addresses):
            self._add_host(_name(host), f"port{host}", address)

    def _add_host(self, name: str, port: str, address: str) -> None:
        _ip("netns", "add", name)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name, inside=_HUB)
        _ip("link", "set", port, "master", "bridge0", inside=_HUB)
        _ip("link", "set", port, "up", inside=_HUB)
        _ip("addr", "add", f"{address}/24", "dev", "eth0", inside=name)
        _ip("link", "set", "eth0", "up", inside=name)
        _ip("link", "set", "lo", "up", inside=name)

    def destroy(self) -> None:
        for name in (*(_name(host) for host in range(len(self.addresses))), _HUB):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


def _name(host: int) -> str:
    return f"discovery-host{host}"


@contextlib.contextmanager
def network(size: int) -> Iterator[Network]:
    """A network of `size` hosts, with the calling thread on it."""
    made = Network(size)
    made.destroy()
    try:
        made.build()
        with _moved_into(_HUB):
            yield made
    finally:
        made.destroy()


@contextlib.contextmanager
def _moved_into(namespace: str) -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(os.open(f"/run/netns/{namespace}", os.O_RDONLY), close=True)
        yield
    finally:
        _enter(home, close=True)


def _enter(descriptor: int, *, close: bool) -> None:
    result = _libc.setns(descriptor, CLONE_NEWNET)
    error = ctypes.get_errno()
    if close:
        os.close(descriptor)
    if result != 0:
        raise OSError(error, os.strerror(error))

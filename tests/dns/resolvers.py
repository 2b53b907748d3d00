"""Real resolvers that forward the zone `consul` to an agent, each as a process of its own on some port of 127.0.0.1.

BIND listens on no other loopback address, since it asks the interface for its addresses.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import dns.exception
import dns.message
import dns.query

HOST = "127.0.0.1"
PATIENCE = 20.0


def free_port() -> int:
    """One that is free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((HOST, 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind((HOST, port))
            except OSError:
                continue
            return port


class Resolver:
    """`program` is looked for on the path and where Debian puts daemons; `agent` is the address of the agent's DNS port."""

    program: ClassVar[str]
    package: ClassVar[str]
    address: ClassVar[str] = HOST
    most_srv: ClassVar[int] = 65535
    """SRV records that it can pass on in one answer."""

    def __init__(self, folder: Path, agent: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.agent_host, _, self.agent_port = agent.partition(":")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def path(cls) -> str | None:
        return shutil.which(cls.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        self._await_answers()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _await_answers(self) -> None:
        """Until it answers anything at all."""
        query = dns.message.make_query("version.bind.", "TXT", "CH")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.program} ended:\n{self.log()}"
            try:
                dns.query.udp(query, self.address, 0.5, self.port)
                return
            except (dns.exception.Timeout, OSError):
                time.sleep(0.05)
        raise AssertionError(f"{self.program} does not answer:\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


class Dnsmasq(Resolver):
    program = "dnsmasq"
    package = "dnsmasq-base"

    def command(self) -> list[str]:
        upstream = f"{self.agent_host}#{self.agent_port}"
        return [
            *(self.path() or "", "--keep-in-foreground", "--user=root", "--conf-file=/dev/null", "--pid-file="),
            *("--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={self.address}", f"--port={self.port}"),
            *(f"--server=/consul/{upstream}", f"--rev-server=10.0.0.0/8,{upstream}", "--log-facility=-"),
        ]


class Unbound(Resolver):
    program = "unbound"
    package = "unbound"

    def command(self) -> list[str]:
        config = f"""
server:
    interface: {self.address}
    port: {self.port}
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    use-syslog: no
    logfile: ""
    username: ""
    chroot: ""
    directory: "{self.folder}"
    pidfile: ""
    do-not-query-localhost: no
    use-caps-for-id: yes
    module-config: "iterator"
    unblock-lan-zones: yes
    insecure-lan-zones: yes
    infra-host-ttl: 1
remote-control:
    control-enable: no
forward-zone:
    name: "consul"
    forward-addr: {self.agent_host}@{self.agent_port}
forward-zone:
    name: "10.in-addr.arpa"
    forward-addr: {self.agent_host}@{self.agent_port}
"""
        return [self.path() or "", "-d", "-c", self._write("unbound.conf", config)]


class Bind(Resolver):
    program = "named"
    package = "bind9"

    def command(self) -> list[str]:
        forward = f"type forward; forward only; forwarders {{ {self.agent_host} port {self.agent_port}; }};"
        config = f"""
options {{
    directory "{self.folder}";
    listen-on port {self.port} {{ {self.address}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile "{self.folder}/session.key";
    recursion yes;
    allow-query {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    max-records-per-type 0;
}};
controls {{ }};
zone "consul" {{ {forward} }};
zone "10.in-addr.arpa" {{ {forward} }};
"""
        return [self.path() or "", "-g", "-n", "1", "-c", self._write("named.conf", config)]


class SystemdResolved(Resolver):
    """Reads its configuration from one place only and wants a network, so that it gets a world of its own (`isolated`)."""

    program = "systemd-resolved"
    package = "systemd-resolved"
    most_srv = 100
    """It fails to compose answers in which names repeat behind the reach of compression pointers (16 KiB)."""

    @classmethod
    def path(cls) -> str | None:
        return os.environ.get("SYSTEMD_RESOLVED") or shutil.which(cls.program, path="/lib/systemd:/usr/lib/systemd")

    def command(self) -> list[str]:
        config = f"""
[Resolve]
DNS={self.agent_host}:{self.agent_port}
Domains=~consul ~10.in-addr.arpa
DNSSEC=no
LLMNR=no
MulticastDNS=no
DNSStubListener=no
DNSStubListenerExtra={self.address}:{self.port}
"""
        self._write("resolved.conf", config)
        self.folder.chmod(0o755)
        user = "systemd-resolve:x:61999:61999::/:/usr/sbin/nologin"
        passwd = self._write("passwd", f"{Path('/etc/passwd').read_text()}{user}\n")
        prepare = (
            f"mount --bind {passwd} /etc/passwd",
            f"mount --bind {self.folder} /etc/systemd",
            "mount -t tmpfs tmpfs /run",
            "mkdir -p /run/systemd",
            "ip link add here type veth peer name there",
            "ip address add 192.0.2.1/24 dev here",
            "ip link set there up",
            "ip link set here up",
            "ip route add default via 192.0.2.254",
        )
        return ["sh", "-c", f"{' && '.join(prepare)} && exec {self.path()}"]


ISOLATED = "TEST_RESOLVERS_ISOLATED"
"""Set in the environment of tests that run in namespaces of their own."""


def isolated(test_file: str) -> list[str]:
    """A command that runs a file of tests with systemd-resolved, in namespaces of its own for network and mounts."""
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test_file]
    return ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *tests]


RESOLVERS: dict[str, type[Resolver]] = {kind.program: kind for kind in (Dnsmasq, Unbound, Bind)}
if os.environ.get(ISOLATED):
    RESOLVERS = {SystemdResolved.program: SystemdResolved}

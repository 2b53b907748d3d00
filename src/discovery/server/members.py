"""What gossip tags say of a server: Consul's conventions for the tags of the LAN pool.

Source: tags that Consul agents send (role, dc, id, port, bootstrap, expect, vsn, raft_vsn, build).
"""

from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

ALIVE, LEAVING, LEFT, FAILED = 1, 2, 3, 4
STATUS_NAMES: Final = {ALIVE: "alive", LEAVING: "leaving", LEFT: "left", FAILED: "failed"}


class Member(Protocol):
    """A gossip member; `status` is Serf's number."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def status(self) -> int: ...


class ServerMember(msgspec.Struct, frozen=True):
    """A member that is a server of some datacenter."""

    name: str
    id: str
    datacenter: str
    host: str
    port: int
    """The server port, where RPC and Raft are spoken."""
    expect: int
    bootstrap: bool
    voter: bool
    build: str
    status: int

    @property
    def rpc_address(self) -> str:
        return join_host_port(self.host, self.port)


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_server(member: Member) -> ServerMember | None:
    """The server behind a member, or None for clients and for tags that make no sense."""
    tags = member.tags
    if tags.get("role") != "consul":
        return None
    try:
        port, expect = int(tags["port"]), int(tags.get("expect", "0"))
        int(tags["vsn"])
    except (KeyError, ValueError):
        return None
    return ServerMember(
        name=member.name,
        id=tags.get("id", ""),
        datacenter=tags.get("dc", ""),
        host=member.address,
        port=port,
        expect=expect,
        bootstrap=tags.get("bootstrap") == "1",
        voter=tags.get("nonvoter") != "1" and tags.get("read_replica") != "1",
        build=tags.get("build", "").partition(":")[0],
        status=int(member.status),
    )


def servers_of(members: Iterable[Member], datacenter: str) -> list[ServerMember]:
    """The servers of `datacenter` among `members`, whatever their status."""
    found = (as_server(member) for member in members)
    return [server for server in found if server is not None and server.datacenter == datacenter]

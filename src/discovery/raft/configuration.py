"""One-at-a-time membership changes: a configuration and a change go in, the next configuration comes out.

Neighbouring configurations differ by one voter at most, so that any two of their majorities share a server
(Raft dissertation, section 4.1). Joint consensus (4.3), which may exchange several voters at once, is left out on purpose:
Consul offers nothing but single steps, and what it adds to every count of votes and entries would have to be trusted too. The
price is that the exchange of a voter passes through an even number of them: add the new one first, then remove the old.
"""

from __future__ import annotations

import enum

import msgspec

from .errors import ConfigurationRefused
from .messages import Configuration, Server


class ChangeKind(enum.IntEnum):
    ADD_VOTER = 0
    ADD_NONVOTER = 1
    DEMOTE_VOTER = 2
    REMOVE_SERVER = 3


class ConfigurationChange(msgspec.Struct, frozen=True):
    """`address` matters only when a server is added; adding a known one updates its address."""

    kind: ChangeKind
    server_id: str
    address: str = ""


def change_configuration(current: Configuration, change: ConfigurationChange) -> Configuration:
    """The next configuration; equal to `current` when there is nothing to do (removing or demoting a stranger).

    Adding a voter as a non-voter only updates its address. Raises ConfigurationRefused.
    """
    known = current.get(change.server_id)
    others = tuple(server for server in current.servers if server.id != change.server_id)
    match change.kind:
        case ChangeKind.ADD_VOTER:
            servers = _replaced(current, Server(change.server_id, change.address, voter=True))
        case ChangeKind.ADD_NONVOTER:
            voter = known is not None and known.voter
            servers = _replaced(current, Server(change.server_id, change.address, voter=voter))
        case ChangeKind.DEMOTE_VOTER if known is not None:
            servers = _replaced(current, Server(known.id, known.address, voter=False))
        case ChangeKind.REMOVE_SERVER:
            servers = others
        case _:
            return current
    following = Configuration(servers)
    check_configuration(following)
    return following


def check_configuration(configuration: Configuration) -> None:
    """Raises ConfigurationRefused unless there is a voter and every id and address is given and unique."""
    ids = [server.id for server in configuration.servers]
    addresses = [server.address for server in configuration.servers]
    if not configuration.voters():
        raise ConfigurationRefused("a configuration needs at least one voter")
    if not all(ids) or len(set(ids)) != len(ids):
        raise ConfigurationRefused(f"server ids must be given and unique: {ids}")
    if not all(addresses) or len(set(addresses)) != len(addresses):
        raise ConfigurationRefused(f"server addresses must be given and unique: {addresses}")


def _replaced(current: Configuration, server: Server) -> tuple[Server, ...]:
    if current.get(server.id) is None:
        return (*current.servers, server)
    return tuple(server if known.id == server.id else known for known in current.servers)

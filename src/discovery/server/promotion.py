"""Who votes: autopilot's decisions, as a function of what is known about the servers.

Without redundancy zones every stable server votes. With them each zone has one voter and the others of the zone stand by: when
the voter fails a standby takes its place; when a whole zone fails one more of another zone votes, so that the number of votes
stays what it was. Votes are given before they are taken away. Source: Consul's documentation of autopilot and redundancy zones.
"""

from collections.abc import Iterable, Sequence

import msgspec

from .members import ALIVE


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the Raft configuration as the leader knows it."""

    id: str
    name: str = ""
    voter: bool = False
    leader: bool = False
    may_vote: bool = True
    """False for read replicas, and for servers that gossip does not know."""
    healthy: bool = False
    stable: bool = False
    """Healthy for as long as it takes to be trusted with a vote."""
    dead: bool = False
    """Failed or unknown in gossip, and silent in Raft."""
    zone: str = ""


class Decision(msgspec.Struct, frozen=True):
    """Ids, in the order in which to proceed: votes given, votes taken, servers removed."""

    promote: tuple[str, ...] = ()
    demote: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    refusal: str = ""
    """Why dead servers are not removed."""


def decide(servers: Sequence[Candidate], *, zones: bool, cleanup: bool, min_quorum: int) -> Decision:
    """What to change now."""
    wanted = _zone_voters(servers) if zones else {server.id for server in servers if server.may_vote}
    promote = [server.id for server in servers if server.id in wanted and not server.voter and server.stable]
    demote = [server.id for server in servers if server.voter and server.id not in wanted and not server.leader]
    if zones and promote:
        # First the replacement votes, in the next pass what it replaces no longer does.
        demote = []
    remove, refusal = _removable(servers, min_quorum) if cleanup else ([], "")
    remaining = [server_id for server_id in demote if server_id not in remove]
    return Decision(tuple(promote), tuple(remaining), tuple(remove), refusal)


def _removable(servers: Sequence[Candidate], min_quorum: int) -> tuple[list[str], str]:
    """The dead, if they are few enough: losing a minority of the votes loses no entry, and `min_quorum` votes have to stay."""
    dead = [server for server in servers if server.dead]
    voters = sum(server.voter for server in servers)
    dead_voters = sum(server.voter for server in dead)
    if dead_voters > (voters - 1) // 2:
        return [], f"{dead_voters} of {voters} voters are dead, removing a majority is not safe"
    if dead_voters and voters - dead_voters < min_quorum:
        return [], f"{voters - dead_voters} voters would be left, min_quorum is {min_quorum}"
    return [server.id for server in dead], ""


def _zone_voters(servers: Sequence[Candidate]) -> set[str]:
    """Ids of those that should vote. A zone whose servers are all dead keeps its vote until another zone can give one."""
    chosen = {server.id for server in servers if server.may_vote and not server.zone}
    members: dict[str, list[Candidate]] = {}
    for server in servers:
        if server.may_vote and server.zone:
            members.setdefault(server.zone, []).append(server)
    lost: list[Candidate] = []
    standing_by: list[Candidate] = []
    for zone in sorted(members):
        best, *others = sorted(members[zone], key=_rank)
        if best.dead:
            lost.append(best)
        else:
            chosen.add(best.id)
        standing_by += filter(_serves, others)
    extra = sorted(standing_by, key=_rank)[: len(lost)]
    return chosen | {server.id for server in extra} | {server.id for server in lost[len(extra) :]}


def _serves(server: Candidate) -> bool:
    """A vote that was given is not taken away for a bad moment."""
    return not server.dead if server.voter else server.stable


def _rank(server: Candidate) -> tuple[bool, bool, bool, str]:
    """Best first: those that serve, among them those that vote already, the leader before all."""
    return not _serves(server), not server.leader, not server.voter, server.id


def failure_tolerance(servers: Iterable[Candidate]) -> int:
    """How many healthy voters may fail at once without loss of the majority."""
    voters = [server for server in servers if server.voter]
    healthy = sum(server.healthy for server in voters)
    return max(0, healthy - (len(voters) // 2 + 1))


def optimistic_failure_tolerance(servers: Sequence[Candidate]) -> int:
    """As `failure_tolerance`, if there is always time for a standby to take over."""
    voters = sum(server.voter for server in servers)
    able = sum(server.healthy and server.may_vote for server in servers)
    return max(0, able - (voters // 2 + 1))


def is_dead(status: int | None, silence: float, limit: float) -> bool:
    """`status` is gossip's, None if it does not know the server; `silence` is seconds since Raft heard from it."""
    return status != ALIVE and silence > limit

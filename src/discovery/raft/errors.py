"""What a caller of the core may meet."""

from __future__ import annotations


class RaftError(Exception):
    """Base of every error a correct caller may meet."""


class NotLeader(RaftError):
    """Only the leader can do this; `leader_id` names it when known. The request surely left no trace here."""

    def __init__(self, leader_id: str | None) -> None:
        super().__init__(f"not the leader (leader: {leader_id or 'unknown'})")
        self.leader_id = leader_id


class ProposalRefused(RaftError):
    """The leader surely did not take the proposal; it may be tried again later."""


class ConfigurationRefused(RaftError):
    """The membership change is not acceptable, now (another is pending) or ever (it would leave no voter)."""


class TransferRefused(RaftError):
    """Leadership cannot go to this target."""


class AlreadyBootstrapped(RaftError):
    """Bootstrap was asked of a server that has a past."""


class MalformedMessage(RaftError):
    """A peer sent what no correct server sends; the connection deserves to be closed."""


class InvariantViolated(AssertionError):
    """The protocol's own promises are broken: stop this server, do not carry on."""

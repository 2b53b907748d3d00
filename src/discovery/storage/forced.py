"""Replacing the configuration of a cluster that has lost its majority: a last entry that nobody voted for.

Nothing that is stored is altered. The configuration is put behind the last entry of the log, where it is in force at once, in a
term far above any that the lost servers may have used. Logs that are treated so keep their order: who had more still has, and
so Raft itself settles what becomes of entries that only some of the survivors have.
"""

from __future__ import annotations

from discovery.raft.configuration import check_configuration
from discovery.raft.messages import Configuration, Entry, EntryKind, HardState, decode_configuration, encode_configuration

from .log import LogStore
from .recovery import Recovered

TERM_GAP = 1000
"""Elections that servers which count as lost may have held among themselves."""


def latest_configuration(recovered: Recovered) -> Configuration:
    """The one in force, empty if the server was never part of a cluster."""
    for entry in reversed(recovered.entries):
        if entry.kind is EntryKind.CONFIGURATION:
            return decode_configuration(entry.data)
    return recovered.snapshot.configuration if recovered.snapshot is not None else Configuration()


def last_entry(recovered: Recovered) -> tuple[int, int]:
    """(term, index), the order in which Raft compares logs."""
    if recovered.entries:
        return recovered.entries[-1].term, recovered.entries[-1].index
    return (recovered.snapshot.term, recovered.snapshot.index) if recovered.snapshot is not None else (0, 0)


def force_configuration(log: LogStore, recovered: Recovered, configuration: Configuration) -> None:
    """Makes `configuration` the one in force; again has no effect. Raises ConfigurationRefused, StorageFailed."""
    check_configuration(configuration)
    data = encode_configuration(configuration)
    if recovered.entries and recovered.entries[-1].kind is EntryKind.CONFIGURATION and recovered.entries[-1].data == data:
        return
    last_term, last_index = last_entry(recovered)
    term = last_term + TERM_GAP
    hard_state = recovered.hard_state
    if hard_state.term < term:
        hard_state = HardState(term, "")
    log.append([Entry(last_index + 1, term, EntryKind.CONFIGURATION, data)], hard_state)

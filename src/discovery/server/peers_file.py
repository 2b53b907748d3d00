"""`peers.json`: an operator's list of the servers that are to go on after most of them were lost for good.

It is put into the Raft directory of every stopped server that remains; each takes it over when it starts, and deletes it.
Source: Consul's documentation of outage recovery: the formats, `peers.info`, and that a file which is there before the very
first start is thrown away.
"""

import logging
from pathlib import Path
from typing import Final

import msgspec

from discovery.raft.configuration import check_configuration
from discovery.raft.errors import ConfigurationRefused
from discovery.raft.messages import Configuration, Server
from discovery.storage.files import atomic_write, fsync_dir
from discovery.storage.forced import force_configuration, latest_configuration
from discovery.storage.log import LogStore
from discovery.storage.recovery import Recovered

PEERS_FILE: Final = "peers.json"
INFO_FILE: Final = "peers.info"

_INFO: Final = """\
The file peers.json, put next to this one, tells a server which servers form the cluster when most of the former ones are lost
for good. `discovery operator recover` does the same with more care.

1. Stop all servers that remain.
2. Write this into peers.json next to this file, the same on each of them, with a line for each of them:

[
  {
    "id": "adf4238a-882b-9ddc-4a9d-5b6758e4159e",
    "address": "10.1.0.1:8300",
    "non_voter": false
  }
]

   "id" is the content of the file node-id in the server's data directory, "address" its address with the server port (8300),
   "non_voter" may be left out. A list of addresses alone, ["10.1.0.1:8300"], will do if the servers still have them.
3. Start the servers. Each reads the file once and deletes it.

What only the lost servers had stored is lost. Servers that are left out of the file must never be started again.
"""


class InvalidPeersFile(Exception):
    """It cannot be used; nothing was changed, and it is still there."""


class _Peer(msgspec.Struct, frozen=True):
    id: str
    address: str
    non_voter: bool = False


def recover_from_peers_file(
    directory: Path, log_store: LogStore, recovered: Recovered, server_id: str, log: logging.Logger
) -> bool:
    """Take over a `peers.json` in `directory`; tells whether the log may have changed.

    Raises InvalidPeersFile, OSError, StorageError.
    """
    path = directory / PEERS_FILE
    if _first_start(directory):
        if path.exists():
            path.unlink()
            log.warning("deleted a peers.json that was there before the first start: path=%s", path)
        return False
    if not path.exists():
        return False
    log.info("found peers.json file, recovering Raft configuration...")
    known = latest_configuration(recovered)
    if not known.servers:
        raise InvalidPeersFile(f"{path}: this server was never part of a cluster, there is nothing to recover")
    configuration = read_peers_file(path, known)
    if configuration.get(server_id) is None:
        log.warning("this server (%s) is not in peers.json: it will have no part in the cluster", server_id)
    force_configuration(log_store, recovered, configuration)
    path.unlink()
    fsync_dir(directory)
    log.info("deleted peers.json file after successful recovery")
    return True


def _first_start(directory: Path) -> bool:
    """Whether there was no `peers.info` yet; there is one now."""
    info = directory / INFO_FILE
    if info.exists():
        return False
    atomic_write(info, _INFO.encode())
    return True


def read_peers_file(path: Path, known: Configuration) -> Configuration:
    """Either form; addresses alone are looked up in `known`. Raises InvalidPeersFile, OSError."""
    try:
        peers = msgspec.json.decode(path.read_bytes(), type=list[_Peer | str])
    except msgspec.DecodeError as error:
        raise InvalidPeersFile(f"{path}: {error}") from None
    servers = tuple(sorted((_server(path, peer, known) for peer in peers), key=lambda server: server.id))
    try:
        check_configuration(Configuration(servers))
    except ConfigurationRefused as refusal:
        raise InvalidPeersFile(f"{path}: {refusal}") from None
    return Configuration(servers)


def _server(path: Path, peer: _Peer | str, known: Configuration) -> Server:
    if isinstance(peer, _Peer):
        return Server(peer.id, peer.address, voter=not peer.non_voter)
    for server in known.servers:
        if server.address == peer:
            return Server(server.id, peer)
    raise InvalidPeersFile(f"{path}: no server is known at {peer}: give its id too")

"""Every top-level command: where it lives and what the listing says of it. A module is imported when its command is called."""

from collections.abc import Mapping
from typing import Final

from .action import Entry

COMMANDS: Final[Mapping[str, Entry]] = {
    "acl": Entry("acl:ACL", "Works with access control"),
    "agent": Entry("agent:run", "Runs an agent"),
    "catalog": Entry("catalog:CATALOG", "Shows the datacenters, nodes and services of the catalog"),
    "check": Entry("check:CHECK", "Runs a check of an agent"),
    "config": Entry("config_entries:CONFIG", "Works with central configuration entries"),
    "event": Entry("event:EVENT", "Fires a user event"),
    "force-leave": Entry("members:FORCE_LEAVE", "Declares a failed member to have left"),
    "info": Entry("info:INFO", "Shows what an agent tells about itself"),
    "intention": Entry("intention:INTENTION", "Works with intentions: which service may talk to which"),
    "join": Entry("members:JOIN", "Makes an agent join other agents"),
    "keygen": Entry("keyring:KEYGEN", "Makes a new key for gossip encryption"),
    "keyring": Entry("keyring:KEYRING", "Manages the keys of gossip encryption"),
    "kv": Entry("kv:KV", "Works with the key-value store"),
    "leave": Entry("members:LEAVE", "Makes an agent leave gracefully and end"),
    "lock": Entry("lock:LOCK", "Runs a program while holding a lock"),
    "maint": Entry("maint:MAINT", "Puts a node or a service into maintenance, and back"),
    "members": Entry("members:MEMBERS", "Lists the members of the gossip pool"),
    "monitor": Entry("monitor:MONITOR", "Streams the log of an agent"),
    "operator": Entry("operator:OPERATOR", "Works with the servers as a cluster: Raft and autopilot"),
    "reload": Entry("info:RELOAD", "Makes an agent read its configuration again"),
    "rtt": Entry("rtt:RTT", "Estimates the round-trip time between two nodes"),
    "services": Entry("services:SERVICES", "Registers and deregisters services of an agent"),
    "snapshot": Entry("snapshot:SNAPSHOT", "Saves, restores and inspects the state of the servers"),
    "tls": Entry("tls:TLS", "Makes certificate authorities and certificates"),
    "validate": Entry("validate:run", "Checks configuration files and directories"),
    "version": Entry("version:VERSION", "Shows the version"),
    "watch": Entry("watch:WATCH", "Watches a part of the data and runs a program at every change"),
}

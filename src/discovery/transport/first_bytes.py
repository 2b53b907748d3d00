"""The first byte of a connection to the server port says what the connection is for."""

from typing import Final

RPC: Final = 0x00
"""Calls, one after the other."""

CONSUL_RAFT: Final = 0x01
"""Raft of Consul's own servers, which ours do not form a cluster with."""

TLS: Final = 0x03
"""A TLS handshake follows, and inside it another first byte."""

RPC_MULTIPLEXED: Final = 0x04
"""Calls on many streams (yamux)."""

SNAPSHOT: Final = 0x05
"""Saving or restoring the whole state."""

TLS_INSECURE: Final = 0x07
"""TLS of a caller that has no certificate yet."""

RAFT: Final = 0xD1
"""Raft between our own servers."""

NAMES: Final = {
    CONSUL_RAFT: "Raft of a Consul server",
    0x02: "old multiplexing",
    0x06: "gossip over RPC",
    TLS_INSECURE: "TLS without certificate",
    0x08: "gRPC",
    0x09: "Raft forwarding",
    0x16: "TLS without announcement",
}
"""What else a connection may ask for, to name it when it is refused."""

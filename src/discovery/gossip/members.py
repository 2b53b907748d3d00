"""Who is in the group: the table of nodes, the order in which they are probed, and which claim about a node wins.

A claim carries an incarnation, a number which only the node itself raises. Of two claims the higher incarnation wins; at the
same incarnation dead beats suspect and suspect beats alive. A node that hears itself accused answers with a higher one.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from .codec import MalformedMessage
from .messages import Alive, Dead, NodeRecord, NodeState, Suspect
from .suspicion import Suspicion
from .timers import Timer

Address = tuple[str, int]
"""IP address as text, and port."""

VSN_SIZE: Final = 6
MAX_INCARNATION: Final = 0xFFFF_FFFF


@lru_cache(maxsize=4096)
def ip_text(addr: bytes) -> str:
    """4 or 16 bytes as text; an IPv4 address in 16 bytes counts as IPv4. Raises `MalformedMessage`."""
    if len(addr) not in (4, 16):
        raise MalformedMessage(f"an IP address of {len(addr)} bytes")
    address = ip_address(addr)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


@lru_cache(maxsize=4096)
def ip_bytes(text: str) -> bytes:
    return ip_address(text).packed


@dataclass(slots=True, eq=False)
class Node:
    """What we believe of one node. `suspicion` and its timer are set exactly while the state is suspect.

    `changed_at` is when its state changed last, `news_at` when anything was believed of it last.
    """

    name: str
    address: Address
    meta: bytes
    vsn: bytes
    incarnation: int
    state: NodeState
    changed_at: float
    news_at: float
    suspicion: Suspicion | None = None
    timer: Timer | None = None

    @property
    def gone(self) -> bool:
        return self.state in (NodeState.DEAD, NodeState.LEFT)

    @property
    def protocol_max(self) -> int:
        return self.vsn[1]

    def alive_claim(self) -> Alive:
        """What this node would say of itself."""
        host, port = self.address
        return Alive(self.incarnation, self.name, ip_bytes(host), port, self.meta, self.vsn)

    def record(self) -> NodeRecord:
        host, port = self.address
        return NodeRecord(self.name, ip_bytes(host), port, self.meta, self.incarnation, self.state, self.vsn)


def record_of(claim: Alive) -> NodeRecord:
    return NodeRecord(claim.node, claim.addr, claim.port, claim.meta, claim.incarnation, NodeState.ALIVE, claim.vsn)


class Verdict(Enum):
    """What a claim changes."""

    IGNORE = auto()
    ACCEPT = auto()
    REFUTE = auto()
    """It is about us, and wrong."""
    CONFIRM = auto()
    """One more accuser of a suspect."""
    CONFLICT = auto()
    """Two nodes use one name."""


def judge_alive(node: Node, claim: Alive, *, own: bool, name_is_free: bool) -> Verdict:
    """Own: anything but an echo of what we say is answered, so that a restart jumps over what peers remember.

    `name_is_free`: another address may take the node's name over.
    """
    if (ip_text(claim.addr), claim.port) != node.address:
        return Verdict.ACCEPT if name_is_free and not own else Verdict.CONFLICT
    if own:
        echo = claim.incarnation == node.incarnation and claim.meta == node.meta and claim.vsn == node.vsn
        return Verdict.IGNORE if claim.incarnation < node.incarnation or echo else Verdict.REFUTE
    return Verdict.ACCEPT if claim.incarnation > node.incarnation else Verdict.IGNORE


def judge_suspect(node: Node, claim: Suspect, *, own: bool) -> Verdict:
    if claim.incarnation < node.incarnation:
        return Verdict.IGNORE
    if node.suspicion is not None:
        return Verdict.CONFIRM
    if node.state is not NodeState.ALIVE:
        return Verdict.IGNORE
    return Verdict.REFUTE if own else Verdict.ACCEPT


def judge_dead(node: Node, claim: Dead, *, own: bool, leaving: bool) -> Verdict:
    if claim.incarnation < node.incarnation or node.gone:
        return Verdict.IGNORE
    return Verdict.REFUTE if own and not leaving else Verdict.ACCEPT


class Members:
    """All nodes we know, ourselves included, and whose turn it is to be probed."""

    def __init__(self, me: Node, rng: random.Random) -> None:
        self.me = me
        self._rng = rng
        self._nodes: dict[str, Node] = {me.name: me}
        self._order: list[Node] = [me]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._order)

    def get(self, name: str) -> Node | None:
        return self._nodes.get(name)

    def add(self, node: Node) -> None:
        """At a random place of the probing order, so that newcomers are not all probed in a row."""
        self._nodes[node.name] = node
        place = self._rng.randint(0, len(self._order))
        self._order.insert(place, node)
        if place < self._turn:
            self._turn += 1

    def others_alive(self) -> bool:
        return any(not node.gone and node is not self.me for node in self._order)

    def next_to_probe(self, now: float, forget_after: float) -> Node | None:
        """Each node once in a round; between rounds the order is shuffled and the long dead are forgotten."""
        for _ in range(len(self._order) + 1):
            if self._turn >= len(self._order):
                self._begin_round(now, forget_after)
            node = self._order[self._turn]
            self._turn += 1
            if node is not self.me and not node.gone:
                return node
        return None

    def _begin_round(self, now: float, forget_after: float) -> None:
        kept = [node for node in self._order if not node.gone or node is self.me or now - node.changed_at <= forget_after]
        if len(kept) < len(self._order):
            self._nodes = {node.name: node for node in kept}
        self._rng.shuffle(kept)
        self._order = kept
        self._turn = 0

    def worth_telling(self, since: float, count: int) -> list[Node]:
        """Ourselves and those of whom there was news since then; with some of the others that makes `count`, if it is fewer."""
        told = [node for node in self._order if node is self.me or node.news_at >= since]
        others = self.sample(count - len(told), lambda node: node is not self.me and node.news_at < since)
        return told + others

    def sample(self, count: int, accept: Callable[[Node], bool]) -> list[Node]:
        """Up to `count` different nodes that `accept` takes; in large groups after a bounded number of draws."""
        if count <= 0:
            return []
        total = len(self._order)
        if total < 3 * count:
            shuffled = self._rng.sample(self._order, total)
            return [node for node in shuffled if accept(node)][:count]
        found: list[Node] = []
        for _ in range(3 * total):
            node = self._order[self._rng.randrange(total)]
            if node not in found and accept(node):
                found.append(node)
                if len(found) == count:
                    break
        return found

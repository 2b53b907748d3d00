"""What listeners need of the server behind them."""

from collections.abc import Callable
from typing import Protocol

Send = Callable[[bytes], None]


class Desk(Protocol):
    """Takes questions. The bytes of an answer are whole messages."""

    def ready(self, packet: bytes, now: float, *, tcp: bool) -> bytes | None:
        """An answer that can be given without waiting."""

    def take(self, packet: bytes, client: str, send: Send, *, tcp: bool) -> None:
        """Have `send` called once with the answer; with empty bytes if there is none to give."""

    def dropped(self, reason: str) -> None:
        """Count what was thrown away."""

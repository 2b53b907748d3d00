"""How often a client agent may ask its servers (`limits.rpc_rate` and `rpc_max_burst`)."""


class TokenBucket:
    """`rate` requests a second on average, `burst` at once; a negative rate is no limit. Time is handed in, in seconds."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    def configure(self, rate: float, burst: int) -> None:
        """Other limits from now on."""
        self.rate, self._burst = rate, burst

    def admits(self, now: float) -> bool:
        """Whether one more request may go; it counts if so."""
        if self.rate < 0:
            return True
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

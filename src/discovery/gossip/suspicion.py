"""Lifeguard's formulas and counters (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure
Detection"), with memberlist's roundings. Times are seconds."""

import math


def suspicion_timeout(mult: int, nodes: int, probe_interval: float) -> float:
    """The least time a suspect has to refute: `mult` probe intervals, more in clusters beyond ten nodes."""
    scale = max(1.0, math.log10(max(1.0, float(nodes))))
    return mult * math.floor(scale * 1000) * probe_interval / 1000


def retransmit_limit(mult: int, nodes: int) -> int:
    """How often one member passes a message on."""
    return mult * math.ceil(math.log10(nodes + 1))


class Awareness:
    """Local health: 0 is well; every point makes us wait one more interval before we blame others."""

    def __init__(self, max_multiplier: int) -> None:
        self._limit = max_multiplier - 1
        self.score = 0

    def add(self, delta: int) -> None:
        self.score = max(0, min(self._limit, self.score + delta))

    def scale(self, timeout: float) -> float:
        return timeout * (self.score + 1)


class Suspicion:
    """One node under suspicion: how long it has, given who agrees.

    `expected` independent accusers besides the first bring the time down from `longest` to `shortest`.
    """

    def __init__(self, accuser: str, expected: int, shortest: float, longest: float, now: float) -> None:
        self._accusers = {accuser}
        self._expected = expected
        self._shortest = shortest
        self._longest = longest
        self._started = now

    @property
    def deadline(self) -> float:
        return self._started + self._timeout()

    def postpone(self, seconds: float) -> None:
        self._started += seconds

    def confirm(self, accuser: str) -> bool:
        """Whether this is news: a further accuser, of those that count."""
        if len(self._accusers) > self._expected or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        return True

    def _timeout(self) -> float:
        if self._expected < 1:
            return self._shortest
        share = math.log(len(self._accusers)) / math.log(self._expected + 1)
        raw = self._longest - share * (self._longest - self._shortest)
        return max(self._shortest, math.floor(raw * 1000) / 1000)


def expected_confirmations(mult: int, nodes: int) -> int:
    """How many further accusers count; none in clusters too small to have that many."""
    expected = mult - 2
    return expected if nodes - 2 >= expected else 0

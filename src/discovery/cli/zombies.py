"""Instances that are listed and yet serve nobody: what to look at when names lead to nothing. Pure, over health answers."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

SERF_CHECK: Final = "serfHealth"
_CRITICAL: Final = "critical"

Entry = Mapping[str, Any]
"""An element of `/v1/health/service/NAME`: node, service and checks."""


class Zombie(NamedTuple):
    """`why` is for people, `reason` for programs: `dead-node`, `duplicate` or `critical`."""

    service: str
    id: str
    node: str
    address: str
    reason: str
    why: str


class CriticalCheck(NamedTuple):
    node: str
    service_id: str
    """Empty for a check of the node."""
    check_id: str


def find(entries: Sequence[Entry], *, dead: Collection[CriticalCheck] = ()) -> list[Zombie]:
    """`dead`: checks that have been critical for too long. An instance is listed once for each reason."""
    found = [*_on_dead_nodes(entries), *_duplicates(entries), *_critical(entries, dead)]
    return sorted(found, key=lambda zombie: (zombie.service, zombie.id, zombie.node, zombie.reason))


def critical_checks(entries: Iterable[Entry]) -> set[CriticalCheck]:
    """All but the ones about nodes being gone, which count by themselves."""
    checks = (check for entry in entries for check in entry["Checks"])
    return {
        CriticalCheck(check["Node"], check["ServiceID"], check["CheckID"])
        for check in checks
        if check["Status"] == _CRITICAL and check["CheckID"] != SERF_CHECK
    }


def since(critical: Iterable[CriticalCheck], before: Mapping[CriticalCheck, float], now: float) -> dict[CriticalCheck, float]:
    """When each check that is critical was first seen so, in a row; `before` is what was known at the look before."""
    return {check: before.get(check, now) for check in critical}


def _on_dead_nodes(entries: Iterable[Entry]) -> Iterable[Zombie]:
    for entry in entries:
        for check in entry["Checks"]:
            if check["CheckID"] == SERF_CHECK and check["Status"] == _CRITICAL:
                yield _zombie(entry, "dead-node", "its node has failed")


def _duplicates(entries: Iterable[Entry]) -> Iterable[Zombie]:
    """Instances with the same address and port: one of them has moved in after the other."""
    by_place: defaultdict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry["Service"]["Port"]:
            by_place[_address(entry), entry["Service"]["Port"]].append(entry)
    for group in by_place.values():
        for entry in group if len(group) > 1 else ():
            others = ", ".join(f"{other['Service']['ID']} on {other['Node']['Node']}" for other in group if other is not entry)
            yield _zombie(entry, "duplicate", f"same address and port as {others}")


def _critical(entries: Iterable[Entry], dead: Collection[CriticalCheck]) -> Iterable[Zombie]:
    for entry in entries:
        for check in entry["Checks"]:
            if CriticalCheck(check["Node"], check["ServiceID"], check["CheckID"]) in dead:
                yield _zombie(entry, "critical", f"check {check['CheckID']} has been critical for too long")


def _address(entry: Entry) -> str:
    return str(entry["Service"]["Address"] or entry["Node"]["Address"])


def _zombie(entry: Entry, reason: str, why: str) -> Zombie:
    service, address = entry["Service"], _address(entry)
    place = f"[{address}]:{service['Port']}" if ":" in address else f"{address}:{service['Port']}"
    return Zombie(service["Service"], service["ID"], entry["Node"]["Node"], place, reason, why)

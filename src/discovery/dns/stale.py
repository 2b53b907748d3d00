"""Answering from what was known last while the cluster can't be asked: fewer names disappear in an outage than servers do."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from .answers import FAILED, Group, Plan
from .last_known import PATIENCE, PAUSE
from .lookups import Found, Lookups
from .names import Lookup
from .rare_log import RareLog
from .wire import NOERROR, Query, Record

_rarely = RareLog(logging.getLogger(__name__))


class StaleOnError:
    """Finds as `fresh` does; what that can't find out, or not soon, is answered with what `old` finds, for `ttl` seconds."""

    def __init__(self, fresh: Lookups, old: Lookups, *, ttl: int, clock: Callable[[], float]) -> None:
        self._fresh = fresh
        self._old = old
        self._ttl = ttl
        self._clock = clock
        self._paused_until = 0.0

    async def find(self, query: Query, lookup: Lookup, client: str) -> Found:
        if self._clock() < self._paused_until:
            old = await self._find_old(query, lookup, client)
            if old is not None:
                return old
        asking = asyncio.create_task(self._fresh.find(query, lookup, client))
        try:
            done, _ = await asyncio.wait([asking], timeout=PATIENCE)
            if done and asking.result().plan is not FAILED:
                return asking.result()
            old = await self._find_old(query, lookup, client)
            if old is None:
                return await asking
            self._paused_until = self._clock() + PAUSE
            _rarely.warning("the cluster can't be asked about %s: an old answer is given", b".".join(query.name).decode())
            return old
        finally:
            asking.cancel()

    async def _find_old(self, query: Query, lookup: Lookup, client: str) -> Found | None:
        plan = (await self._old.find(query, lookup, client)).plan
        return Found(self._retimed(plan)) if plan.rcode == NOERROR and plan.groups else None

    def _retimed(self, plan: Plan) -> Plan:
        groups = [Group(self._short_lived(group.records), self._short_lived(group.additional)) for group in plan.groups]
        return msgspec.structs.replace(plan, groups=groups, additional=self._short_lived(plan.additional))

    def _short_lived(self, records: Sequence[Record]) -> tuple[Record, ...]:
        return tuple(msgspec.structs.replace(record, ttl=self._ttl) for record in records)

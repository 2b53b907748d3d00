"""Anti-entropy: keeps what the catalog says of this node in step with what the agent says.

The syncer holds a *belief*: what the catalog should contain after all that was read and pushed. Any change here makes it push
the difference to the belief at once (several changes in one turn of the loop are one pass). About once a minute it reads the
catalog anew, so that the belief is never wrong for long, whatever others wrote there. A push that fails leaves the belief as
it was, or marks it unknown, and so the next pass tries again.

Source: Consul documentation, "anti-entropy"; intervals as Consul's.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from itertools import islice
from typing import Final

import msgspec

from discovery.model.delegate import Delegate
from discovery.model.dismissal import LIFETIME, dismissals_of, dismissed_at
from discovery.model.errors import DiscoveryError
from discovery.model.records import DirEntry, HealthCheck, Node
from discovery.model.requests import (
    DeregisterRequest,
    IndexedDirEntries,
    IndexedHealthChecks,
    IndexedNodeServiceList,
    KeyRequest,
    KVSRequest,
    NodeSpecificRequest,
    RegisterRequest,
)
from discovery.telemetry import Counter, Metrics, fields

from .difference import Belief, Identity, Plan, canonical_check, canonical_service, difference, overridden_tags
from .entries import Change
from .services import Local

_log = logging.getLogger(__name__)

FULL_INTERVAL: Final = 60.0
RETRY_INTERVAL: Final = 15.0
"""The first failures are tried again sooner, after `FIRST_RETRY` and then twice as long each time: servers that start together
with their agents have a leader soon."""
FIRST_RETRY: Final = 0.5
JOIN_STAGGER: Final = 3.0
"""Seconds. To each, a random part is added."""
_SCALE_FROM: Final = 128
_MAX_STALE: Final = 2 * 10**9
_AT_ONCE: Final = 32
"""Pushes under way at the same time."""
_DENIED: Final = ("Permission denied", "ACL not found")
_ALREADY_GONE: Final = ("Unknown service", "Unknown check")


class Tokens(msgspec.Struct):
    """The tokens that syncs use; may be changed at any time."""

    default: str = ""
    agent: str = ""

    @property
    def for_node(self) -> str:
        return self.agent or self.default


class PushFailed(Exception):
    """A pass could not be finished; it will be tried again."""


def scale_factor(nodes: int) -> int:
    """By how much random parts grow in large clusters, so that the load of all agents together does not."""
    return math.ceil(math.log2(nodes) - math.log2(_SCALE_FROM)) + 1 if nodes > _SCALE_FROM else 1


class Syncer:
    """`cluster_size` tells the number of members; `check_update_interval` is how many seconds a new output of a check with
    the same status may wait, 0: not at all. Everything is called on the event loop.
    """

    def __init__(
        self,
        local: Local,
        delegate: Delegate,
        identity: Identity,
        *,
        tokens: Tokens,
        cluster_size: Callable[[], int],
        check_update_interval: float,
        metrics: Metrics,
        rng: random.Random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._local = local
        self._delegate = delegate
        self._identity = identity
        self._tokens = tokens
        self._cluster_size = cluster_size
        self._update_interval = check_update_interval
        self._metrics = metrics
        self._rng = rng
        self._wall = wall
        self._belief = Belief()
        self._tokens_of_services: dict[str, str] = {}
        self._tokens_of_checks: dict[str, str] = {}
        self._deferred: dict[str, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._dirty = False
        self._full_at = 0.0
        self._pauses = 0
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    # --- steering ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with a full sync."""
        loop = asyncio.get_running_loop()
        self._full_at = loop.time()
        self._local.on_change(self._changed)
        self._task = loop.create_task(self._run())
        _log.info("started state syncer")

    async def stop(self) -> None:
        """Push nothing more. To be called when a leave begins, before the node is taken out of the catalog."""
        self._local.on_change(lambda change: None)
        for timer in self._deferred.values():
            timer.cancel()
        self._deferred.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def trigger_full(self, *, stagger: bool = True) -> None:
        """Compare everything soon: a server joined, or (without stagger) the agent's token was set."""
        delay = self._rng.random() * JOIN_STAGGER * self._factor() if stagger else 0.0
        self._full_at = min(self._full_at, asyncio.get_running_loop().time() + delay)
        self._wake.set()

    def pause(self) -> None:
        """Hold back all pushes until as many `resume`; then one pass carries what has changed."""
        self._pauses += 1

    def resume(self) -> None:
        self._pauses -= 1
        assert self._pauses >= 0, f"resumed {-self._pauses} times too often"
        self._wake.set()

    def set_identity(self, identity: Identity) -> None:
        """The node is described otherwise from now on; pushed with the next full sync, or by what is pushed before."""
        self._identity = identity

    # --- when --------------------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if change.output_only and self._update_interval > 0:
            self._defer(change.check_id)
            return
        if change.check_id:
            self._undefer(change.check_id)
        self._dirty = True
        self._wake.set()

    def _defer(self, check_id: str) -> None:
        if check_id not in self._deferred:
            delay = self._update_interval / 2 + self._rng.random() * self._update_interval
            self._deferred[check_id] = asyncio.get_running_loop().call_later(delay, self._defer_is_over, check_id)

    def _defer_is_over(self, check_id: str) -> None:
        self._undefer(check_id)
        self._dirty = True
        self._wake.set()

    def _undefer(self, check_id: str) -> None:
        timer = self._deferred.pop(check_id, None)
        if timer is not None:
            timer.cancel()

    def _factor(self) -> int:
        return scale_factor(self._cluster_size())

    async def _run(self) -> None:
        while True:
            full = await self._due()
            try:
                await (self._full_sync() if full else self._push())
            except (DiscoveryError, PushFailed) as error:
                _log.error("failed to sync changes", extra=fields(error=error))
                self._retry()
            except Exception:
                _log.exception("failed to sync changes, which should not happen")
                self._retry()
            else:
                self._failures = 0
                if full:
                    self._schedule(FULL_INTERVAL)

    def _retry(self) -> None:
        self._schedule(min(RETRY_INTERVAL, FIRST_RETRY * 2 ** min(self._failures, 16)))
        self._failures += 1

    def _schedule(self, interval: float) -> None:
        """Plan the next full sync, unless an earlier one is planned already."""
        delay = interval + self._rng.random() * interval * self._factor()
        self._full_at = min(self._full_at, asyncio.get_running_loop().time() + delay)

    async def _due(self) -> bool:
        """Wait for a reason to do something; whether that is a full sync."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._pauses:
                if loop.time() >= self._full_at:
                    return True
                if self._dirty:
                    return False
            self._wake.clear()
            try:
                async with asyncio.timeout_at(None if self._pauses else self._full_at):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # --- what --------------------------------------------------------------------------------------------------------

    async def _full_sync(self) -> None:
        # A request for a full sync that comes while this one reads is not answered by it.
        self._full_at = math.inf
        self._belief = await self._read_catalog()
        for service_id, tags in overridden_tags(self._local.service_entries, self._belief).items():
            self._local.adopt_tags(service_id, tags)
        missing = self._local.service_entries.keys() - self._belief.services.keys()
        if missing:
            await self._heed_dismissals(missing)
        await self._push()

    async def _heed_dismissals(self, missing: Set[str]) -> None:
        """Remove the services that were deregistered everywhere after they were registered here, instead of pushing them."""
        node = self._identity.name
        for entry in await self._dismissals():
            service_id, at = dismissed_at(entry, node)
            if service_id not in missing:
                continue
            if self._local.registered_at(service_id) <= at and self._wall() - at < LIFETIME:
                _log.warning("Service was deregistered everywhere and is removed", extra=fields(service=service_id))
                self._local.remove_service(service_id)
            note = DirEntry(key=entry.key)
            scope = {"datacenter": self._identity.datacenter, "token": self._tokens.for_node}
            await self._delegate.call("KVS.Apply", KVSRequest(op="delete", dir_ent=note, **scope))

    async def _dismissals(self) -> Sequence[DirEntry]:
        """Asked of the leader: a follower may know of a service's end and not yet of the note that was written before."""
        identity = self._identity
        request = KeyRequest(datacenter=identity.datacenter, token=self._tokens.for_node, key=dismissals_of(identity.name))
        try:
            reply: IndexedDirEntries = await self._delegate.call("KVS.List", request)
        except DiscoveryError as error:
            if any(text in error.text for text in _DENIED):
                _log.debug("Notes of services deregistered everywhere can't be read", extra=fields(error=error))
                return ()
            raise
        return reply.entries or ()

    async def _read_catalog(self) -> Belief:
        request = NodeSpecificRequest(
            datacenter=self._identity.datacenter,
            token=self._tokens.for_node,
            node=self._identity.name,
            allow_stale=True,
            max_stale_duration=_MAX_STALE,
        )
        services: IndexedNodeServiceList = await self._delegate.call("Catalog.NodeServiceList", request)
        checks: IndexedHealthChecks = await self._delegate.call("Health.NodeChecks", request)
        return Belief(
            services.node_services.node,
            {service.id: canonical_service(service) for service in services.node_services.services or ()},
            {check.check_id: canonical_check(check) for check in checks.health_checks},
        )

    async def _push(self) -> None:
        """One pass. Raises `PushFailed`."""
        self._dirty = False
        plan = difference(self._identity, self._local.service_entries, self._local.check_entries, self._belief, self._deferred)
        if plan:
            await self._carry_out(plan)

    async def _carry_out(self, plan: Plan) -> None:
        """Services with their checks, then other checks; the node's own data travels with the first service, if there is one."""
        checks = self._carried_checks(plan)
        carried = {check_id for group in checks.values() for check_id in group}
        carriers = 1 if plan.register_node else 0
        first, rest = plan.register_services[:carriers], plan.register_services[carriers:]
        await _together(self._register_service(key, checks[key], with_node=True) for key in first)
        await _together(self._register_service(key, checks[key], with_node=False) for key in rest)
        await _together(self._deregister_service(key) for key in plan.deregister_services)
        await _together(self._register_check(key) for key in plan.register_checks if key not in carried)
        await _together(self._deregister_check(key) for key in plan.deregister_checks)
        if plan.register_node and not first:
            await self._register_node()

    def _carried_checks(self, plan: Plan) -> dict[str, list[str]]:
        """By service to be registered, its checks that go along: those with the same token."""
        services, checks = self._local.service_entries, self._local.check_entries
        carried: dict[str, list[str]] = {key: [] for key in plan.register_services}
        for check_id in plan.register_checks:
            service_id = checks[check_id].check.service_id
            if service_id in carried and checks[check_id].token == services[service_id].token:
                carried[service_id].append(check_id)
        return carried

    async def _register_service(self, service_id: str, check_ids: Sequence[str], *, with_node: bool) -> None:
        entry = self._local.service_entries.get(service_id)
        if entry is None:
            return
        checks = [self._local.check_entries[key].check for key in check_ids if key in self._local.check_entries]
        request = msgspec.structs.replace(
            self._registration(entry.token, with_node=with_node),
            service=entry.service,
            check=checks[0] if len(checks) == 1 else None,
            checks=checks if len(checks) > 1 else None,
        )
        self._belief.services[service_id] = None
        self._belief.checks |= dict.fromkeys((check.check_id for check in checks), None)
        self._tokens_of_services[service_id] = entry.token
        await self._tell(request, "Service", self._metrics.acl_blocked_service_registration, service=service_id)
        self._belief.services[service_id] = entry.service
        self._believe_checks(checks, entry.token)
        if with_node:
            self._believe_node()

    async def _register_check(self, check_id: str) -> None:
        entry = self._local.check_entries.get(check_id)
        if entry is None:
            return
        check, token = entry.check, entry.token
        self._belief.checks[check_id] = None
        request = msgspec.structs.replace(self._registration(token, with_node=False), check=check)
        await self._tell(request, "Check", self._metrics.acl_blocked_check_registration, check=check_id)
        self._believe_checks([check], token)

    async def _register_node(self) -> None:
        request = self._registration(self._tokens.for_node, with_node=True)
        await self._tell(request, "Node", self._metrics.acl_blocked_node_registration, node=self._identity.name)
        self._believe_node()

    def _registration(self, token: str, *, with_node: bool) -> RegisterRequest:
        node = self._identity
        return RegisterRequest(
            datacenter=node.datacenter,
            token=token or self._tokens.default,
            id=node.id,
            node=node.name,
            address=node.address,
            tagged_addresses=node.tagged_addresses,
            node_meta=node.meta,
            skip_node_update=not with_node,
        )

    async def _deregister_service(self, service_id: str) -> None:
        request = self._deregistration(self._tokens_of_services.get(service_id, ""), service_id=service_id)
        await self._tell(request, "Service", self._metrics.acl_blocked_service_deregistration, service=service_id)
        self._belief.services.pop(service_id)
        self._tokens_of_services.pop(service_id, None)
        for check_id in [key for key, check in self._belief.checks.items() if check and check.service_id == service_id]:
            self._forget_check(check_id)

    async def _deregister_check(self, check_id: str) -> None:
        request = self._deregistration(self._tokens_of_checks.get(check_id, ""), check_id=check_id)
        await self._tell(request, "Check", self._metrics.acl_blocked_check_deregistration, check=check_id)
        self._forget_check(check_id)

    def _deregistration(self, token: str, *, service_id: str = "", check_id: str = "") -> DeregisterRequest:
        return DeregisterRequest(
            datacenter=self._identity.datacenter,
            token=token or self._tokens.default,
            node=self._identity.name,
            service_id=service_id,
            check_id=check_id,
        )

    def _believe_node(self) -> None:
        node = self._identity
        self._belief.node = Node(node.id, node.name, node.address, node.datacenter, node.tagged_addresses, node.meta)

    def _believe_checks(self, checks: Iterable[HealthCheck], token: str) -> None:
        for check in checks:
            self._belief.checks[check.check_id] = check
            self._tokens_of_checks[check.check_id] = token
            self._undefer(check.check_id)

    def _forget_check(self, check_id: str) -> None:
        self._belief.checks.pop(check_id)
        self._tokens_of_checks.pop(check_id, None)
        self._undefer(check_id)

    async def _tell(self, request: RegisterRequest | DeregisterRequest, what: str, denied: Counter, **values: str) -> None:
        """Push. A push that ACLs deny counts as done until the next full sync, which tries again. Raises `DiscoveryError`."""
        registers = isinstance(request, RegisterRequest)
        try:
            await self._delegate.call("Catalog.Register" if registers else "Catalog.Deregister", request)
        except DiscoveryError as error:
            if any(text in error.text for text in _DENIED):
                denied.inc()
                action = "registration" if registers else "deregistration"
                _log.warning("%s %s blocked by ACLs", what, action, extra=fields(**values))
                return
            if registers or not any(text in error.text for text in _ALREADY_GONE):
                raise
        _log.info("%s %s", "Synced" if registers else "Deregistered", what.lower(), extra=fields(**values))


async def _together(pushes: Iterable[Awaitable[None]]) -> None:
    """Carry them out, several at a time; after a failure no more are begun. Raises `PushFailed`."""
    left = iter(pushes)
    while some := list(islice(left, _AT_ONCE)):
        for error in await asyncio.gather(*some, return_exceptions=True):
            if isinstance(error, DiscoveryError):
                raise PushFailed(error.text) from error
            if error is not None:
                raise error

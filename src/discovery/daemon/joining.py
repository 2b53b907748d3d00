"""Joining the cluster at start: `start_join` once, `retry_join` until it works.

Source: Consul's documented `retry_join`: the whole list is tried every `retry_interval`, and after `retry_max` failures in a
row (0: never) the agent gives up.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from discovery.model.errors import DiscoveryError

Join = Callable[[Sequence[str]], Awaitable[int]]
"""Addresses -> how many were contacted; raises with the reasons if none was."""


class GaveUp(Exception):
    """`retry_max` attempts failed."""


async def retry_join(
    join: Join,
    addresses: Sequence[str],
    *,
    cluster: str,
    interval: float,
    limit: int,
    jitter: Callable[[], float],
    log: logging.Logger,
) -> None:
    """Return once joined. `cluster` is the pool's name, LAN or WAN; `interval` is seconds; `jitter` a factor around 1.

    Raises `GaveUp`.
    """
    attempts = 0
    while True:
        try:
            contacted = await join(addresses)
        except DiscoveryError as error:
            attempts += 1
            if limit and attempts >= limit:
                raise GaveUp(f"max join retry exhausted after {attempts} attempts, exiting: {error}") from error
            log.warning("Join cluster failed, will retry: cluster=%s retry_interval=%gs error=%s", cluster, interval, error)
        else:
            log.info("Join cluster completed. Synced with initial agents: cluster=%s num_agents=%d", cluster, contacted)
            return
        # The first attempts come soon: agents that start together find each other without waiting out the interval.
        await asyncio.sleep(min(interval, 0.25 * 2 ** min(attempts - 1, 16)) * jitter())

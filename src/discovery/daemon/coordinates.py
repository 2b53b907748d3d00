"""Tells the servers where this node is on the network, from time to time.

Source: Consul documentation, network coordinates: each agent sends its own, and all agents together 64 a second at most.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError
from discovery.model.records import Coordinate
from discovery.model.requests import CoordinateUpdateRequest

_log = logging.getLogger(__name__)

_MIN_INTERVAL: Final = 15.0
_UPDATES_PER_SECOND: Final = 64.0


async def send_coordinates(
    delegate: Delegate,
    *,
    node: str,
    datacenter: str,
    token: str,
    coordinate: Callable[[], Coordinate],
    nodes: Callable[[], int],
    rng: random.Random,
) -> None:
    """Runs until cancelled. `nodes` is the size of the cluster."""
    while True:
        interval = max(_MIN_INTERVAL, nodes() / _UPDATES_PER_SECOND)
        await asyncio.sleep(interval + rng.uniform(0, interval))
        request = CoordinateUpdateRequest(datacenter=datacenter, token=token, node=node, coord=coordinate())
        try:
            await delegate.call("Coordinate.Update", request)
        except DiscoveryError as error:
            _log.debug("coordinate not sent: %s", error.text)

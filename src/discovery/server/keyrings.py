"""`Internal.KeyringOperation`: gossip keys of all pools, here and in the other datacenters.

Source: Consul's RPC; one answer for the WAN pool and one for the LAN pool of each datacenter.
"""

from collections.abc import Awaitable, Callable

import msgspec

from discovery.model.errors import DiscoveryError, RequestFailed
from discovery.model.requests import KeyringRequest, KeyringResponse, KeyringResponses

from .datacenters import Datacenters

Operate = Callable[[KeyringRequest], Awaitable[list[KeyringResponse]]]
"""Carries an operation out on this server's pools; with `local_only` or `forwarded` on the LAN pool alone."""


async def no_keyrings(request: KeyringRequest) -> list[KeyringResponse]:
    """A server without gossip of its own."""
    return []


OPERATIONS = ("list", "install", "use", "remove")


class Keyrings:
    def __init__(self, operate: Operate, datacenters: Datacenters) -> None:
        self._operate = operate
        self._datacenters = datacenters

    async def operation(self, request: KeyringRequest) -> KeyringResponses:
        if request.operation not in OPERATIONS:
            raise RequestFailed(f'Invalid keyring operation: "{request.operation}"')
        responses = list(await self._operate(request))
        if not (request.local_only or request.forwarded):
            for datacenter in self._datacenters.others():
                responses += await self._ask(datacenter, request)
        return KeyringResponses(responses=responses, known_leader=True)

    async def _ask(self, datacenter: str, request: KeyringRequest) -> list[KeyringResponse]:
        asked = msgspec.structs.replace(request, datacenter=datacenter, forwarded=True)
        try:
            reply: KeyringResponses = await self._datacenters.call(datacenter, "Internal.KeyringOperation", asked)
        except DiscoveryError as error:
            return [KeyringResponse(datacenter=datacenter, error=error.text)]
        return reply.responses or []

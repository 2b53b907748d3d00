"""`/v1/status/`: who leads."""

from discovery.model.requests import DCSpecificRequest

from .call import Call
from .encoding import Reply


async def leader(call: Call) -> Reply:
    return call.json(await call.ask("Status.Leader", DCSpecificRequest(**call.read())))


async def peers(call: Call) -> Reply:
    return call.json(await call.ask("Status.Peers", DCSpecificRequest(**call.read())))

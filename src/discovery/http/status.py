"""`/v1/status/`: who leads."""

from discovery.model.requests import DCSpecificRequest

from .call import Call
from .encoding import Reply
from .operation import COMMON, CONSISTENCY, describes


@describes("Reads the address of the leader.", params=(*COMMON, *CONSISTENCY), reply=str)
async def leader(call: Call) -> Reply:
    return call.json(await call.ask("Status.Leader", DCSpecificRequest(**call.read())))


@describes("Lists the addresses of the servers.", params=(*COMMON, *CONSISTENCY), reply=list[str])
async def peers(call: Call) -> Reply:
    return call.json(await call.ask("Status.Peers", DCSpecificRequest(**call.read())))

"""`/v1/connect/ca/` and the agent's side of it: there is no certificate authority here, and the endpoints say so as Consul's
do where Connect is off."""

from discovery.model.errors import RequestFailed

from .call import Call
from .encoding import Reply
from .operation import describes


@describes("Refused: there is no certificate authority.")
async def disabled(_call: Call) -> Reply:
    raise RequestFailed("Connect must be enabled in order to use this endpoint")

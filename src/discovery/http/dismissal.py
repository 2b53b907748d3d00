"""`/v1/catalog/deregister-everywhere`: deregisters a service so that its agent does not register it again.

`/v1/catalog/deregister` takes a service out of the catalog only; the agent that owns it notices and puts it back. This leaves a
note for that agent first, which it reads when it misses the service, be it now or after it comes back.
"""

import time
from typing import Final

from discovery.model.dismissal import dismissal
from discovery.model.errors import InvalidRequest
from discovery.model.naming import always
from discovery.model.records import Record
from discovery.model.requests import DeregisterRequest, KVSRequest

from .call import Call
from .decoding import Decoder
from .encoding import Reply
from .operation import COMMON, describes


class Dismissal(Record, frozen=True, kw_only=True):
    datacenter: str = always(str)
    node: str = always(str)
    service_id: str = always(str)


_body: Final = Decoder(Dismissal)


@describes("Removes a service so that its agent does not register it again.", params=COMMON, body=Dismissal, reply=bool)
async def deregister_everywhere(call: Call) -> Reply:
    body = await call.decode(_body)
    if not body.node or not body.service_id:
        raise InvalidRequest("Must provide Node and ServiceID")
    scope = {"datacenter": body.datacenter or call.datacenter, "token": call.token}
    note = dismissal(body.node, body.service_id, time.time())
    await call.ask("KVS.Apply", KVSRequest(op="set", dir_ent=note, **scope))
    await call.ask("Catalog.Deregister", DeregisterRequest(node=body.node, service_id=body.service_id, **scope))
    return call.boolean(True)

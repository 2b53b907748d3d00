"""`/v1/agent/`: what can be done with an agent's services and checks beyond Consul's API."""

from typing import Final

from discovery.model.duration import Duration, InvalidDuration
from discovery.model.errors import InvalidRequest
from discovery.model.records import HealthCheck

from .call import DONE, Call
from .encoding import Reply
from .operation import describes

DEFAULT_DRAIN: Final = Duration.from_seconds(30)


@describes("Runs a check now, and answers what it found.", rest="{check}", reply=HealthCheck)
async def run_check(call: Call) -> Reply:
    """Runs a check now and answers what it found."""
    return call.json(await call.api.services.run_check(call.need("Missing check ID")))


@describes("Takes a service out of health and DNS, and deregisters it later.", rest="{service}", params=("wait", "reason"))
async def drain_service(call: Call) -> Reply:
    """Takes a service out of health and DNS at once, and deregisters it after `wait`."""
    service_id = call.need("Missing service ID")
    text = call.params.get("wait")
    try:
        wait = Duration.parse(text) if text else DEFAULT_DRAIN
    except InvalidDuration as error:
        raise InvalidRequest(f"Invalid wait: {error}") from None
    if wait < 0:
        raise InvalidRequest(f"Invalid wait: {text} is negative")
    call.api.services.drain_service(service_id, wait.seconds, call.params.get("reason"))
    return DONE

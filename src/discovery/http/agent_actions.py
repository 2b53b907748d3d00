"""`/v1/agent/`: what can be done with an agent's services and checks beyond Consul's API."""

from typing import Final

from discovery.model.duration import Duration, InvalidDuration
from discovery.model.errors import InvalidRequest

from .call import DONE, Call
from .encoding import Reply

DEFAULT_DRAIN: Final = Duration.from_seconds(30)


async def run_check(call: Call) -> Reply:
    """Runs a check now and answers what it found."""
    return call.json(await call.api.services.run_check(call.need("Missing check ID")))


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

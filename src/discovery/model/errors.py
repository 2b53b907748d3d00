"""The errors that cross seams. Each carries the text Consul's clients match on and the HTTP status that belongs to it."""


class DiscoveryError(Exception):
    """An expected failure that a caller is told about; `status` is what the HTTP API answers with."""

    status = 500

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        if status is not None:
            self.status = status


class InvalidRequest(DiscoveryError):
    """The caller's mistake, found before anything was tried."""

    status = 400


class NotFound(DiscoveryError):
    """What was asked for does not exist."""

    status = 404


class TooLarge(DiscoveryError):
    """The body or the number of operations is over a limit."""

    status = 413


class RequestFailed(DiscoveryError):
    """A server refused the request: a validation that Consul answers with 500 and plain text."""


class RemoteError(RequestFailed):
    """Another server's refusal, worded as Consul words errors that crossed an RPC hop."""

    def __init__(self, text: str) -> None:
        super().__init__(f"rpc error making call: {text}")
        self.remote_text = text


class NoLeader(DiscoveryError):
    """No leader within the hold time. `reason` tells an operator why, as far as it is known."""

    def __init__(self, reason: str = "") -> None:
        super().__init__("No cluster leader")
        self.reason = reason


class NoServers(DiscoveryError):
    """A client agent that knows no server."""

    def __init__(self) -> None:
        super().__init__("No known Consul servers")


class RateExceeded(DiscoveryError):
    """This agent asks its servers more often than `limits.rpc_rate` allows."""

    status = 429

    def __init__(self) -> None:
        super().__init__("RPC rate limit exceeded")


class NoPathToDatacenter(DiscoveryError):
    """A datacenter that is neither ours nor in the WAN pool."""

    def __init__(self) -> None:
        super().__init__("No path to datacenter")


class OutcomeUnknown(DiscoveryError):
    """A write whose fate is not known: it may still be applied. Never retried by us."""

    def __init__(self, text: str = "leadership lost while committing log") -> None:
        super().__init__(text)

"""Errors as HTTP answers: the one place where they meet."""

import logging

from discovery.model.errors import DiscoveryError, InvalidRequest, NoLeader

from .encoding import ERROR_TEXT, NO_TYPE, Reply, header
from .freshness import NO_META

_log = logging.getLogger(__name__)


def bad_request(text: str) -> InvalidRequest:
    """Consul 1.8 puts these words before some of the texts of its HTTP layer."""
    return InvalidRequest(f"Bad request: {text}")


def text_reply(status: int, text: str, *, extra: bytes = b"", close: bool = False) -> Reply:
    """A plain-text answer; without text also without a type."""
    return Reply(status, text.encode("utf-8", "replace"), ERROR_TEXT if text else NO_TYPE, extra, close=close or status == 413)


def error_reply(error: DiscoveryError, *, with_meta: bool) -> Reply:
    """`with_meta`: the endpoint sends the headers of an unanswered read along with a server's refusal."""
    extra = NO_META if with_meta and error.status == 500 and not isinstance(error, InvalidRequest) else b""
    if isinstance(error, NoLeader) and error.reason:
        return text_reply(500, f"{error.text} ({error.reason})", extra=extra + header("X-Consul-Reason", error.reason))
    return text_reply(error.status, error.text, extra=extra)


def unexpected_reply(error: Exception, method: str, path: str) -> Reply:
    """A fault of ours: the log gets the traceback, the client a word."""
    _log.error("%s %s failed", method, path, exc_info=error)
    return text_reply(500, f"Internal error ({type(error).__name__}); see the agent's log")

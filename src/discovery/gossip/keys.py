"""Changing the keyring of a whole group by queries: every node changes its own, and answers whether it could."""

import base64
from typing import Final

from .codec import MalformedMessage, unpack
from .security import KeyRefused, Protection
from .serf_messages import KeyRequest, KeyResponse, SerfKind, encode

INSTALL: Final = "_serf_install-key"
USE: Final = "_serf_use-key"
REMOVE: Final = "_serf_remove-key"
LIST: Final = "_serf_list-keys"
OPERATIONS: Final = (INSTALL, USE, REMOVE, LIST)

_NOT_ENCRYPTED: Final = {
    INSTALL: "No keyring to modify (encryption not enabled)",
    USE: "No keyring to modify (encryption not enabled)",
    REMOVE: "No keyring to modify (encryption not enabled)",
    LIST: "Keyring is empty (encryption not enabled)",
}


def perform(operation: str, payload: bytes, protection: Protection) -> KeyResponse:
    """What one node answers to a key query, after doing as it says."""
    keyring = protection.keyring
    if keyring is None:
        return KeyResponse(result=False, message=_NOT_ENCRYPTED[operation])
    if operation == LIST:
        return KeyResponse(result=True, keys=[_text(key) for key in keyring.keys], primary_key=_text(keyring.primary))
    change = {INSTALL: keyring.add, USE: keyring.use, REMOVE: keyring.remove}[operation]
    try:
        change(_requested_key(payload))
    except (KeyRefused, MalformedMessage) as error:
        return KeyResponse(result=False, message=str(error))
    return KeyResponse(result=True)


def _requested_key(payload: bytes) -> bytes:
    if payload[:1] != bytes((SerfKind.KEY_REQUEST,)):
        raise MalformedMessage("a key query without a key request")
    return unpack(payload[1:], KeyRequest).key


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def encode_within(response: KeyResponse, limit: int) -> bytes:
    """The answer's bytes, with keys cut off at the end where they would exceed `limit`."""
    keys = response.keys or []
    encoded, shown = encode(response), len(keys)
    while len(encoded) > limit and shown:
        shown -= 1
        message = f"truncated key list response, showing first {shown} of {len(keys)} keys"
        cut = KeyResponse(result=response.result, message=message, keys=keys[:shown], primary_key=response.primary_key)
        encoded = encode(cut)
    return encoded


class KeyResult:
    """What a group answered: `messages` by node, how many nodes hold each key and use it as primary (in base64)."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.responses = 0
        self.errors = 0
        self.messages: dict[str, str] = {}
        self.keys: dict[str, int] = {}
        self.primary_keys: dict[str, int] = {}

    def add(self, node: str, payload: bytes) -> None:
        self.responses += 1
        try:
            response = self._decode(payload)
        except MalformedMessage as error:
            self.errors += 1
            self.messages[node] = f"Invalid key query response: {error}"
            return
        if response.message:
            self.messages[node] = response.message
        if not response.result:
            self.errors += 1
        for key in response.keys or []:
            self.keys[key] = self.keys.get(key, 0) + 1
        if response.primary_key:
            self.primary_keys[response.primary_key] = self.primary_keys.get(response.primary_key, 0) + 1

    def _decode(self, payload: bytes) -> KeyResponse:
        if payload[:1] != bytes((SerfKind.KEY_RESPONSE,)):
            raise MalformedMessage(f"no key response: {payload[:20]!r}")
        return unpack(payload[1:], KeyResponse)

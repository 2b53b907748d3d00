"""The gossip keys of this agent: from the option `encrypt`, or from the file that remembers what a rotation left.

Source: Consul documentation (`encrypt`, `disable_keyring_file`): the file wins once it exists; it is a JSON list of keys in
base64, the primary first.
"""

import base64
import binascii
import json
import os
from collections.abc import Sequence
from pathlib import Path

from discovery.model import base64_text
from discovery.model.requests import KeyringRequest, KeyringResponse
from discovery.transport.membership import KeyRefused, KeyResult, Membership


async def operate(pool: Membership, request: KeyringRequest, datacenter: str, *, wan: bool = False) -> KeyringResponse:
    """Carry an operation out on all members of a pool; the failures of members are told in the response."""
    try:
        result = await _operation(pool, request.operation, base64_text.decode(request.key), request.relay_factor)
    except (KeyRefused, base64_text.NotBase64) as error:
        return KeyringResponse(wan=wan, datacenter=datacenter, error=str(error))
    return KeyringResponse(
        wan=wan,
        datacenter=datacenter,
        messages=result.messages or None,
        keys=result.keys,
        primary_keys=result.primary_keys,
        num_nodes=result.nodes,
        error=_complaint(result),
    )


def _complaint(result: KeyResult) -> str:
    if result.errors:
        return f"{result.errors}/{result.nodes} nodes reported failure"
    if result.responses != result.nodes:
        return f"{result.responses}/{result.nodes} nodes reported success"
    return ""


async def _operation(pool: Membership, operation: str, key: bytes, relay_factor: int) -> KeyResult:
    if operation == "list":
        return await pool.list_keys(relay_factor=relay_factor)
    change = {"install": pool.install_key, "use": pool.use_key, "remove": pool.remove_key}[operation]
    return await change(key, relay_factor=relay_factor)


class KeyringError(Exception):
    """The keys can't be read; the text names the file and what is wrong."""


def load(file: Path | None, encrypt: str) -> list[bytes] | None:
    """The keys, primary first; None: gossip is not encrypted. With `file` None nothing is remembered."""
    if file is not None and file.exists():
        return _read(file)
    if not encrypt:
        return None
    keys = [base64.b64decode(encrypt)]
    if file is not None:
        save(file, keys)
    return keys


def save(file: Path, keys: Sequence[bytes]) -> None:
    """Replace the file as a whole, durably. Raises `OSError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        json.dump([base64.b64encode(key).decode() for key in keys], handle)
        handle.flush()
        os.fsync(handle.fileno())
    unfinished.replace(file)


def _read(file: Path) -> list[bytes]:
    try:
        keys = [base64.b64decode(text, validate=True) for text in json.loads(file.read_bytes())]
    except (OSError, ValueError, TypeError, binascii.Error) as error:
        raise KeyringError(f"keyring file {file} can't be read: {error}") from None
    if not keys or any(len(key) not in (16, 24, 32) for key in keys):
        raise KeyringError(f"keyring file {file} holds no key of 16, 24 or 32 bytes, or one of another length")
    return keys

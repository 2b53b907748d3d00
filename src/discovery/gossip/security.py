"""Gossip encryption: AES-GCM with a ring of keys, the first of which encrypts while all may decrypt.

An encrypted payload is `version | nonce (12) | ciphertext | tag (16)`. Version 1 seals the plaintext as it is; version 0, of
very old agents, pads it to 16 bytes first (PKCS#7). On a stream the payload follows `0A | length (4)`, and those five bytes
are the additional data; packets have none.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .codec import deflate
from .messages import Kind

OVERHEAD: Final = 29
"""Bytes which version 1 adds to a packet."""
STREAM_HEADER: Final = 5
MAX_STREAM_PAYLOAD: Final = 20 << 20

_NONCE: Final = 12
_TAG: Final = 16
_BLOCK: Final = 16
_KEY_SIZES: Final = (16, 24, 32)
_PADDED, _PLAIN = 0, 1


class CannotDecrypt(ValueError):
    """A payload that none of our keys opens."""


class KeyRefused(ValueError):
    """A change of the keyring that is not possible; the text is memberlist's."""


def check_key(key: bytes) -> None:
    """Raises `KeyRefused` for a key of a length that the cipher does not have."""
    if len(key) not in _KEY_SIZES:
        raise KeyRefused("key size must be 16, 24 or 32 bytes")


class Keyring:
    """Keys in the order they are tried; the first encrypts. Raises `KeyRefused` for keys of a wrong length."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            self.add(key)
        if not self._ciphers:
            raise KeyRefused("a keyring needs at least one key")

    @property
    def keys(self) -> list[bytes]:
        return list(self._ciphers)

    @property
    def primary(self) -> bytes:
        return next(iter(self._ciphers))

    def add(self, key: bytes) -> None:
        """Accept messages of this key too."""
        check_key(key)
        self._ciphers.setdefault(key, AESGCM(key))

    def use(self, key: bytes) -> None:
        """Encrypt with this key from now on."""
        if key not in self._ciphers:
            raise KeyRefused("requested key is not in the keyring")
        cipher = self._ciphers.pop(key)
        self._ciphers = {key: cipher, **self._ciphers}

    def remove(self, key: bytes) -> None:
        if key == self.primary:
            raise KeyRefused("removing the primary key is not allowed")
        self._ciphers.pop(key, None)

    def seal(self, plain: bytes, rng: random.Random, additional: bytes = b"") -> bytes:
        """A payload of version 1."""
        nonce = rng.randbytes(_NONCE)
        return bytes((_PLAIN,)) + nonce + self._ciphers[self.primary].encrypt(nonce, plain, additional)

    def open(self, payload: bytes, additional: bytes = b"") -> bytes:
        """The plaintext of a payload of either version. Raises `CannotDecrypt`."""
        if not payload:
            raise CannotDecrypt("Cannot decrypt empty payload")
        version = payload[0]
        if version not in (_PADDED, _PLAIN):
            raise CannotDecrypt(f"Unsupported encryption version {version}")
        if len(payload) < OVERHEAD + (_BLOCK if version == _PADDED else 0):
            raise CannotDecrypt("Payload is too small to decrypt")
        plain = self._decrypt(payload[1 : 1 + _NONCE], payload[1 + _NONCE :], additional)
        return _without_padding(plain) if version == _PADDED else plain

    def _decrypt(self, nonce: bytes, sealed: bytes, additional: bytes) -> bytes:
        for cipher in self._ciphers.values():
            try:
                return cipher.decrypt(nonce, sealed, additional)
            except InvalidTag:
                continue
        raise CannotDecrypt("No installed keys could decrypt the message")

    def seal_stream(self, plain: bytes, rng: random.Random) -> bytes:
        """A whole encrypted stream."""
        header = stream_header(len(plain) + OVERHEAD)
        return header + self.seal(plain, rng, header)

    def open_stream(self, header: bytes, payload: bytes) -> bytes:
        """The plaintext behind a stream's five header bytes. Raises `CannotDecrypt`."""
        return self.open(payload, header)


def stream_header(length: int) -> bytes:
    return bytes((Kind.ENCRYPT,)) + length.to_bytes(4, "big")


def _without_padding(plain: bytes) -> bytes:
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= _BLOCK or len(plain) % _BLOCK:
        raise CannotDecrypt("wrong padding")
    return plain[:-padding]


@dataclass(slots=True)
class Protection:
    """Whether and how gossip is encrypted and compressed. Verifying is turned off only to introduce encryption."""

    rng: random.Random
    keyring: Keyring | None = None
    verify_incoming: bool = True
    verify_outgoing: bool = True
    compress: bool = False

    @property
    def encrypts(self) -> bool:
        return self.keyring is not None and self.verify_outgoing

    def seal_stream(self, message: bytes) -> bytes:
        if self.compress:
            message = deflate(message)
        if self.keyring is not None and self.encrypts:
            return self.keyring.seal_stream(message, self.rng)
        return message

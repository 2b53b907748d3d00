"""Encryption of packets and streams: both versions, all key sizes, the ring, and what happens without it."""

import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discovery.gossip.codec import encode
from discovery.gossip.messages import Nack, Ping
from discovery.gossip.packets import BUDGET, PacketCodec
from discovery.gossip.security import OVERHEAD, CannotDecrypt, KeyRefused, Keyring, Protection, stream_header
from discovery.gossip.streams import StreamParser, StreamRefused

RNG = random.Random(5)
KEYS = [bytes(range(size)) for size in (16, 24, 32)]
NONCE = bytes(range(12))


def padded(key: bytes, plain: bytes, additional: bytes = b"") -> bytes:
    """A payload of version 0, as very old agents send it."""
    padding = 16 - len(plain) % 16
    return b"\0" + NONCE + AESGCM(key).encrypt(NONCE, plain + bytes((padding,)) * padding, additional)


@pytest.mark.parametrize("key", KEYS, ids=len)
def test_packets_of_both_versions_open(key: bytes) -> None:
    keyring = Keyring([key])
    for size in (0, 1, 15, 16, 17, 1000):
        plain = RNG.randbytes(size)
        sealed = keyring.seal(plain, RNG)
        assert sealed[0] == 1
        assert len(sealed) == size + OVERHEAD
        assert keyring.open(sealed) == plain
        assert keyring.open(padded(key, plain)) == plain


@pytest.mark.parametrize("key", KEYS, ids=len)
def test_streams_of_both_versions_open(key: bytes) -> None:
    message = encode(Ping(7, "n1"))
    protection = Protection(RNG, Keyring([key]))
    assert StreamParser(protection).feed(protection.seal_stream(message)) == Ping(7, "n1")
    length = OVERHEAD + (len(message) // 16 + 1) * 16
    old = stream_header(length) + padded(key, message, stream_header(length))
    assert StreamParser(protection).feed(old) == Ping(7, "n1")


def test_the_header_of_a_stream_is_authenticated() -> None:
    keyring = Keyring([KEYS[0]])
    message = encode(Ping(7, "n1"))
    without = stream_header(len(message) + OVERHEAD) + keyring.seal(message, RNG)
    with pytest.raises(StreamRefused, match="No installed keys could decrypt the message"):
        StreamParser(Protection(RNG, keyring)).feed(without)


def test_any_key_of_the_ring_opens_and_the_first_seals() -> None:
    old, new = Keyring(KEYS[:1]), Keyring(KEYS[:2])
    assert new.open(old.seal(b"x", RNG)) == b"x"
    new.use(KEYS[1])
    assert new.keys == [KEYS[1], KEYS[0]]
    with pytest.raises(CannotDecrypt, match="No installed keys could decrypt the message"):
        old.open(new.seal(b"x", RNG))


def test_changes_of_the_ring() -> None:
    keyring = Keyring(KEYS[:2])
    with pytest.raises(KeyRefused, match="removing the primary key is not allowed"):
        keyring.remove(KEYS[0])
    with pytest.raises(KeyRefused, match="requested key is not in the keyring"):
        keyring.use(KEYS[2])
    with pytest.raises(KeyRefused, match="key size must be 16, 24 or 32 bytes"):
        keyring.add(bytes(15))
    keyring.add(KEYS[1])
    keyring.remove(KEYS[1])
    assert keyring.keys == KEYS[:1]
    with pytest.raises(KeyRefused):
        Keyring([])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty payload"),
        (b"\x02" + bytes(40), "Unsupported encryption version 2"),
        (b"\x01" + bytes(27), "too small"),
        (b"\x00" + bytes(40), "too small"),
        (b"\x01" + bytes(40), "No installed keys"),
    ],
)
def test_what_does_not_open(payload: bytes, reason: str) -> None:
    with pytest.raises(CannotDecrypt, match=reason):
        Keyring(KEYS).open(payload)


def test_every_flipped_bit_is_noticed() -> None:
    keyring = Keyring(KEYS[:1])
    sealed = keyring.seal(b"payload", RNG)
    for bit in range(8, len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CannotDecrypt):
            keyring.open(bytes(damaged))


def test_padding_that_cannot_be_is_refused() -> None:
    for last in (0, 17):
        sealed = b"\0" + NONCE + AESGCM(KEYS[0]).encrypt(NONCE, bytes(15) + bytes((last,)), b"")
        with pytest.raises(CannotDecrypt, match="wrong padding"):
            Keyring(KEYS[:1]).open(sealed)


def test_plaintext_is_taken_only_while_encryption_is_introduced() -> None:
    message = encode(Nack(1))
    strict, lenient = (Protection(RNG, Keyring(KEYS[:1]), verify_incoming=verify) for verify in (True, False))
    assert PacketCodec(strict).open(message).messages == []
    assert PacketCodec(lenient).open(message).messages == [message]
    assert StreamParser(lenient).feed(encode(Ping(1, "a"))) == Ping(1, "a")
    with pytest.raises(StreamRefused, match="Encryption is configured but remote state is not encrypted"):
        StreamParser(strict).feed(encode(Ping(1, "a")))


def test_without_a_key_encrypted_streams_are_refused() -> None:
    with pytest.raises(StreamRefused, match="Remote state is encrypted and encryption is not configured"):
        StreamParser(Protection(RNG)).feed(b"\x0a\0\0\0\x10")


def test_a_length_that_cannot_be_is_not_waited_for() -> None:
    with pytest.raises(StreamRefused, match="larger than limit"):
        StreamParser(Protection(RNG, Keyring(KEYS))).feed(b"\x0a\xff\xff\xff\xff")


def test_while_introducing_we_may_send_plaintext_and_then_need_no_room_for_more() -> None:
    protection = Protection(RNG, Keyring(KEYS), verify_outgoing=False)
    assert PacketCodec(protection).seal([encode(Nack(1))], crc=False) == encode(Nack(1))
    assert PacketCodec(protection).room == BUDGET
    assert PacketCodec(Protection(RNG, Keyring(KEYS))).room == BUDGET - OVERHEAD

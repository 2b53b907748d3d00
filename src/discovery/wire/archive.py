"""Snapshot archives for operators: a gzip'd tar of `meta.json`, `state.bin` and `SHA256SUMS`, in this order.

The outer form is Consul's, so that tools which verify or store archives work; `state.bin` is in our own format.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable

import msgspec

from discovery.model.errors import RequestFailed

_MEMBERS = ("meta.json", "state.bin", "SHA256SUMS")
MAX_STATE_BYTES = 4 << 30


class ArchiveMeta(msgspec.Struct, frozen=True, rename="pascal"):
    """What `snapshot inspect` shows. `size` is of `state.bin` in bytes; the ID is term-index-milliseconds."""

    version: int
    id: str = msgspec.field(name="ID")
    index: int
    term: int
    peers: str | None
    configuration: dict[str, object]
    configuration_index: int
    size: int


def pack(meta: ArchiveMeta, state: bytes) -> bytes:
    """The archive's bytes."""
    document = msgspec.json.encode(meta)
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in (("meta.json", document), ("state.bin", state))
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in zip(_MEMBERS, (document, state, sums.encode()), strict=True):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    # Consul refuses an archive with padding behind the two empty blocks that end it.
    return gzip.compress(buffer.getbuffer()[:end], compresslevel=6, mtime=0)


def unpack(data: bytes) -> tuple[ArchiveMeta, bytes]:
    """Meta data and state of an archive whose checksums hold; raises `RequestFailed` with what is wrong."""
    parts = _read_members(data)
    missing = [name for name in _MEMBERS if name not in parts]
    if missing:
        raise RequestFailed(f"failed to read snapshot file: failed checking integrity of snapshot: {missing[0]} is missing")
    _verify(parts)
    try:
        return msgspec.json.decode(parts["meta.json"], type=ArchiveMeta), parts["state.bin"]
    except msgspec.MsgspecError as error:
        raise RequestFailed(f"failed to decode snapshot metadata: {error}") from None


def _read_members(data: bytes) -> dict[str, bytes]:
    if not data.startswith(b"\x1f\x8b\x08"):
        reason = "EOF" if not data else "unexpected EOF" if len(data) < 10 else "gzip: invalid header"
        raise RequestFailed(f"failed to decompress snapshot: {reason}")
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if member.name in _MEMBERS and file is not None and member.size <= MAX_STATE_BYTES:
                    parts[member.name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise RequestFailed(f"failed to read snapshot file: {error}") from None
    return parts


def _verify(parts: dict[str, bytes]) -> None:
    stated = dict(_sum_lines(parts["SHA256SUMS"].decode(errors="replace").splitlines()))
    for name in _MEMBERS[:2]:
        if stated.get(name) != hashlib.sha256(parts[name]).hexdigest():
            raise RequestFailed(f'failed checking integrity of snapshot: hash check failed for "{name}"')


def _sum_lines(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        checksum, _, name = line.partition("  ")
        yield name, checksum

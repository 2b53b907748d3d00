"""Snapshot archives: Consul's outer form, verified on reading."""

import gzip
import io
import tarfile

import pytest

from discovery.model.errors import RequestFailed
from discovery.wire import archive

META = archive.ArchiveMeta(
    version=1, id="2-7-1", index=7, term=2, peers=None, configuration={"Servers": []}, configuration_index=1, size=5
)


def rebuilt(changed: str, data: bytes) -> bytes:
    """The archive with one member replaced."""
    packed = archive.pack(META, b"state")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(packed)) as source, tarfile.open(fileobj=buffer, mode="w:gz") as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            content = data if member.name == changed else file.read()
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_what_was_packed_is_unpacked() -> None:
    assert archive.unpack(archive.pack(META, b"state")) == (META, b"state")


def test_nothing_follows_the_two_blocks_that_end_the_archive() -> None:
    raw = gzip.decompress(archive.pack(META, b"state"))
    headers_and_data = sum(512 + (len(content) + 511) // 512 * 512 for content in members(raw))
    assert len(raw) == headers_and_data + 1024
    assert raw[-1024:] == bytes(1024)


def members(raw: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        files = [opened.extractfile(member) for member in opened]
        return [file.read() for file in files if file is not None]


@pytest.mark.parametrize("name", ["meta.json", "state.bin"])
def test_an_altered_member_is_refused(name: str) -> None:
    with pytest.raises(RequestFailed, match=f'hash check failed for "{name}"'):
        archive.unpack(rebuilt(name, b"{}"))


def test_missing_sums_are_refused() -> None:
    with pytest.raises(RequestFailed, match="integrity"):
        archive.unpack(rebuilt("SHA256SUMS", b""))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\x1f\x8b" + b"x" * 100])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(RequestFailed, match="snapshot"):
        archive.unpack(data)


def test_a_cut_archive_is_refused() -> None:
    packed = archive.pack(META, b"state" * 1000)
    with pytest.raises(RequestFailed):
        archive.unpack(packed[: len(packed) // 2])

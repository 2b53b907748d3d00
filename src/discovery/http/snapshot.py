"""`/v1/snapshot`: the whole state as one archive."""

from typing import Final

from .call import DONE, Call
from .encoding import Reply
from .freshness import meta_headers
from .operation import describes

_TYPE: Final = b"Content-Type: application/x-gzip\r\n"
_MAX_ARCHIVE: Final = 1024**3
"""Bytes of an archive that is read before it is verified."""


@describes("Reads the whole state as an archive.", params=("dc", "token", "stale"), reply="application/x-gzip")
async def save(call: Call) -> Reply:
    archive, meta = await call.api.delegate.save_snapshot(
        datacenter=call.datacenter, token=call.token, stale="stale" in call.params
    )
    return Reply(200, archive, _TYPE, meta_headers(meta), compressible=False)


@describes("Replaces the whole state by that of an archive.", params=("dc", "token"), body=bytes)
async def restore(call: Call) -> Reply:
    archive = await call.body(_MAX_ARCHIVE)
    await call.api.delegate.restore_snapshot(archive, datacenter=call.datacenter, token=call.token)
    return DONE

"""Lists so long that others get their turn while they are made: Raft with its deadlines shares the event loop."""

import asyncio
from operator import attrgetter
from typing import Final

from discovery.model.query import Read
from discovery.model.records import DirEntry
from discovery.state.ordered import View

_PIECE: Final = 2048
"""Entries taken in one go."""
_modify_index: Final = attrgetter("modify_index")


async def list_keys(seen: Read[View[DirEntry]]) -> Read[list[DirEntry]]:
    """What `StateStore.kv_list` would have said when `StateStore.kv_view` was asked."""
    index, entries = seen.index, []
    for piece in seen.value.pieces(_PIECE):
        entries += piece
        index = max(index, max(map(_modify_index, piece)))
        await asyncio.sleep(0)
    return Read(index, entries, seen.topics)

"""A keeper of one snapshot archive, for tests."""

import gzip
import random
from typing import Any

from discovery.model.errors import NoLeader
from discovery.model.requests import QueryMeta

ARCHIVE = gzip.compress(random.Random(1).randbytes(3 << 20))


class Keeper:
    """A delegate that keeps one archive."""

    def __init__(self) -> None:
        self.archive = ARCHIVE
        self.asked: list[dict[str, Any]] = []

    async def call(self, method: str, request: object) -> Any:
        raise NotImplementedError

    async def ask(self, method: str, request: object) -> Any:
        raise NotImplementedError

    def leads(self) -> bool:
        return True

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        self.asked.append({"datacenter": datacenter, "token": token, "stale": stale})
        if not self.archive:
            raise NoLeader
        return self.archive, QueryMeta(index=35, known_leader=True)

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        self.asked.append({"datacenter": datacenter, "token": token})
        self.archive = archive

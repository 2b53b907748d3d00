"""`retry_join`: until it works, or until it has failed too often."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from discovery.daemon.joining import GaveUp, retry_join
from discovery.model.errors import RequestFailed

LOG = logging.getLogger("test")


class Pool:
    """Fails `failures` times, then has one member."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked: list[Sequence[str]] = []

    async def join(self, addresses: Sequence[str]) -> int:
        self.asked.append(addresses)
        if len(self.asked) <= self.failures:
            raise RequestFailed("nobody there")
        return 1


async def join(pool: Pool, limit: int = 0) -> None:
    await retry_join(pool.join, ["a", "b"], cluster="LAN", interval=0.0, limit=limit, jitter=lambda: 1.0, log=LOG)


async def test_it_tries_until_someone_answers() -> None:
    pool = Pool(3)
    await asyncio.wait_for(join(pool), 10)
    assert pool.asked == [["a", "b"]] * 4


async def test_it_gives_up_after_the_limit_and_says_why() -> None:
    pool = Pool(100)
    with pytest.raises(GaveUp, match="max join retry exhausted after 3 attempts, exiting: nobody there"):
        await asyncio.wait_for(join(pool, limit=3), 10)
    assert len(pool.asked) == 3

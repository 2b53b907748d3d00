"""Fixtures of the tests of this room."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from .pools import Pools


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    async with AsyncExitStack() as stack:
        yield Pools(stack)

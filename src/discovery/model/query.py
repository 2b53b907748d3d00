"""What a read of the state store hands back."""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

Topic = tuple[str, ...]
"""What a watch can wait for: a table, or a thing in it, e.g. `("kv", key)`, `("kv-prefix", prefix)`, `("service", name)`."""


class Read(msgspec.Struct, Generic[T], frozen=True):
    """`index` is the state index that the answer is as of (Consul's X-Consul-Index); `topics` are what would change it."""

    index: int
    value: T
    topics: tuple[Topic, ...]

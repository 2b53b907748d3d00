"""The table of RPC methods."""

from typing import Any

import msgspec
import pytest

from discovery.model.methods import METHODS
from discovery.model.requests import QueryMeta, QueryOptions, Request


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_and_answer_what_the_wire_can_carry(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    request = method.request_type()
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(request, enc_hook=int), type=method.request_type, dec_hook=typed) == request
    )
    if isinstance(method.reply_type, type) and issubclass(method.reply_type, msgspec.Struct):
        reply = method.reply_type()
        assert (
            msgspec.msgpack.decode(msgspec.msgpack.encode(reply, enc_hook=int), type=method.reply_type, dec_hook=typed) == reply
        )


def typed(kind: Any, value: Any) -> Any:
    return kind(value)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.write])
def test_writes_name_their_datacenter_and_token(name: str) -> None:
    assert issubclass(METHODS[name].request_type, Request)


READS = [
    name
    for name, method in METHODS.items()
    if issubclass(method.request_type, QueryOptions) and not name.startswith(("Operator.", "Status.", "Catalog.ListDatacenters"))
]


@pytest.mark.parametrize("name", READS)
def test_what_may_block_tells_its_index(name: str) -> None:
    assert issubclass(METHODS[name].reply_type, QueryMeta)

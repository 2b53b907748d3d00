"""The log's blocks: what is written is read, by itself or joined from commands that were encoded before."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from tests.state.commands import commands

blocks = st.lists(commands, max_size=20)


@given(blocks)
def test_a_block_is_read_as_it_was_written(block: list[c.Command]) -> None:
    assert c.decode_block(c.encode_block(block)) == block


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65_535, 65_536])
def test_a_block_may_be_joined_from_encoded_commands(count: int) -> None:
    command = c.KV("set", "k", b"v", flags=2**64 - 1)
    assert c.join_block([c.encode_command(command)] * count) == c.encode_block([command] * count)


@given(blocks)
def test_any_block_may_be_joined(block: list[c.Command]) -> None:
    assert c.join_block([c.encode_command(command) for command in block]) == c.encode_block(block)


def test_free_values_and_durations_come_back_as_what_they_were() -> None:
    config = {"text": "x", "list": [1, 2.5, None, True], "map": {"deep": {}}}
    proxy = m.NodeService(id="p", service="p", proxy=m.Proxy(config=config), connect=m.Connect(sidecar_service=config))
    check = m.HealthCheck(check_id="c", definition=m.CheckDefinition(interval=m.Duration(5)))
    block: list[c.Command] = [
        c.Register(r.RegisterRequest(node="n", service=proxy, checks=[check])),
        c.ConfigEntryChange(r.ConfigEntryRequest(op="upsert", kind="mesh", name="mesh", entry=config)),
        c.AutopilotChange(m.AutopilotConfig(last_contact_threshold=m.Duration(7))),
        c.RestoreChunk("id", b"\x00\xff", last=True),
    ]
    read = c.decode_block(c.encode_block(block))
    assert read == block
    assert isinstance(read[2], c.AutopilotChange)
    assert type(read[2].config.last_contact_threshold) is m.Duration


def test_every_command_has_a_tag_of_its_own_that_stays() -> None:
    tags = {kind.__name__: kind.__struct_config__.tag for kind in get_args(c.Command)}
    assert tags == {
        "KV": 1, "Register": 2, "Deregister": 3, "SessionChange": 4, "Txn": 5, "PreparedQueryChange": 6, "ConfigEntryChange": 7,
        "IntentionChange": 8, "CoordinateBatch": 9, "AutopilotChange": 10, "ReapTombstones": 11, "RestoreChunk": 12,
        "RegisterMany": 13,
    }  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x91\x63", b"\x91\x92\x01\x05", b"\x90\x90", b"\x80"])
def test_what_is_no_block_is_an_error(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        c.decode_block(data)

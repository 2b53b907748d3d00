"""The Go dialect, against captured bytes and field by field."""

import enum
from typing import Annotated, Any, Literal

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model.duration import Duration
from discovery.model.methods import METHODS
from discovery.model.records import DirEntry
from discovery.model.requests import IndexedDirEntries
from discovery.wire import go_msgpack
from tests.state import commands
from tests.wire import vectors as v

CAPTURED = {
    "R1 body": (v.R1_BODY, v.NodeQuery(datacenter="dcx", node="c1", allow_stale=True, max_stale_duration=2 * 10**9)),
    "R1 reply": (
        v.R1_REPLY,
        v.NodeServiceListReply(
            index=16,
            known_leader=True,
            node_services=v.NodeServiceList(
                node=v.Node(id=v.NODE_ID, node="c1", address="127.0.0.72", datacenter="dcx", create_index=16, modify_index=16)
            ),
        ),
    ),
    "R2 body": (
        v.R2_BODY,
        v.RegisterRequest(
            datacenter="dcx",
            id=v.NODE_ID,
            node="c1",
            address="127.0.0.72",
            tagged_addresses=dict.fromkeys(("lan", "lan_ipv4", "wan", "wan_ipv4"), "127.0.0.72"),
            node_meta={"zone": "z1", "consul-network-segment": ""},
        ),
    ),
    "R3 body": (
        v.R3_BODY,
        v.KVSRequest(datacenter="dcx", token=v.TOKEN, op="set", dir_ent=v.DirEntry(key="a/b", value=b"hello", flags=42)),
    ),
    "R4 body": (v.R4_BODY, v.KeyRequest(datacenter="dcx", token=v.TOKEN, key="a/b")),
    "R4 reply": (
        v.R4_REPLY,
        v.KeyReply(
            index=20,
            known_leader=True,
            entries=[v.DirEntry(key="a/b", value=b"hello", flags=42, create_index=20, modify_index=20)],
        ),
    ),
    "R5 body": (
        v.R5_BODY,
        v.ServiceQuery(
            datacenter="dcx",
            token=v.TOKEN,
            service_name="web",
            source=v.Source(datacenter="dcx", ip="127.0.0.1"),
        ),
    ),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_messages_decode(name: str) -> None:
    data, expected = CAPTURED[name]
    assert go_msgpack.decode(data, type(expected)) == expected


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_messages_encode_to_the_same_content(name: str) -> None:
    """The family of long text and of bytes differs, and the order of a Go map: Go's decoder minds neither."""
    data, value = CAPTURED[name]
    assert go_msgpack.unpack(go_msgpack.encode(value)) == go_msgpack.unpack(data)


def test_short_text_encodes_to_the_same_bytes() -> None:
    data, value = CAPTURED["R1 body"]
    assert go_msgpack.encode(value) == data


@pytest.mark.parametrize(
    ("value", "form", "data"),
    [
        (True, bool, b"\xc3"),
        ("10.0.0.1:8300", str, b"\xad10.0.0.1:8300"),
        (["a", "b"], list[str], b"\x92\xa1a\xa1b"),
        (2**64 - 1, int, b"\xcf" + b"\xff" * 8),
        (-1, int, b"\xff"),
        (0.5, float, b"\xcb\x3f\xe0" + bytes(6)),
    ],
)
def test_bare_bodies(value: object, form: type, data: bytes) -> None:
    assert go_msgpack.encode(value) == data
    assert go_msgpack.decode(data, form) == value


def test_positive_signed_integers_of_newer_encoders_are_read() -> None:
    assert go_msgpack.decode(b"\xd1\x01\x00", int) == 256


class Inner(msgspec.Struct):
    count: int


class Colour(enum.Enum):
    NONE = ""
    RED = "red"


class Everything(msgspec.Struct, rename="pascal", kw_only=True):
    number: int
    size: Annotated[int, msgspec.Meta(ge=0)]
    ratio: float
    on: bool
    text: Annotated[str, msgspec.Meta(max_length=3)]
    blob: bytes
    items: list[str]
    parts: tuple[str, ...]
    names: frozenset[str]
    table: dict[str, Inner]
    inner: Inner
    maybe: Inner | None
    children: list["Everything"] | None
    wait: Duration
    colour: Colour
    word: Literal["", "yes"]
    anything: Any


ZERO = Everything(
    number=0,
    size=0,
    ratio=0.0,
    on=False,
    text="",
    blob=b"",
    items=[],
    parts=(),
    names=frozenset(),
    table={},
    inner=Inner(0),
    maybe=None,
    children=None,
    wait=Duration(0),
    colour=Colour.NONE,
    word="",
    anything=None,
)

FIELD_NAMES = msgspec.structs.fields(Everything)


@pytest.mark.parametrize("data", [b"\xc0", b"\x80", msgpack.packb({field.encode_name: None for field in FIELD_NAMES})])
def test_missing_and_nil_fields_are_zero(data: bytes) -> None:
    assert go_msgpack.decode(data, Everything) == ZERO


def test_every_kind_of_field_survives() -> None:
    value = msgspec.structs.replace(
        ZERO,
        number=-5,
        size=7,
        ratio=2.5,
        text="größe",
        blob=bytes(range(256)),
        items=["a"],
        parts=("b", "c"),
        names=frozenset({"n"}),
        table={"k": Inner(3)},
        maybe=Inner(4),
        children=[ZERO],
        wait=Duration(10**9),
        colour=Colour.RED,
        word="yes",
        anything={"a": [1, "x", None, {"b": True}]},
    )
    assert go_msgpack.decode(go_msgpack.encode(value), Everything) == value


def test_nil_inside_collections_is_zero() -> None:
    data = msgpack.packb({"Items": [None, "a"], "Table": {"k": None}})
    decoded = go_msgpack.decode(data, Everything)
    assert decoded.items == ["", "a"]
    assert decoded.table == {"k": Inner(0)}


def test_unknown_and_wrongly_cased_fields_are_ignored() -> None:
    assert go_msgpack.decode(msgpack.packb({"number": 1, "Other": {"x": [1]}, 5: 6}), Everything) == ZERO


def test_struct_defaults_stand_for_missing_fields() -> None:
    class Weights(msgspec.Struct):
        passing: int = 1
        other: Inner | None = msgspec.field(default_factory=lambda: Inner(2))

    assert go_msgpack.decode(b"\x80", Weights) == Weights(1, Inner(2))
    assert go_msgpack.decode(msgpack.packb({"passing": None, "other": None}), Weights) == Weights(1, None)


@pytest.mark.parametrize("family", [b"\xa2\xffx", b"\xd9\x02\xffx", b"\xda\x00\x02\xffx", b"\xc4\x02\xffx"])
def test_byte_slices_are_read_from_raw_and_bin(family: bytes) -> None:
    assert go_msgpack.decode(b"\x81\xa4Blob" + family, Everything).blob == b"\xffx"


def test_text_that_is_not_unicode_is_read_as_json_would_show_it() -> None:
    assert go_msgpack.decode(b"\x81\xa4Text\xa2\xffx", Everything).text == "\N{REPLACEMENT CHARACTER}x"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"Number": "x"}, "Everything.Number: expected integer, got bytes"),
        ({"Number": True}, "Everything.Number: expected integer, got bool"),
        ({"Size": -1}, "Everything.Size: expected unsigned integer, got -1"),
        ({"Text": 5}, "Everything.Text: expected string, got int"),
        ({"Blob": 5}, "Everything.Blob: expected bytes, got int"),
        ({"On": 1}, "Everything.On: expected bool, got int"),
        ({"Ratio": "x"}, "Everything.Ratio: expected float, got bytes"),
        ({"Items": {}}, "Everything.Items: expected list, got dict"),
        ({"Items": "abc"}, "Everything.Items: expected list, got bytes"),
        ({"Table": []}, "Everything.Table: expected map, got list"),
        ({"Inner": []}, "Everything.Inner: expected Inner, got list"),
        ({"Inner": {"count": "x"}}, "Everything.Inner: Inner.count: expected integer, got bytes"),
        ({"Wait": "1s"}, "Everything.Wait: expected integer, got bytes"),
        ({"Colour": "blue"}, "Everything.Colour: expected one of"),
        ({"Colour": []}, "Everything.Colour: expected one of"),
    ],
)
def test_values_of_the_wrong_type_are_refused_by_field(fields: dict[str, object], text: str) -> None:
    with pytest.raises(go_msgpack.DecodeError) as caught:
        go_msgpack.decode(msgpack.packb(fields), Everything)
    assert str(caught.value).startswith(text)


def test_an_integer_is_accepted_for_a_float() -> None:
    assert go_msgpack.decode(msgpack.packb({"Ratio": 3}), Everything).ratio == 3.0


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x82\xa1a", b"\x80\x80", b"\x81\x90\x01", b"\x91" * 100_000])
def test_damaged_objects_are_refused(data: bytes) -> None:
    with pytest.raises(go_msgpack.DecodeError):
        go_msgpack.decode(data, Everything)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        value = go_msgpack.decode(data, Everything)
    except go_msgpack.DecodeError:
        return
    assert isinstance(value, Everything)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_model_has_a_wire_form(name: str) -> None:
    method = METHODS[name]
    for form in (method.request_type, method.reply_type):
        zero = go_msgpack.decoder(form)(b"\xc0")
        assert go_msgpack.decoder(form)(go_msgpack.encode(zero)) == zero


# --- the short way and the long one -----------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """What was unpacked, with some parts nil, missing, unknown, of another type or no text."""
    if isinstance(value, dict):
        kept = {key: draw(damaged(item)) for key, item in value.items() if draw(st.integers(0, 30))}
        return {**kept, **draw(st.sampled_from([{}, {}, {}, {b"Unknown": [1, None]}]))}
    if isinstance(value, list):
        return [draw(damaged(item)) for item in value]
    if draw(st.integers(0, 20)):
        return value
    return draw(st.sampled_from([None, 1, 0, b"", b"\xff\xfe", [], {}, True, 1.0, 2**63]))


def outcome(read: Any, data: bytes) -> Any:
    try:
        return read(data)
    except go_msgpack.DecodeError as error:
        return str(error)


@given(st.data(), st.sampled_from([commands.registrations, commands.services, commands.checks, commands.documents]))
def test_both_ways_read_the_same(data: st.DataObject, values: st.SearchStrategy[Any]) -> None:
    value = data.draw(values)
    encoded = go_msgpack.encode(value)
    assert go_msgpack.decode(encoded, type(value)) == value
    form = data.draw(st.sampled_from([type(value), list[type(value)]]))  # type: ignore[misc]
    unpacked = data.draw(damaged(go_msgpack.unpack(encoded)))
    packed = msgpack.packb(unpacked if form is type(value) else [unpacked, None], use_bin_type=False)
    packed = packed[: data.draw(st.sampled_from([None, -1]))] + data.draw(st.sampled_from([b"", b"", b"\x01"]))
    assert outcome(go_msgpack.decoder(form), packed) == outcome(go_msgpack.planned_decoder(form), packed)


@pytest.mark.parametrize("count", [0, 15, 2048, 2049, 2 * 2048 + 15, 2 * 2048 + 16, 65_535, 65_536])
def test_a_reply_in_parts_is_the_same_reply(count: int) -> None:
    entries = [DirEntry(key=f"key {number}", value=b"v") for number in range(count)]
    reply = IndexedDirEntries(index=7, consistency_level="leader", entries=entries)
    parts = list(go_msgpack.encode_in_parts(reply))
    assert b"".join(parts) == go_msgpack.encode(reply)
    assert (len(parts) > 1) is (count > 2048)


@pytest.mark.parametrize("value", [None, True, "text", [1] * 5000, {"a": [1] * 5000}])
def test_what_is_no_struct_comes_in_one_part(value: object) -> None:
    assert list(go_msgpack.encode_in_parts(value)) == [go_msgpack.encode(value)]


def test_a_reply_that_holds_the_mark_itself_comes_in_one_part() -> None:
    reply = IndexedDirEntries(consistency_level="\x00a long list belongs here\x00", entries=[DirEntry()] * 5000)
    assert list(go_msgpack.encode_in_parts(reply)) == [go_msgpack.encode(reply)]

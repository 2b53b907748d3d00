"""What holds for every request, however it is spelled and in whatever pieces it arrives."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.http.decoding import DecodeError, Decoder
from discovery.http.encoding import to_json
from discovery.http.options import HttpOptions
from discovery.http.params import Params
from discovery.model.config_entries import KINDS
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.records import DirEntry, Intention, PreparedQuery
from discovery.model.requests import CoordinateUpdateRequest, IndexedDirEntries, KVSRequest, RegisterRequest
from tests.http.conftest import Response, World, encode
from tests.http.fakes import META, FakeAnswer, FakeDelegate, FakeWatch

# --- requests in pieces --------------------------------------------------------------------------------------------


class Pairs(FakeDelegate):
    """A key-value store that counts its writes; whoever read before a write has a watch that fires. Writes take `turns` of the
    loop."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns
        self.pairs: dict[str, bytes] = {}
        self.writes = 0

    async def call(self, method: str, request: Any) -> Any:
        if method == "KVS.Get":
            value = self.pairs.get(request.key)
            entries = None if value is None else [DirEntry(key=request.key, value=value)]
            return IndexedDirEntries(entries=entries, **META | {"index": 1 + self.writes})
        assert isinstance(request, KVSRequest)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if request.op == "set":
            self.pairs[request.dir_ent.key] = request.dir_ent.value or b""
        else:
            self.pairs.pop(request.dir_ent.key, None)
        self.writes += 1
        self.watch.fired = True
        self.watch = FakeWatch()
        return True

    async def ask(self, method: str, request: Any) -> FakeAnswer:
        watch = self.watch
        return FakeAnswer(await self.call(method, request), watch)


class Sent(msgspec.Struct, frozen=True):
    """A request as sent, and what it must be answered: status, body, index."""

    data: bytes
    status: int
    body: bytes
    index: str | None = None


KEYS: Final = st.sampled_from(["a", "ü b"])
VALUES: Final = st.binary(max_size=40)
OPERATIONS: Final = st.lists(
    st.tuples(st.just("GET"), KEYS, st.sampled_from(["raw", "raw&consistent"]), st.just(b""))
    | st.tuples(st.just("PUT"), KEYS, st.sampled_from(["", "flags=1", "chunked"]), VALUES)
    | st.tuples(st.just("DELETE"), KEYS, st.just(""), st.just(b"")),
    max_size=12,
)


def chunked(target: str, body: bytes) -> bytes:
    head = f"PUT {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def written(operations: list[tuple[str, str, str, bytes]]) -> list[Sent]:
    """The requests, with the answers that a naive model of the store gives."""
    pairs: dict[str, bytes] = {}
    writes = 0
    found = []
    for method, key, how, body in operations:
        target = f"/v1/kv/{quote(key)}"
        if method == "GET":
            value = pairs.get(key)
            data = encode("GET", f"{target}?{how}")
            found.append(Sent(data, 404 if value is None else 200, value or b"", str(1 + writes)))
            continue
        writes += 1
        if method == "DELETE":
            pairs.pop(key, None)
            found.append(Sent(encode("DELETE", target), 200, b"true"))
            continue
        pairs[key] = body
        plain = f"{target}?{how}" if how == "flags=1" else target
        found.append(Sent(chunked(target, body) if how == "chunked" else encode("PUT", plain, body), 200, b"true"))
    return found


def pieces(requests: list[Sent], cuts: list[float]) -> list[bytes]:
    """What is sent in one go: all that lies between two cuts; without cuts, request by request."""
    if not cuts:
        return [request.data for request in requests]
    data = b"".join(request.data for request in requests)
    places = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@settings(deadline=None, max_examples=300)
@given(OPERATIONS, st.just([]) | st.lists(st.floats(0, 1), max_size=6), st.booleans(), st.integers(0, 10))
def test_pieces_make_no_difference(
    operations: list[tuple[str, str, str, bytes]], cuts: list[float], wait: bool, turns: int
) -> None:
    requests = written(operations)

    async def scenario() -> list[Response]:
        world = World(HttpOptions(), Pairs(turns))
        await world.start()
        client = await world.connect()
        answers = []
        async with asyncio.timeout(20):
            for piece in pieces(requests, cuts):
                client.send(piece)
                if wait and not cuts:
                    answers.append(await client.receive())
                else:
                    await asyncio.sleep(0)
            answers += [await client.receive() for _ in requests[len(answers) :]]
        await world.stop()
        return answers

    answers = uvloop.run(scenario())
    assert [(a.status, a.body, a.headers.get("X-Consul-Index")) for a in answers] == [
        (r.status, r.body, r.index) for r in requests
    ]


# --- spelling ------------------------------------------------------------------------------------------------------

CHARACTERS: Final = st.characters(exclude_categories=("Cs",))
SEGMENT: Final = st.text(CHARACTERS, min_size=1, max_size=12).filter(
    lambda text: text.isprintable() and text not in (".", "..") and "/" not in text
)


@given(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), st.booleans())
def test_any_key_arrives_as_it_was_meant(key: str, quote_slashes: bool) -> None:
    async def scenario() -> str:
        world = World(HttpOptions())
        await world.start()
        response = await world.put(f"/v1/kv/{quote(key, safe='' if quote_slashes else '/')}", b"x")
        assert response.status == 200
        await world.stop()
        return world.delegate.last.dir_ent.key  # type: ignore[no-any-return]

    assert uvloop.run(scenario()) == key


@given(st.lists(st.tuples(st.text(CHARACTERS, min_size=1), st.text(CHARACTERS))))
def test_parameters_are_what_was_encoded(pairs: list[tuple[str, str]]) -> None:
    params = Params(urlencode(pairs))
    for name, value in pairs:
        assert name in params
        assert value in params.all(name)
    assert sum(len(params.all(name)) for name in {name for name, _ in pairs}) == len(pairs)


# --- bodies --------------------------------------------------------------------------------------------------------

NAMES: Final = [
    "Name",
    "name",
    "Kind",
    "Tags",
    "Meta",
    "Checks",
    "Check",
    "Interval",
    "Port",
    "Config",
    "Proxy",
    "Service",
    "Node",
]
TEXTS: Final = st.sampled_from([*NAMES, "", "10s", "-1", "é", "\ud800", "AA=="]) | st.text(max_size=5)
NUMBERS: Final = st.sampled_from(["0", "-1", "1.5", "1e999", "9" * 30, str(2**63), str(2**64 - 1), "-1e-999"])
DOCUMENTS: Final = st.recursive(
    st.sampled_from(["null", "true", "false"]) | NUMBERS | TEXTS.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(TEXTS, inner), max_size=4).map(
            lambda items: "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in items) + "}"
        )
    ),
    max_leaves=12,
)
DECODERS: Final = [
    Decoder(kind) for kind in (ServiceSpec, CheckSpec, RegisterRequest, PreparedQuery, Intention, CoordinateUpdateRequest)
]
DECODERS += [Decoder(kind) for kind in KINDS.values()]


@pytest.mark.parametrize("decoder", DECODERS)
@given(st.lists(st.tuples(st.sampled_from(NAMES), DOCUMENTS), max_size=4))
def test_what_is_decoded_can_be_stored_and_written_again(decoder: Decoder[Any], fields: list[tuple[str, str]]) -> None:
    body = "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"
    with suppress(DecodeError):
        value = decoder.decode(body.encode())
        json.loads(to_json(value), parse_constant=pytest.fail)
        msgspec.msgpack.encode(value, enc_hook=lambda other: dict(other) if isinstance(other, Mapping) else int(other))


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    with suppress(DecodeError):
        DECODERS[0].decode(body)

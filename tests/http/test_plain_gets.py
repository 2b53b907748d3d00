"""GETs taken apart from their bytes: what is the same question, what waits for which index, and what is left to HTTP's parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.http.params import Params, blocking_options
from discovery.http.plain_gets import PlainGet, at_once, read_get
from tests.http.conftest import encode


def get(target: str, **headers: str) -> PlainGet | None:
    return read_get(encode("GET", target, b"", headers))


@pytest.mark.parametrize(
    ("target", "question", "index", "wait"),
    [
        ("/v1/kv/a", b"/v1/kv/a ", 0, 0),
        ("/v1/kv/a?", b"/v1/kv/a ", 0, 0),
        ("/v1/kv/a?recurse&", b"/v1/kv/a?recurse ", 0, 0),
        ("/v1/kv/a?index=5", b"/v1/kv/a ", 5, 0),
        ("/v1/kv/a?index=", b"/v1/kv/a ", 0, 0),
        ("/v1/kv/a?index", b"/v1/kv/a ", 0, 0),
        ("/v1/kv/a?wait=10s", b"/v1/kv/a ", 0, 10 * 10**9),
        ("/v1/kv/a?recurse&index=5&wait=1m&stale=", b"/v1/kv/a?recurse&stale= ", 5, 60 * 10**9),
        ("/v1/kv/a?index=18446744073709551615", None, 0, 0),
        ("/v1/kv/%61?filter=a%20b", b"/v1/kv/%61?filter=a%20b ", 0, 0),
    ],
)
def test_what_waits_is_told_from_the_question(target: str, question: bytes | None, index: int, wait: int) -> None:
    assert get(target) == (None if question is None else PlainGet(question, index, wait))


@pytest.mark.parametrize(
    "query",
    ["index=-1", "index=x", "index=1&index=2", "wait=5", "wait=5%73", "index=%35", "%69ndex=5", "wait=1s&w%61it=2s", "wait=\xe4"],
)
def test_what_might_mean_something_else_goes_the_long_way(query: str) -> None:
    assert get(f"/v1/kv/a?{query}") is None


def test_headers_that_do_not_matter_make_no_other_question() -> None:
    assert get("/v1/kv/a", User_Agent="x", Accept="*/*", Connection="keep-alive") == get("/v1/kv/a")
    assert (
        get("/v1/kv/a", Accept_Encoding="gzip") == get("/v1/kv/a", Accept_Encoding="gzip, deflate") == PlainGet(b"/v1/kv/a gzip")
    )


def test_headers_that_might_matter_make_another_question() -> None:
    questions = {
        get("/v1/kv/a?index=1", **headers)
        for headers in (
            {},
            {"X_Consul_Token": "t"},
            {"X_Consul_Token": "u"},
            {"Accept_Encoding": "gzip"},
            {"Accept_Encoding": "gzip;q=0"},
            {"Cache_Control": "max-age=0"},
        )
    }
    assert len(questions) == 6
    assert None not in questions


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Length": "5"},
        {"content-length": "x"},
        {"Transfer_Encoding": "chunked"},
        {"Expect": "100-continue"},
        {"Upgrade": "h2c"},
        {"Connection": "close"},
    ],
)
def test_after_some_headers_more_may_come(headers: dict[str, str]) -> None:
    assert get("/v1/kv/a", **headers) is None


def test_what_is_not_exactly_one_request_goes_the_long_way() -> None:
    whole = encode("GET", "/v1/kv/a")
    assert read_get(whole[:-1]) is None
    assert read_get(whole + b"x") is None
    assert read_get(whole + whole) is None
    assert read_get(whole.replace(b"HTTP/1.1", b"HTTP/1.0")) is None
    assert read_get(encode("PUT", "/v1/kv/a")) is None


_NAMES = st.sampled_from(["index", "wait", "stale", "recurse", "%69ndex", "Index", "wai+t", "", "x"])
_VALUES = st.one_of(st.integers(0, 2**70).map(str), st.sampled_from(["", "10s", "5m", "-1s", "1", "%35", "+5", "5&", "1h2m"]))


@given(st.lists(st.one_of(_NAMES, st.builds("{}={}".format, _NAMES, _VALUES)), max_size=5))
def test_it_reads_what_the_long_way_reads(parts: list[str]) -> None:
    query = "&".join(parts)
    asked = get(f"/v1/kv/a?{query}")
    if asked is None:
        return
    options = blocking_options(Params(query))
    assert (asked.index, asked.wait) == (options.get("min_query_index", 0), options.get("max_query_time", 0))
    without = at_once(encode("GET", f"/v1/kv/a?{query}"))
    assert read_get(without) == PlainGet(asked.question)
    rest = without.split(b" ")[1].partition(b"?")[2].decode()
    assert blocking_options(Params(rest)) == {}
    kept = {name for name in Params(query)._values if name not in ("index", "wait")}
    assert set(Params(rest)._values) == kept


@given(st.binary(max_size=200))
def test_no_bytes_trouble_it(data: bytes) -> None:
    read_get(data)
    for start in (b"GET /v1/kv/a HTTP/1.1\r\n", b"GET /v1/kv/a?"):
        read_get(start + data + b" HTTP/1.1\r\n\r\n")
        read_get(start + data + b"\r\n\r\n")

"""Base64 from outside is taken or refused at the byte where Go's decoder refuses it."""

import base64
import re
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model.base64_text import NotBase64, decode


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A%AA", 1),
        ("AAA", 0),
        ("AAAAA", 4),
        ("AA==AA", 4),
        ("AA=A", 2),
        ("AA=", 3),
        ("AAAAA=AA", 5),
        ("AAAA====", 4),
        ("AAAAAA===", 8),
        ("AAAAAAAA=", 8),
        ("AAA=A", 4),
        ("=", 0),
        ("é", 0),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(text: str, place: int) -> None:
    with pytest.raises(NotBase64, match=f"^illegal base64 data at input byte {place}$"):
        decode(text)


@given(st.binary(), st.integers(0, 40), st.sampled_from(["\n", "\r\n"]))
def test_what_was_encoded_is_read_wherever_lines_end(data: bytes, place: int, end: str) -> None:
    text = base64.b64encode(data).decode()
    assert decode(text[:place] + end + text[place:]) == data


@given(st.text(alphabet="AB=\n%é", max_size=12))
def test_any_text_is_read_or_refused_within_itself(text: str) -> None:
    well_formed = re.fullmatch("(?:[AB]{4})*(?:[AB]{2}==|[AB]{3}=)?", text.replace("\n", ""))
    with nullcontext() if well_formed else pytest.raises(NotBase64) as refused:
        decode(text)
    assert refused is None or 0 <= int(str(refused.value).rpartition(" ")[2]) <= len(text)

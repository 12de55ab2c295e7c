"""Look-ups in a page's body."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import members
from tap_rest.page import Page
from tap_rest.request import Request


def page(body: bytes) -> Page:
    return Page(Request("http://x.test"), 200, {}, body)


BODY = b"""{"meta": {"next": "abc", "n": 1.10, "z": null, "o": {"a": [{"code": 7}, 2]}},
           "total": 12345678901234567890123, "0": {"b": [1]}, "flag": false}"""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("meta.next", "abc"),
        ("meta.z", None),
        ("meta.o.a.0.code", 7),
        ("meta.o.a.5", None),
        ("0.b.0", 1),
        ("total", 12345678901234567890123),
        ("flag", False),
        ("nope.a", None),
        ("meta.next.deeper", None),
        ("meta.o.a.0", {"code": 7}),
    ],
)
@pytest.mark.parametrize("odd", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_a_value_is_found_by_its_path(path: str, value: Any, odd: bytes) -> None:
    assert page(odd + BODY).at(path) == value


@pytest.mark.case("C9")
@pytest.mark.parametrize("odd", [b'"\\ud800"', b"NaN", b"[" * 3000 + b"]" * 3000], ids=["surrogate", "NaN", "deep"])
def test_a_body_that_msgspec_refuses_still_has_its_values(odd: bytes) -> None:
    """A next token that is not found would look like the end."""
    body = b'{"data": [%s], "meta": {"next": "abc"}}' % odd
    assert page(body).at("meta.next") == "abc"


def test_an_ordinary_page_is_one_batch_and_all_of_its_body() -> None:
    found = msgspec.structs.replace(page(BODY), records=[b"{}"])
    assert list(found.batches()) == [[b"{}"]]
    assert list(page(BODY).batches()) == [()]
    assert found.whole() == BODY
    assert found.contains(b"meta")
    assert not found.contains(b"{}")


def test_tokens_keep_the_digits_they_came_with() -> None:
    assert page(BODY).text_at("meta.n") == "1.10"
    assert page(BODY).text_at("total") == "12345678901234567890123"
    assert page(BODY).text_at("meta.z") is None


@pytest.mark.parametrize("body", [b'{"next": {"href": "/x"}}', b'{"next": [1]}', b'{"next": "\\ud800"}'])
def test_a_token_that_cannot_be_sent_back_is_no_end_but_an_error(body: bytes) -> None:
    with pytest.raises(UnexpectedPage):
        page(body).text_at("next")


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[1", b'{"a":', b"\xff"])
def test_a_body_that_is_not_json_has_no_values(body: bytes) -> None:
    assert page(body).at("a") is None


@pytest.mark.case("C2")
@pytest.mark.parametrize(
    "text",
    [
        b"[1 2]",
        b"[1,,2]",
        b'{"a" 1}',
        b'{"a":1',
        b'{"a":"x',
        b"[1,]",
        b'{"a":1,}',
        b"[[]] x",
        b"",
        b"7",
        b"[}",
        b"{1:2}",
        b'{"a":}',
    ],
)
def test_the_scanner_refuses_what_is_not_whole(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(members(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(), JSON, max_size=5) | st.lists(JSON, max_size=5), st.sampled_from([None, 2]), st.booleans()
)
def test_the_scanner_finds_the_members_that_json_finds(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = [(name, json.loads(item)) for name, item in members(text)]
    assert found == list(value.items() if isinstance(value, dict) else ((str(i), item) for i, item in enumerate(value)))

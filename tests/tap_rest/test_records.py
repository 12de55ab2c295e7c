"""Slicing records out of bodies, byte for byte."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_rest.errors import UnexpectedPage
from tap_rest.records import KeyReader, ObjectMapRecords, PathRecords, Records, RootRecords, include


def sliced(selector: Records, body: bytes) -> list[bytes]:
    return [bytes(record) for record in selector.slices(body)]


DATA = PathRecords(path="data")

TEXTS = [
    b'{"a":1.10,"b":-0.0,"c":1E+5,"d":12345678901234567890123,"e":1e999}',
    b'{"a":"\\u0041\\/\\u0000","a":"twice","\xe2\x80\xa8":"\xe2\x80\xa8"}',
    b'{"a":  1 , "b":[ ]}',
    b'{"a":"\\ud800"}',
    b'{"a":NaN,"b":-Infinity}',
    b'{"a":%s}' % (b"1" * 5000),
    b'{"a":%s}' % (b"[" * 3000 + b"]" * 3000),
    b"{}",
]


@pytest.mark.case("C8")
@pytest.mark.case("C9")
@pytest.mark.parametrize("record", TEXTS, ids=range(len(TEXTS)))
def test_a_record_is_the_bytes_that_came(record: bytes) -> None:
    assert sliced(DATA, b'{"data":[%s, {"x":1}],"next":null}' % record) == [record, b'{"x":1}']
    assert sliced(RootRecords(), b"[%s]" % record) == [record]
    assert sliced(ObjectMapRecords(), b'{"k":%s}' % record) == [record]


NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?\Z")


@pytest.mark.case("C8")
@given(st.lists(NUMBERS, max_size=5), st.text(), st.sampled_from(["", "\n", "\r\n  "]))
def test_a_pretty_printed_record_loses_white_space_between_tokens_and_nothing_else(
    numbers: list[str], text: str, space: str
) -> None:
    word = json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")
    tokens = [b'{"t":', word, b',"n":[', b",".join(number.encode() for number in numbers), b"]}"]
    compact = b"".join(tokens)
    body = b'{"data":[' + space.encode().join(tokens) + b"]}"
    assert sliced(DATA, body) == [compact]


@pytest.mark.case("C7")
def test_a_byte_order_mark_is_not_part_of_a_record() -> None:
    assert sliced(DATA, b'\xef\xbb\xbf{"data":[{"a":1}]}') == [b'{"a":1}']


REFUSED = [
    (b"", "not whole"),
    (b"null", "no data"),
    (b"<html>", "not whole"),
    (b'{"data":[{"a":1}]', "cut short"),
    (b'{"data":[{"a":1}],"next":abc}', "not whole"),
    (b'{"data":[{"a":1}]} {}', "not whole"),
    (b'{"data":[{"a":01}]}', "not whole"),
    (b'{"data":[{"a":"x\ny"}]}', "not whole"),
    (b'{"data":[{"a":"\xff"}]}', "not UTF-8"),
    ('{"data":[]}'.encode("utf-16"), "UTF-16"),
    (b'{"data":null}', "data is null"),
    (b'{"error":{"code":1}}', "its members are error"),
    (b'[{"a":1}]', "is a list"),
    (b'{"data":{"a":1}}', "is an object"),
    (b'{"data":[{"a":1},7]}', "record 1 is a number"),
    (b'{"data":["x"]}', "record 0 is a text"),
    (b'{"data":[null]}', "record 0 is null"),
]


@pytest.mark.case("C1")
@pytest.mark.case("C7")
@pytest.mark.parametrize(("body", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_body_that_is_not_as_declared_is_never_an_empty_page(body: bytes, said: str) -> None:
    with pytest.raises(UnexpectedPage, match=said):
        DATA.slices(body)


@pytest.mark.case("C2")
def test_a_body_cut_anywhere_is_refused() -> None:
    body = b'{"data": [{"a": "x\\ud800"}, {"b": [1, 2.0]}], "next": null}'
    assert len(sliced(DATA, body)) == 2
    for end in range(len(body) - 1):
        with pytest.raises(UnexpectedPage):
            DATA.slices(body[:end])


def test_nothing_at_the_path_is_no_records_only_where_it_is_declared() -> None:
    optional = PathRecords(path="data.items", missing_ok=True)
    assert sliced(optional, b'{"data":{"items":null}}') == sliced(optional, b"{}") == []
    with pytest.raises(UnexpectedPage, match=r"no data\.items: data is an object: its members are rows"):
        PathRecords(path="data.items").slices(b'{"data":{"rows":[]}}')
    with pytest.raises(UnexpectedPage, match="is an object, not a list"):
        optional.slices(b'{"data":{"items":{}}}')


def test_an_object_map_gives_its_names_to_records_that_have_none() -> None:
    body = b'{"m":{"x":{"a":1},"y":{},"z":{"id":3},"\\u00e4":{"q":"\\ud800"}}}'
    records = sliced(ObjectMapRecords(path="m", key_as="id"), body)
    assert records == [b'{"id":"x","a":1}', b'{"id":"y"}', b'{"id":3}', '{"id":"ä","q":"\\ud800"}'.encode()]


def test_members_are_included_where_they_are_absent() -> None:
    extra = {"repository": b'"a/b"', "n": b"1"}
    assert include(b'{"n":null,"x":1}', extra) == b'{"repository":"a/b","n":null,"x":1}'
    assert include(b"{ }", {"n": b"1"}) == b'{"n":1}'
    assert include(b'{"x":NaN,"n":2}', {"n": b"1"}) == b'{"x":NaN,"n":2}'


@pytest.mark.parametrize(
    ("record", "values"),
    [
        (b'{"id":12345678901234567890123,"o":{"p":1.10}}', (12345678901234567890123, Decimal("1.10"))),
        (b'{"id":1e999,"o":{"p":-0.0}}', (Decimal("1E+999"), Decimal("-0.0"))),
        (b'{"id":"x","o":null}', ("x", None)),
        (b'{"o":7}', (None, None)),
        (b'{"id":5,"b":"\\ud800","o":{"p":true}}', (5, True)),
        (b'{"id":5,"b":NaN}', (5, None)),
        (b'{"id":5,"b":%s}' % (b"[" * 3000 + b"]" * 3000), (5, None)),
    ],
    ids=range(7),
)
def test_key_fields_are_read_exactly_from_any_record(record: bytes, values: tuple[Any, ...]) -> None:
    reader = KeyReader(["id", "o.p"])
    assert reader.read([record, b"{}"]) == [values, (None, None)]


def test_a_field_can_be_read_twice_and_no_records_have_no_keys() -> None:
    assert KeyReader(["id", "id"]).read([b'{"id":1}']) == [(1, 1)]
    assert KeyReader(["id"]).read([]) == []
